"""Copies of a model in which the slices that a removal takes are changed: to zero, they are its masked twin."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from tui_pruner.core.flow.labels import Axis
from tui_pruner.core.groups import CouplingMap, Indices
from tui_pruner.core.removal import Removal
from tui_pruner.core.sharing import with_own
from tui_pruner.core.skeleton import owners_of_tensors, put_tensor, tensor_at
from tui_pruner.core.surgery import skipping

Change = Callable[[Tensor], Tensor]
Owners = Mapping[str, Sequence[str]]
REMAINS = 1e-9


def masked_twin(model: nn.Module, coupling: CouplingMap, removal: Removal, owners: Owners | None = None) -> nn.Module:
    """A copy of the original in which the removed slices are zero: weights, biases, norm scales and shifts. All shapes stay.

    A dropped block adds nothing to its input, as the last layers of what it adds are zero; one that adds nothing anyway is skipped.

    `owners` has the names under which each tensor is stored, where they are known already.
    """
    return without_blocks(with_slices(model, coupling, removal, torch.zeros_like, owners), coupling, removal)


def without_blocks(model: nn.Module, coupling: CouplingMap, removal: Removal) -> nn.Module:
    """Return a copy of a model that skips the dropped blocks which no zeros can silence; everything else is shared."""
    skipped = [path for path in removal.dropped if not coupling.inner[path].silenced]
    return skipping(with_own(model, {path.rpartition(".")[0] for path in skipped}), skipped) if skipped else model


def with_slices(model: nn.Module, coupling: CouplingMap, removal: Removal, change: Change, owners: Owners | None = None) -> nn.Module:
    """Return a copy of a model in which the slices of parameters that a removal takes are changed; everything else is shared.

    Of dropped blocks these are the parameters that silence them.

    Axes that the forward divides by keep their values, as zeros there would be no numbers; the trace made sure that nothing reads them.
    A masked class is never likely: its bias is minus infinity, since zero would be as likely as not.
    """
    owners = owners or owners_of_tensors(model)
    own: dict[str, nn.Parameter] = {}
    classes = set[Axis]()
    if coupling.classes is not None and coupling.classes in removal.places:
        classes = {member.axis for member in coupling.groups[coupling.classes].members}
    for axis, positions in slices_of(model, coupling, removal):
        name, dim = axis.parameter, axis.dim
        if name not in own:
            own[name] = nn.Parameter(tensor_at(model, name).detach().clone(), requires_grad=False)
        places = torch.from_numpy(positions).to(own[name].device)
        was = own[name].data.index_select(dim, places)
        never = axis in classes and was.ndim == 1 and change in MASKS
        own[name].data.index_copy_(dim, places, torch.full_like(was, -torch.inf) if never else change(was))
    for name in (name for path in removal.dropped for name in coupling.inner[path].silenced):
        stored = tensor_at(model, name)
        own[name] = nn.Parameter(change(stored.detach()), requires_grad=False)
    changed = with_own(model, {owner.rpartition(".")[0] for name in own for owner in owners[name]})
    for name, parameter in own.items():
        for owner in owners[name]:
            put_tensor(changed, owner, parameter)
    return changed


def slices_of(model: nn.Module, coupling: CouplingMap, removal: Removal) -> Iterator[tuple[Axis, Indices]]:
    """Return the slices of parameters that a removal takes, but for those that the forward divides by."""
    for member, positions in removal.members(coupling):
        if member.axis not in coupling.spared and isinstance(tensor_at(model, member.axis.parameter), nn.Parameter):
            yield member.axis, positions


def masked_slices(model: nn.Module, coupling: CouplingMap, removal: Removal) -> dict[str, dict[str, list[int]]]:
    """Return what the masked twin has at zero as plain data: parameter -> dimension -> indices; of dropped blocks what silences them."""
    gone: dict[Axis, list[Indices]] = {}
    for axis, positions in slices_of(model, coupling, removal):
        gone.setdefault(axis, []).append(positions)
    for name in (name for path in removal.dropped for name in coupling.inner[path].silenced):
        gone[Axis(name, 0)] = [np.arange(len(tensor_at(model, name)))]
    masked: dict[str, dict[str, list[int]]] = {}
    for axis, parts in gone.items():
        masked.setdefault(axis.parameter, {})[str(axis.dim)] = np.unique(np.concatenate(parts)).tolist()
    return masked


def nearly_zero(slices: Tensor) -> Tensor:
    """Return what is left of removed slices where zero would be divided by zero: a ratio, weighed by next to nothing."""
    return slices * REMAINS


MASKS: tuple[Change, ...] = (torch.zeros_like, nearly_zero)


def lively(seed: int) -> Change:
    """Return a change to random slices, which matter whatever they were; biases and scales are positive, as ReLU would hide others."""
    generator = torch.Generator().manual_seed(seed)

    def change(slices: Tensor) -> Tensor:
        values = torch.randn(slices.shape, generator=generator, dtype=torch.float64)
        return (values.abs() + 1 if values.ndim == 1 else values).to(slices.dtype)

    return change
