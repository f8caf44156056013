"""How the predictions change when channels are removed and the layers that read them are refitted, channel by channel, without labels.

A refit in closed form changes a reader's weights by a known step (optimal brain surgeon: B. Hassibi, D. Stork, 1993; for whole channels
C. Louizos et al. 2017); gradients of random projections of the predictions say how far that moves them. The mean square over images and
projections is the squared distance to first order: Gauss-Newton with Hutchinson's random signs.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor, nn

from tui_pruner.core.model.copies import tensor_at
from tui_pruner.core.model.inputs import Given, Inputs, inputs_of
from tui_pruner.core.pruning.importance import Scores
from tui_pruner.core.pruning.removal import Removal
from tui_pruner.core.recovery.damage import WeightReader, WeightReaders
from tui_pruner.core.recovery.disagreement import TINY, Reference, dense_outputs, on_its_device, real, reduced, reference_of
from tui_pruner.core.recovery.least_squares import as_matrix
from tui_pruner.core.tracing.coupling_map import ChannelGroup, CouplingMap, Indices, Member

SAMPLES = 24
"""How many images' predictions are used, each by one projection of every output."""
FEWEST = 4
MEMORY_LIMIT = 1 << 30
"""Bytes of effects in memory: for large networks fewer images are used."""
Gradients = Mapping[str, Tensor]
Places = Mapping[int, Indices]


def projections(output: object, generator: torch.Generator) -> dict[str, Tensor]:
    """One number for each output of the task: the sum of its values with random signs, in the units of its distance from the original's."""
    with torch.no_grad():
        reference = reference_of(output)
    dense = dense_outputs(output)
    if dense is None or reference.picks is None or reference.weights is None:
        return {name: signed(leaf / (leaf.detach().norm() + TINY), generator) for name, leaf in named(output).items()}
    values = reduced(dense, reference.picks)
    return {name: signed(value * unit(name, value.detach(), reference), generator) for name, value in values.items()}


def named(output: object) -> dict[str, Tensor]:
    """Name the outputs of a network without a detection head as `OriginalPredictions` does."""
    return {f"output {number}": leaf for number, leaf in enumerate(real(output))}


def unit(name: str, values: Tensor, reference: Reference) -> Tensor:
    """The factor for an output's values that makes the sum of their squared changes about a squared distance.

    A distance adds up the four sides of a box and all classes, while a square is dominated by the largest: both count double, and classes
    do without the factor 1/4 that they have in the distance. Measured on YOLO11n-seg at 70 % of the FLOPs, refitted: distance 0.141 with
    the distance's own units, 0.116 without the factor, 0.103 with classes doubled too, 0.097 with both doubled.
    """
    assert reference.weights is not None
    shares = (reference.weights / (reference.weights.sum() + TINY)).sqrt()
    if name == "class":
        return (reference.weights.sum() / 4 + TINY).rsqrt()
    if name == "box":
        reach = values.clamp_min(0)
        sides = torch.stack([reach[:, 0] + reach[:, 2], reach[:, 1] + reach[:, 3]], 1).repeat(1, 2, 1) if reach.shape[1] == 4 else reach
        return 2 * shares[:, None] / (sides + 0.5)
    if name == "mask":
        return (shares / (values.sum((2, 3)) + 1).sqrt())[:, :, None, None]
    scale: Tensor = (values.square().mean(1) * shares.square()).sum().sqrt() * values.shape[1] ** 0.5
    return shares[:, None] / (scale + TINY)


def signed(values: Tensor, generator: torch.Generator) -> Tensor:
    """Sum the values with random signs."""
    signs = torch.randint(0, 2, values.shape, generator=generator, dtype=torch.int8) * 2 - 1
    return (values * signs.to(values)).sum()


def samples(batches: Sequence[Given]) -> Iterator[Inputs]:
    """The images of batches one by one; a batch that cannot be split stays whole."""
    for batch in map(inputs_of, batches):
        count = len(batch)
        if any(not tensor.ndim or len(tensor) != count for tensor in batch.tensors):
            yield batch
            continue
        for number in range(count):
            yield batch.changed(lambda tensor, number=number: tensor[number : number + 1])  # type: ignore[misc]


