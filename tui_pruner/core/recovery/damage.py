"""How much a width changes the predictions once the layers that read it are refitted, from the second moments of their inputs."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from tui_pruner.core.model.copies import owners_of_tensors, put_tensor, sharing_weights, tensor_at
from tui_pruner.core.model.inputs import Given, Inputs, inputs_of
from tui_pruner.core.pruning.importance import Scores
from tui_pruner.core.pruning.removal import Removal
from tui_pruner.core.pruning.twin import masked_twin
from tui_pruner.core.recovery.applications import Application, Applying, Convolution, Parameters, Site, observe
from tui_pruner.core.recovery.disagreement import OriginalPredictions
from tui_pruner.core.recovery.least_squares import as_matrix, as_weight, inputs_at, sample
from tui_pruner.core.tracing.coupling_map import ChannelGroup, CouplingMap, Indices, Member
from tui_pruner.domain.errors import RequestError

RIDGE = 1e-2
"""As a share of the mean diagonal of a layer's covariance."""
MOST_POSITIONS, LEAST_POSITIONS = 400, 100
ROWS_PER_FEATURE = 10
IN_MEMORY = 2 << 30
"""Bytes of matrices in memory; further ones are in a temporary file."""
TINY = 1e-30
ROUNDING = torch.finfo(torch.float32).eps
"""Relative error of a product of inputs, which are in single precision."""


@dataclass
class WeightReader:
    """A layer with ungrouped weights that reads channels.

    `matrix` is its weight as [features, outputs], features in the order tap, channel; `covariance` is that of its inputs, about their
    `mean` where an intercept can be moved into `bias` or the running mean `shift`; `inverse` is the inverse of the regularised covariance;
    `scale` is what the normalisation after it multiplies each output by.
    """

    geometry: Convolution | None
    matrix: Tensor
    mean: Tensor
    inverse: Tensor
    energy: float
    scale: Tensor
    bias: str
    shift: str

    @property
    def taps(self) -> int:
        """The number of kernel positions."""
        return math.prod(self.geometry.kernel) if self.geometry else 1

    def features(self, positions: Indices) -> Tensor:
        """The features of channels: [..., n] input positions to [..., n * taps]."""
        channels = len(self.matrix) // self.taps
        taps = np.arange(self.taps) * channels
        return torch.from_numpy((positions[..., None] + taps).reshape(*positions.shape[:-1], -1))

    def unrepairable(self, positions: Indices) -> Scores:
        """For each row of [n, m] input positions: the output error that remains without them after a refit, over the output's energy."""
        features = self.features(positions)
        blocks = self.inverse[features[:, :, None], features[:, None, :]]
        weights = (self.matrix * self.scale)[features]
        errors = (weights * torch.linalg.solve(blocks, weights)).sum((1, 2)) / self.energy
        found: Scores = errors.numpy()
        return found

    def repaired(self, positions: Indices) -> tuple[Tensor, Tensor]:
        """The weight refitted without the given input positions: in its own shape with zeros there, and the change of the intercept."""
        gone = self.features(np.unique(positions)[None])[0]
        matrix = self.matrix.clone()
        matrix -= self.inverse[:, gone] @ torch.linalg.solve(self.inverse[gone][:, gone], matrix[gone])
        matrix[gone] = 0
        return as_weight(matrix[None], self.geometry), self.mean @ (self.matrix - matrix)


