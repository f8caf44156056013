"""What no operation shows: widths that a forward takes for granted, from tables of module classes."""

from __future__ import annotations

from torch import nn

from tui_pruner.core.adapters import equal_widths
from tui_pruner.core.flow.record import LinkedLabels
from tui_pruner.core.flow.state import Flow
from tui_pruner.core.layers import keeps_own_widths
from tui_pruner.core.skeleton import named_tensors


def link_equal_widths(flow: Flow, model: nn.Module) -> None:
    """Links that no operation shows: widths that a module's forward takes from its input's shape and demands of something else."""
    own = dict(named_tensors(model))
    for path, module in model.named_modules():
        for pair in equal_widths(module):
            vectors = []
            for name, dim in pair:
                axes = flow.weight(own[f"{path}.{name}"])
                vectors.append(axes.vectors[dim] if axes else None)
            operation = flow.record.note("same width", path)
            flow.record.links.append(LinkedLabels(operation.index, tuple(vector for vector in vectors if vector is not None)))


def hold_own_widths(flow: Flow, model: nn.Module) -> None:
    """Lock the parameters of PyTorch's modules that keep widths in attributes which nothing rewrites."""
    for path, module in model.named_modules():
        name = keeps_own_widths(module)
        if name:
            operation = flow.record.note(name, path)
            own = list(module.parameters(recurse=False))
            flow.lock_at(operation.index, own, f"PyTorch's {name} keeps its widths in attributes", 0, rank=2)