def gradients(network: nn.Module, batches: Sequence[Given], seed: int = 0) -> Iterator[dict[str, Gradients]]:
    """For each image and output of the task the gradients of a projection, on the CPU; parameters without a gradient are left out."""
    twin = copy.deepcopy(network).eval().requires_grad_(True)
    parameters = dict(twin.named_parameters())
    generator = torch.Generator().manual_seed(seed)
    for sample in samples(batches):
        with torch.enable_grad():
            numbers = projections(on_its_device(twin, sample).run(twin), generator)
        found: dict[str, Gradients] = {}
        for name, number in numbers.items():
            values = torch.autograd.grad(number, list(parameters.values()), retain_graph=True, allow_unused=True)
            found[name] = {key: value.cpu() for key, value in zip(parameters, values, strict=True) if value is not None}
        yield found


@dataclass
class Response:
    """What removing channels and refitting changes in the predictions of one network.

    `effects` has for each reader [projections, features, outputs]: a projection's gradient times the inverse of the reader's covariance;
    `alone` for each group without such readers [projections, channels]: the change where its own weights become zero. `outputs` names the
    output of the task of every projection.
    """

    coupling: CouplingMap
    readers: WeightReaders
    effects: Mapping[str, Tensor]
    alone: Mapping[int, Tensor]
    outputs: Sequence[str]

    def of(self, group: ChannelGroup) -> Iterator[tuple[Member, WeightReader]]:
        """The layers that read a group's channels and are refitted."""
        return ((member, reader) for member, reader in self.readers.of(group) if member.axis.parameter in self.effects)

    @property
    def rows(self) -> Mapping[str, list[int]]:
        """The rows of `effects` that belong to each output of the task."""
        return {name: [n for n, other in enumerate(self.outputs) if other == name] for name in dict.fromkeys(self.outputs)}


def response_of(
    network: nn.Module, coupling: CouplingMap, readers: WeightReaders, batches: Sequence[Given], memory_limit: int = MEMORY_LIMIT,
    on_image: Callable[[int], object] = lambda done: None,
) -> Response | None:  # fmt: skip
    """Compute the response of a network's predictions on some images; None where the network is too large for four images.

    `on_image` hears of every image that is done.
    """
    groups = [group for group in coupling.groups if group.prunable]
    reading = {member.axis.parameter: reader for group in groups for member, reader in readers.of(group)}
    unread = [group for group in groups if not any(True for _ in readers.of(group))]
    each = sum(reader.matrix.numel() for reader in reading.values()) * torch.finfo(torch.float32).bits // 8
    effects: dict[str, list[Tensor]] = {name: [] for name in reading}
    alone: dict[int, list[Tensor]] = {group.number: [] for group in unread}
    outputs: list[str] = []
    inverses: dict[str, Tensor] = {}
    for done, found in enumerate(gradients(network, batches)):
        if done == 0:
            if each * len(found) * FEWEST > memory_limit:
                return None
            inverses = {name: reader.inverse.float() for name, reader in reading.items()}
        if done == SAMPLES or each * (len(outputs) + len(found)) > memory_limit:
            break
        for name, gradient in found.items():
            outputs.append(name)
            for weight, reader in reading.items():
                effects[weight].append(inverses[weight] @ step_of(reader, weight, gradient))
            for group in unread:
                alone[group.number].append(zeroed(network, group, gradient))
        on_image(done + 1)
    return Response(
        coupling,
        readers,
        {name: torch.stack(parts) for name, parts in effects.items() if parts},
        {number: torch.stack(parts) for number, parts in alone.items() if parts},
        outputs,
    )


def step_of(reader: WeightReader, weight: str, gradient: Gradients) -> Tensor:
    """A gradient in the form of a reader's matrix, [features, outputs], with the intercept following each change as in a refit."""
    if weight not in gradient:
        return torch.zeros(reader.matrix.shape)
    found = as_matrix(gradient[weight].float(), reader.geometry)[0]
    added = reader.bias or (reader.shift.rpartition(".")[0] + ".bias" if reader.shift else "")
    if added not in gradient:
        return found
    scale = 1.0 if reader.bias else reader.scale.float()
    return found - reader.mean.float()[:, None] * (gradient[added].float() * scale)


def zeroed(network: nn.Module, group: ChannelGroup, gradient: Gradients) -> Tensor:
    """[channels]: the first-order change of a projection where the weights that produce a channel become zero."""
    moved = torch.zeros(group.channels)
    for member in group.producers:
        name = member.axis.parameter
        if name in gradient and gradient[name].ndim > 1:
            product = (gradient[name] * tensor_at(network, name).detach().cpu()).movedim(member.axis.dim, 0).flatten(1).sum(1)
            moved -= product[torch.from_numpy(member.indices)].sum(1)
    return moved