class WeightReaders:
    """The readers of a network by the names of their weights; their matrices exist until `close`."""

    def __init__(self, network: nn.Module, batches: Sequence[Given], ridge: float = RIDGE, seed: int = 0) -> None:
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        sites = {site.weight: site for site in observe(network, inputs_of(batches[0]).first())}
        sums = self._gathered(network, batches, seed)
        self.by_weight = {name: self._reader(network, sites[name], found, ridge) for name, found in sums.items()}

    def of(self, group: ChannelGroup) -> Iterator[tuple[Member, WeightReader]]:
        """The layers that read a group's channels."""
        for member in group.members:
            reader = self.by_weight.get(member.axis.parameter)
            if member.role == "in" and reader is not None:
                yield member, reader

    def scores(self, group: ChannelGroup) -> Scores | None:
        """The error of each channel that its readers cannot repair, summed over them; None where no weight reads the group."""
        parts = [reader.unrepairable(member.indices) for member, reader in self.of(group)]
        return np.sum(parts, axis=0) if parts else None

    @property
    def on_disk(self) -> bool:
        """Whether some of the matrices are in a temporary file."""
        return self._folder is not None

    def close(self) -> None:
        """Remove the temporary file."""
        if self._folder is not None:
            self._folder.cleanup()

    def _gathered(self, network: nn.Module, batches: Sequence[Given], seed: int) -> Mapping[str, _Sums]:
        found: dict[str, _Sums] = {}
        images = sum(len(inputs_of(batch)) for batch in batches)
        memory_left = IN_MEMORY
        for number, batch in enumerate(map(inputs_of, batches)):

            def read(application: Application, number: int = number, batch: Inputs = batch) -> None:
                nonlocal memory_left
                geometry = application.geometry
                if geometry is not None and geometry.groups > 1:
                    return
                features = application.inputs.shape[1] * (math.prod(geometry.kernel) if geometry else 1)
                each = min(MOST_POSITIONS, max(LEAST_POSITIONS, math.ceil(ROWS_PER_FEATURE * features / images)))
                picks = sample(application, each if geometry else each * len(batch), seed + number)
                known = found.get(application.weight)
                if known is None:
                    memory_left -= features * features * 8
                    known = found[application.weight] = _Sums(self._matrix(application.weight, features, memory_left < 0), geometry)
                known.add(inputs_at(application, picks)[0])

            with torch.no_grad(), Applying(Parameters(network), read, lambda application: None):
                batch.to(next(network.parameters()).device).run(network)
        return found

    def _matrix(self, name: str, side: int, on_disk: bool) -> Tensor:
        if not on_disk:
            return torch.zeros(side, side, dtype=torch.float64)
        self._folder = self._folder or tempfile.TemporaryDirectory(prefix="tui-pruner-moments-")
        file = Path(self._folder.name, name)
        return torch.from_numpy(np.memmap(file, np.float64, "w+", shape=(side, side)))

    def _reader(self, network: nn.Module, site: Site, sums: _Sums, ridge: float) -> WeightReader:
        if not bool(torch.isfinite(sums.total).all()):
            layer = site.weight.rpartition(".")[0]
            raise RequestError(
                f"{layer} reads NaN or infinity on these images, so nothing can be planned on them: check weights and images"
            )
        matrix = as_matrix(tensor_at(network, site.weight).detach().cpu(), sums.geometry)[0].double()
        mean = sums.total / sums.rows
        if not (site.bias or site.shift):
            mean = torch.zeros_like(mean)
        scale = scale_behind(network, site.shift, matrix.shape[1])
        energy = (inverted_by_rows if sums.few else inverted)(sums, mean, matrix * scale, ridge)
        return WeightReader(sums.geometry, matrix, mean, sums.gram, energy, scale, site.bias, site.shift)


def inverted(sums: _Sums, mean: Tensor, scaled: Tensor, ridge: float) -> float:
    """Replace the sums of products by the inverse of the regularised covariance; return the energy of the outputs by a scaled weight."""
    moments = sums.gram.div_(sums.rows)
    whole = float(moments.diagonal().amax())
    covariance = moments.addr_(mean, mean, alpha=-1.0)
    energy = max(float((scaled * (covariance @ scaled)).sum()), 0.0) + TINY
    covariance.diagonal().add_(max(float(ridge * covariance.diagonal().mean()), 0.0) + TINY)
    factor, failed = torch.linalg.cholesky_ex(covariance)
    rounding = len(moments) * ROUNDING
    while failed and rounding < 1:  # inputs hardly vary about their mean, and what is left of the sums is rounding
        covariance.diagonal().add_(rounding * whole)
        factor, failed = torch.linalg.cholesky_ex(covariance)
        rounding *= 10
    sums.gram.copy_(torch.cholesky_inverse(factor if not failed else torch.linalg.cholesky(covariance)))
    return energy


