"""Measured damage: how far a network's predictions move when channels go and their readers are refitted, for every group at several widths.

No labels. Each trial is the masked twin, whose layers that read the removed channels are refitted in closed form from the moments of their
inputs; only the blocks behind the first change are computed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from tui_pruner.core.groups import CouplingMap, Indices
from tui_pruner.core.recovery.disagreement import Original
from tui_pruner.core.recovery.moments import Readers
from tui_pruner.core.removal import Removal
from tui_pruner.core.skeleton import named_tensors, owners_of_tensors, put_tensor, sharing_weights, tensor_at
from tui_pruner.core.twin import masked_twin

Outputs = Mapping[str, float]


@dataclass(frozen=True)
class Trial:
    """Channels of groups that are cut together, gone on top of what was gone before: `lost` counts them by group."""

    groups: tuple[int, ...]
    lost: tuple[int, ...]
    removal: Removal


@dataclass(frozen=True)
class Damage:
    """What trials came to: the distance of the predictions from the original's, by output of the task; `base` that with none of them."""

    base: Outputs
    trials: Sequence[tuple[Trial, Outputs]]


def repaired_twin(
    network: nn.Module, coupling: CouplingMap, removal: Removal, readers: Readers, owners: Mapping[str, Sequence[str]]
) -> nn.Module:
    """The masked twin of a network, with the layers that read removed channels refitted in closed form; the network stays as it is."""
    twin = sharing_weights(masked_twin(network, coupling, removal, owners))
    gone: dict[str, list[Indices]] = {}
    for number, places in removal.places.items():
        for member, _ in readers.of(coupling.groups[number]):
            gone.setdefault(member.axis.parameter, []).append(member.indices[places].reshape(-1))
    for name, positions in gone.items():
        reader = readers.by_weight[name]
        weight, intercept = reader.repaired(np.concatenate(positions))
        old = tensor_at(twin, name)
        _put(twin, owners[name], nn.Parameter(weight.reshape(old.shape).to(old), requires_grad=False))
        added = reader.bias or reader.shift
        if added:
            before = tensor_at(twin, added).detach()
            change = intercept.to(before)
            after = before + change if reader.bias else before - change
            _put(twin, owners[added], nn.Parameter(after, requires_grad=False) if reader.bias else after)
    return twin


def _put(model: nn.Module, names: Sequence[str], tensor: Tensor) -> None:
    for name in names:
        put_tensor(model, name, tensor)


def measure_damage(
    network: nn.Module,
    coupling: CouplingMap,
    readers: Readers,
    trials: Sequence[Trial],
    judge: Original,
    on_trial: Callable[[int], None] = lambda done: None,
) -> Damage:
    """The distance of the original's predictions from those of a network under every trial.

    `network` is the original, or a cut and refitted network in the original's shapes.
    """
    owners = owners_of_tensors(network)
    found: list[tuple[Trial, Outputs]] = []
    base = judge.distance(network)
    for done, trial in enumerate(trials, start=1):
        with torch.no_grad():
            twin = repaired_twin(network, coupling, trial.removal, readers, owners)
        found.append((trial, judge.distance(twin)))
        on_trial(done)
    return Damage(base, found)


def embedded(original: nn.Module, pruned: nn.Module, kept: Mapping[str, Mapping[int, Indices]]) -> nn.Module:
    """A cut network in the original's shapes: with its removed channels zero it computes the same, and is cut further in one numbering."""
    whole, owners = sharing_weights(original), owners_of_tensors(original)
    for name, tensor in named_tensors(pruned):
        if name not in owners:
            continue
        large = tensor.detach()
        for dim, indices in kept.get(name, {}).items():
            shape = [*large.shape[:dim], tensor_at(original, name).shape[dim], *large.shape[dim + 1 :]]
            fill = large.new_ones(shape) if name.endswith("running_var") else large.new_zeros(shape)
            large = fill.index_copy_(dim, torch.from_numpy(indices).to(large.device), large)
        _put(whole, owners[name], nn.Parameter(large, requires_grad=False) if isinstance(tensor, nn.Parameter) else large)
    return whole
