"""What no operation shows: widths that a forward takes for granted, from tables of module classes."""

from __future__ import annotations

from torch import nn

from tui_pruner.core.adapters import equal_widths
from tui_pruner.core.flow.record import LinkedLabels
from tui_pruner.core.flow.state import Flow
from tui_pruner.core.layers import keeps_own_widths


def link_equal_widths(flow: Flow, model: nn.Module) -> None:
    """Links that no operation shows: widths that a module's forward takes from its input's shape and demands of something else.

    Where one of the layers has no channels that are known, the other keeps those that it has.
    """
    reads = {axis.module: flow.record.source.labels_of(axis) for axis, role in flow.record.roles.items() if role == "in"}
    for path, module in model.named_modules():
        for pair in equal_widths(module):
            vectors = tuple(reads[f"{path}.{layer}"] for layer in pair if f"{path}.{layer}" in reads)
            operation = flow.record.note("same width", path)
            if len(vectors) == len(pair):
                flow.record.links.append(LinkedLabels(operation.index, vectors))
            for vector in vectors if len(vectors) < len(pair) else ():
                flow.record.lock(operation.index, vector, "must stay as wide as another layer, whose channels are not known")


def hold_own_widths(flow: Flow, model: nn.Module) -> None:
    """Lock the parameters of PyTorch's modules that keep widths in attributes which nothing rewrites."""
    for path, module in model.named_modules():
        name = keeps_own_widths(module)
        if name:
            operation = flow.record.note(name, path)
            own = [*module.parameters(recurse=False), *getattr(module, "parametrizations", nn.Module()).parameters()]
            flow.lock_at(operation.index, own, f"PyTorch's {name} keeps its widths in attributes", 0, rank=2)