def inverted_by_rows(sums: _Sums, mean: Tensor, scaled: Tensor, ridge: float) -> float:
    """The same with fewer rows than half the features: by the identity (X'X + h)^-1 = (1 - X' (X X' + h)^-1 X) / h."""
    rows = (torch.cat(sums.few) - mean) / math.sqrt(sums.rows)
    energy = float((rows @ scaled).square().sum()) + TINY
    hold = float(ridge * rows.square().sum() / rows.shape[1]) + TINY
    system = rows @ rows.t()
    system.diagonal().add_(hold)
    half = torch.linalg.solve_triangular(torch.linalg.cholesky(system), rows, upper=False)
    torch.mm(half.t(), half, out=sums.gram)
    sums.gram.div_(-hold).diagonal().add_(1.0 / hold)
    sums.few.clear()
    return energy


class _Sums:
    """The sums of inputs and of their products, over sampled positions; while there are `few` rows, the rows themselves."""

    def __init__(self, gram: Tensor, geometry: Convolution | None) -> None:
        self.gram, self.geometry = gram, geometry
        self.total, self.rows = torch.zeros(len(gram), dtype=torch.float64), 0
        self.few: list[Tensor] = []

    def add(self, inputs: Tensor) -> None:
        """Add rows of inputs."""
        if 2 * (self.rows + len(inputs)) <= len(self.gram):
            self.few.append(inputs.cpu().double())
        else:
            for rows in (*self.few, inputs):
                self.gram += (rows.t() @ rows).cpu().double()
            self.few.clear()
        self.total += inputs.sum(0).cpu().double()
        self.rows += len(inputs)


def scale_behind(network: nn.Module, shift: str, outputs: int) -> Tensor:
    """What the normalisation with this running mean multiplies each channel by; ones where there is none."""
    norm = network.get_submodule(shift.rpartition(".")[0]) if shift else None
    if not isinstance(norm, nn.modules.batchnorm._BatchNorm) or norm.running_var is None:
        return torch.ones(outputs, dtype=torch.float64)
    scale = (norm.running_var.double() + norm.eps).rsqrt().cpu()
    return scale if norm.weight is None else scale * norm.weight.detach().double().cpu()


def obs_scores(coupling: CouplingMap, readers: WeightReaders, otherwise: Mapping[int, Scores]) -> Iterable[tuple[ChannelGroup, Scores]]:
    """The score of every prunable channel: the error that no refit of its readers repairs; `otherwise` where nothing reads it."""
    for group in coupling.groups:
        if group.prunable:
            found = readers.scores(group)
            yield group, found if found is not None else otherwise[group.number]


Outputs = Mapping[str, float]


@dataclass(frozen=True)
class DamageTrial:
    """Channels that are cut together, in addition to what was gone before; `lost` counts them by group."""

    groups: tuple[int, ...]
    lost: tuple[int, ...]
    removal: Removal


@dataclass(frozen=True)
class Damage:
    """The results of trials: by output of the task the distance from the original's predictions; `base` is that without any trial."""

    base: Outputs
    trials: Sequence[tuple[DamageTrial, Outputs]]


def repaired_twin(
    network: nn.Module, coupling: CouplingMap, removal: Removal, readers: WeightReaders, owners: Mapping[str, Sequence[str]]
) -> nn.Module:
    """The masked twin of a network, with the layers that read removed channels refitted in closed form; the network is unchanged."""
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
    readers: WeightReaders,
    trials: Sequence[DamageTrial],
    judge: OriginalPredictions,
    on_trial: Callable[[int], None] = lambda done: None,
) -> Damage:
    """Measure the distance of the original's predictions from those of `network`, the original too, under every trial."""
    owners = owners_of_tensors(network)
    found: list[tuple[DamageTrial, Outputs]] = []
    base = judge.distance(network)
    for done, trial in enumerate(trials, start=1):
        with torch.no_grad():
            twin = repaired_twin(network, coupling, trial.removal, readers, owners)
        found.append((trial, judge.distance(twin)))
        on_trial(done)
    return Damage(base, found)
