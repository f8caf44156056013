"""Apply a removal: delete the removed positions from every tensor that has them, in a copy that shares all other tensors.

A removal has for each axis of each parameter and buffer the positions to delete, so one rule serves convolutions of every kind, norms,
raw parameters and weights with several owners. torch-pruning's functions by layer class support neither of the last two.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

import numpy as np
import torch
from torch import Tensor, nn

from tui_pruner.core.model.copies import modules_of, owners_of_tensors, sharing_weights, tensor_at
from tui_pruner.core.model.layers import true_widths
from tui_pruner.core.pruning.classes import kept_classes, rewrite_classes
from tui_pruner.core.pruning.removal import Removal
from tui_pruner.core.tracing.adapters import rewrite_attributes
from tui_pruner.core.tracing.coupling_map import CouplingMap, Indices, ScaledRows
from tui_pruner.core.tracing.inner_blocks import inside
from tui_pruner.core.tracing.labels import Axis
from tui_pruner.core.tracing.width_search import lost, put_widths, widths_left


def cut(model: nn.Module, coupling: CouplingMap, removal: Removal) -> nn.Module:
    """A copy of a model without the removed channels and blocks, also on the meta device. The model itself stays as it is.

    Raises:
        PlanError: the removal breaks a lock or a link.
    """
    removal.check(coupling)
    stays = removal.stays(coupling)
    pruned = narrowed_to(model, by_tensor(stays), removal.dropped)
    if (kept := kept_classes(coupling, removal)) is not None:
        rewrite_classes(pruned, kept)
    rewrite_attributes(pruned, lambda layer: outputs_left(coupling, layer, stays))
    put_widths(pruned, widths_left(coupling, removal))
    scale_rows(pruned, factors_of_rows(coupling, removal) if coupling.scaled else ())
    return pruned


def scaled_queries(coupling: CouplingMap, removal: Removal) -> list[tuple[ScaledRows, float]]:
    """The weights that a removal scales, with the share that is left of the width whose root their attention divides by."""
    there = [scaled for scaled in coupling.scaled if not inside(scaled.parameters[0], removal.dropped)]
    shares = [1 - lost(scaled.groups, scaled.places, removal) / len(scaled.places) for scaled in there]
    return [(scaled, share) for scaled, share in zip(there, shares) if share < 1]


def factors_of_rows(coupling: CouplingMap, removal: Removal) -> list[tuple[str, Indices, float]]:
    """What a removal multiplies rows of parameters by: the parameter, the rows that are left by their new indices, the factor."""
    stays, found = removal.stays(coupling), []
    for scaled, share in scaled_queries(coupling, removal):
        for name in scaled.parameters:
            rows = np.flatnonzero(np.isin(stays[Axis(name, 0)], scaled.rows))
            found.append((name, rows, share**0.5))
    return found


def scale_rows(model: nn.Module, factors: Iterable[tuple[str, Indices, float]]) -> None:
    """Multiply rows of parameters, in a model that shares these parameters with no other."""
    for name, rows, factor in factors:
        tensor = tensor_at(model, name)
        if not tensor.is_meta:
            tensor.data[torch.from_numpy(rows).to(tensor.device)] *= factor


def narrowed_to(model: nn.Module, kept: Mapping[str, Mapping[int, Indices]], dropped: Collection[str]) -> nn.Module:
    """A copy of a model without some blocks, whose parameters and buffers have only the kept indices of each dimension."""
    parts = modules_of(model, repeated=True)
    twins: dict[int, nn.Module] = {}
    pruned, owners = skipping(sharing_weights(model, twins), dropped), owners_of_tensors(parts)
    given = dict(parts)
    modules = dict(modules_of(pruned, repeated=True)) if dropped else {path: twins[id(part)] for path, part in parts}
    changed: dict[str, nn.Module] = {}
    for name, by_dim in kept.items():
        path, _, attribute = name.rpartition(".")
        tensor = narrowed(getattr(given[path], attribute), by_dim)
        for owner in owners[name]:
            if dropped and inside(owner, dropped):
                continue
            path, _, attribute = owner.rpartition(".")
            put(modules[path], attribute, tensor)
            layer = Axis(owner, 0).module  # a parametrization computes the weight of its parent module
            changed[path], changed[layer] = modules[path], modules[layer]
    true_widths(changed.values())
    return pruned


def put(module: nn.Module, name: str, tensor: Tensor) -> None:
    """Give a module another parameter or buffer; without what PyTorch checks of a name, where the class does not do it its own way."""
    table = module._parameters if name in module._parameters else module._buffers
    if type(module).__setattr__ is nn.Module.__setattr__ and name in table:
        table[name] = tensor  # type: ignore[assignment]
    else:
        setattr(module, name, tensor)


def skipping(model: nn.Module, dropped: Iterable[str]) -> nn.Module:
    """The same model with the blocks replaced by ones that return their input."""
    for path in dropped:
        parent, _, name = path.rpartition(".")
        model.get_submodule(parent)._modules[name] = nn.Identity().train(model.training)
    return model


def by_tensor(stays: Mapping[Axis, Indices]) -> dict[str, dict[int, Indices]]:
    """The kept indices of each parameter and buffer, by dimension."""
    grouped: dict[str, dict[int, Indices]] = {}
    for axis, indices in stays.items():
        grouped.setdefault(axis.parameter, {})[axis.dim] = indices
    return grouped


def narrowed(tensor: Tensor, kept: Mapping[int, Indices]) -> Tensor:
    """A tensor with the given indices of each dimension, as a parameter or buffer like the original."""
    small = tensor.detach()
    if tensor.is_meta:
        small = small.new_empty([len(kept[dim]) if dim in kept else size for dim, size in enumerate(tensor.shape)])
    for dim, indices in () if tensor.is_meta else kept.items():
        small = small.index_select(dim, torch.from_numpy(indices).to(tensor.device))
    return nn.Parameter(small, requires_grad=tensor.requires_grad) if isinstance(tensor, nn.Parameter) else small


def outputs_left(coupling: CouplingMap, layer: str, stays: Mapping[Axis, Indices]) -> list[int] | None:
    """The original output indices that a layer keeps; None where it keeps all."""
    axis = coupling.output_axes.get(layer)
    return stays[axis].tolist() if axis is not None and axis in stays else None