@dataclass
class Elimination:
    """Channels removed one after the other: every refit starts from what the earlier ones left, since inverses are updated exactly.

    `moved` has for each group [projections, channels]: how far the removal of each remaining channel moves the predictions.
    """

    response: Response
    moved: dict[int, Tensor] = field(init=False)

    def __post_init__(self) -> None:
        readers = self.response.readers.by_weight
        self._effects = dict(self.response.effects)
        self._inverses = {name: readers[name].inverse for name in self._effects}
        self._weights = {name: readers[name].matrix for name in self._effects}
        self._groups = {group.number: group for group in self.response.coupling.groups if group.prunable}
        self._gone = {number: np.zeros(group.channels, dtype=bool) for number, group in self._groups.items()}
        self._read: dict[str, list[tuple[ChannelGroup, Member, WeightReader]]] = {}
        for group in self._groups.values():
            for member, reader in self.response.of(group):
                self._read.setdefault(member.axis.parameter, []).append((group, member, reader))
        self._parts: dict[tuple[str, int], Tensor] = {}
        for name in self._read:
            self._follow(name)
        self.moved = {number: self._total(group) for number, group in self._groups.items()}

    def costs(self, number: int) -> Scores:
        """The squared distance that the removal of each channel of a group adds, over all outputs; infinite where it is gone."""
        moved = self.moved[number]
        found: Scores = sum(moved[rows].square().mean(0) for rows in self.response.rows.values()).double().numpy()  # type: ignore[union-attr]
        return np.where(self._gone[number], np.inf, found)

    def copied(self) -> Elimination:
        """Return an independent copy; tensors are shared, since none is changed in place."""
        found = copy.copy(self)
        for name in ("moved", "_effects", "_inverses", "_weights", "_parts"):
            setattr(found, name, {**getattr(self, name)})
        found._gone = {number: gone.copy() for number, gone in self._gone.items()}
        return found

    def begin(self, removal: Removal) -> None:
        """Start from what a plan has removed already."""
        self.remove({number: places for number, places in removal.places.items() if number in self._groups})

    def remove(self, places: Places) -> set[int]:
        """Remove channels; return the groups whose costs changed."""
        touched: dict[str, list[Tensor]] = {}
        for number, channels in places.items():
            group = self._groups[number]
            self._gone[number][channels] = True
            for member, reader in self.response.of(group):
                touched.setdefault(member.axis.parameter, []).append(reader.features(member.indices[channels]).reshape(-1))
        changed = set(places)
        for name, features in touched.items():
            self._refit(name, torch.unique(torch.cat(features)))
            self._follow(name)
            changed |= {group.number for group, _, _ in self._read[name]}
        self.moved |= {number: self._total(self._groups[number]) for number in changed}
        return changed

    def _refit(self, name: str, gone: Tensor) -> None:
        """Remove features of a reader: update its weights, inverse and effects by the same Schur complement."""
        inverse, weights, effects = self._inverses[name], self._weights[name], self._effects[name]
        gains = torch.linalg.solve(inverse[gone][:, gone], inverse[gone]).t()
        weights = weights - gains @ weights[gone]
        effects = effects - gains.float() @ effects[:, gone]
        inverse = inverse - gains @ inverse[gone]
        weights[gone], effects[:, gone], inverse[gone], inverse[:, gone] = 0, 0, 0, 0
        inverse[gone, gone] = 1
        self._inverses[name], self._weights[name], self._effects[name] = inverse, weights, effects

    def _follow(self, name: str) -> None:
        """Compute how the removal of each input channel of a layer changes the predictions through that layer."""
        for group, member, reader in self._read[name]:
            left = torch.from_numpy(~self._gone[group.number])
            moved = torch.zeros(len(self.response.outputs), group.channels)
            features = reader.features(member.indices)[left]
            if len(features):
                blocks = self._inverses[name][features[:, :, None], features[:, None, :]]
                steps = torch.linalg.solve(blocks, self._weights[name][features]).float()
                effects = self._effects[name][:, features.reshape(-1)].reshape(len(moved), *steps.shape)
                moved[:, left] = -torch.einsum("pcfo,cfo->pc", effects, steps)
            self._parts[name, group.number] = moved

    def _total(self, group: ChannelGroup) -> Tensor:
        parts = [self._parts[member.axis.parameter, group.number] for member, _ in self.response.of(group)]
        if parts:
            return torch.stack(parts).sum(0)
        return self.response.alone.get(group.number, torch.zeros(len(self.response.outputs), group.channels))
