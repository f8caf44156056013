"""The refit of a cut model: re-estimated BatchNorm statistics, and layer by layer the weights closest in their outputs."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from tui_pruner.core.model.copies import tensor_at
from tui_pruner.core.model.inputs import Given, inputs_of
from tui_pruner.core.recovery.applications import Application, Lockstep, Site, by_weight, observe
from tui_pruner.core.recovery.disagreement import OriginalPredictions, mean
from tui_pruner.core.recovery.least_squares import Equations, as_matrix, as_weight, best_correction, inputs_at, outputs_at, sample
from tui_pruner.core.tracing.coupling_map import Indices
from tui_pruner.domain.errors import RequestError


@dataclass(frozen=True)
class Recalibrated:
    """A copy of a model with new statistics, the number of layers and of images; its weights are the model's."""

    model: nn.Module
    layers: int
    images: int


def recalibrate(model: nn.Module, batches: Iterable[Given], device: str = "cpu") -> Recalibrated:
    """Average every normalisation's statistics over all batches of inputs, such as images, as training would see them.

    A layer that the forward does not reach keeps its statistics. Without a batch, so does every layer.
    """
    twin = copy.deepcopy(model).to(device).eval()
    norms = statistics_of(twin)
    before = [{name: buffer.clone() for name, buffer in norm.named_buffers()} for norm in norms]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # the plain average over all batches
        norm.train()
    images = send(twin, batches)
    reached = [int(norm.num_batches_tracked) > 0 for norm in norms]
    for norm, momentum, buffers, seen in zip(norms, momenta, before, reached, strict=True):
        norm.momentum = momentum
        norm.eval()
        kept = {"num_batches_tracked"} if seen else set(buffers)
        for name in kept:
            getattr(norm, name).copy_(buffers[name])
    return Recalibrated(twin.cpu(), sum(reached), images)


def statistics_of(model: nn.Module) -> list[Any]:
    """The normalisations that keep running statistics."""
    return [m for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm) and m.track_running_stats]


def send(model: nn.Module, batches: Iterable[Given]) -> int:
    """Run batches through a model; return how many images they had."""
    device = next(model.parameters()).device
    images = 0
    with torch.no_grad():
        for batch in map(inputs_of, batches):
            batch.to(device).run(model)
            images += len(batch)
    return images


SMALL = 0.1
"""A scale below this share of its layer's largest scale counts as small."""


def scales_of(model: nn.Module) -> list[Tensor]:
    """The scales of every batch normalisation, one for each channel."""
    layers = [module for module in model.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    return [layer.weight for layer in layers if layer.weight is not None]


def add_sparsity_penalty(model: nn.Module, strength: float, scale: float = 1.0) -> None:
    """Add the gradient of the sparsity penalty after backward; `scale` is the factor of a gradient scaler."""
    with torch.no_grad():
        for weight in scales_of(model):
            if weight.grad is not None:
                weight.grad.add_(torch.sign(weight), alpha=strength * scale)


def small_share(model: nn.Module) -> float:
    """The share of all channels whose scale is small beside the largest of their layer."""
    scales = [weight.detach().abs() for weight in scales_of(model)]
    small = sum(int((scale < SMALL * scale.max()).sum()) for scale in scales)
    return small / max(1, sum(len(scale) for scale in scales))


RIDGES = (1e-3, 1e-2, 1e-1)
MOST_POSITIONS, LEAST_POSITIONS = 400, 100
ROWS_PER_FEATURE = 40
MEMORY_LIMIT = 1 << 30
UNCHANGED = 1e-10


@dataclass(frozen=True)
class Fit:
    """One layer's refit: its relative squared error on held-out images before and after, and the ridge; 0.0 where it is unchanged.

    `tensors` names what it changed. `rows` is how many equations it had for each output, and `features` how many unknowns.
    """

    layer: str
    error_before: float
    error_after: float
    ridge: float
    tensors: tuple[str, ...] = ()
    rows: int = 0
    features: int = 0

    @property
    def short(self) -> bool:
        """Whether there were fewer equations than unknowns, so that the ridge decides the rest."""
        return self.rows < self.features


@dataclass(frozen=True)
class RefitSettings:
    """How a refit is made.

    `rows` is how many positions are sampled for each feature that a layer reads, over all images, at most `most` an image; `ridges` are
    tried, `seed` is that of the positions, `memory_limit` is for activations of halted forwards, in bytes.
    """

    rows: int = ROWS_PER_FEATURE
    most: int = MOST_POSITIONS
    least: int = LEAST_POSITIONS
    ridges: tuple[float, ...] = RIDGES
    seed: int = 0
    memory_limit: int = MEMORY_LIMIT

    def positions(self, features: int, images: int) -> int:
        """How many positions of each image are sampled."""
        return min(self.most, max(self.least, math.ceil(self.rows * features / images)))


OnLayer = Callable[[Fit, int, int], None]
"""Called with each layer's fit, the number of layers done and of all layers; an exception ends the refit."""


@dataclass
class Reconstruction:
    """A refitted copy of a cut network and what was done to each layer."""

    model: nn.Module
    fits: list[Fit] = field(default_factory=list)


def reconstruct(
    original: nn.Module,
    pruned: nn.Module,
    kept: Mapping[str, Mapping[int, Indices]],
    batches: Sequence[Given],
    held_out: Sequence[Given],
    *,
    frozen: Collection[str] = (),
    settings: RefitSettings | None = None,
    memory: FitMemory | None = None,
    on_layer: OnLayer = lambda fit, done, total: None,
) -> Reconstruction:
    """Refit a copy of a cut network to the original's outputs on batches of inputs, such as images; both networks are unchanged.

    `kept` has the original indices that each parameter keeps, by dimension. A fit that does not lower a layer's error on `held_out` is
    discarded. `frozen` names parameters that keep their values.
    """
    settings = settings or RefitSettings()
    model = copy.deepcopy(pruned).eval()
    sites = by_weight([site for site in observe(model, inputs_of(batches[0]).first()) if site.weight not in frozen])
    found = Reconstruction(model)
    everything = [*batches, *held_out]
    sizes = [len(inputs_of(batch)) for batch in everything]
    theirs, ours = (
        Lockstep(original, everything, settings.memory_limit // 2, after=True),
        Lockstep(model, everything, settings.memory_limit // 2),
    )
    try:
        for done, ((weight, first), applied) in enumerate(sites.items(), start=1):
            known = memory.load(weight, first) if memory else None
            if known is not None:
                fit: Fit | None = known[0]
                for name, values in known[1].items():
                    tensor_at(model, name).data.copy_(values)
            else:
                fit = _refit(model, applied, theirs, ours, sizes, len(held_out), kept.get(weight, {}), settings)
                if memory and fit is not None:
                    memory.store(weight, first, fit, {name: tensor_at(model, name).detach() for name in fit.tensors})
            if fit is not None:
                found.fits.append(fit)
                on_layer(fit, done, len(sites))
            if len(applied) > 1:
                theirs.restart()
                ours.restart()
    finally:
        theirs.close()
        ours.close()
    return found


def _refit(
    model: nn.Module, applied: Sequence[Site], theirs: Lockstep, ours: Lockstep, sizes: Sequence[int], held_out: int,
    kept: Mapping[int, Indices], settings: RefitSettings,
) -> Fit | None:  # fmt: skip
    """Refit one weight at all its applications; None where the original never applies it. `sizes` counts the images of each batch."""
    images = sum(sizes[: len(sizes) - held_out])
    shift, bias = (common({getattr(site, name) for site in applied}) for name in ("shift", "bias"))
    weight = tensor_at(model, applied[0].weight)
    fit = judge = None
    now: Application | None = None
    for turn, site in enumerate(applied):
        for number, (wanted, here) in enumerate(zip(theirs.at(site), ours.at(site), strict=True)):
            if wanted is None or here is None:
                continue
            now = here
            if fit is None or judge is None:
                fit, judge = Equations(bool(bias or shift)), Equations(bool(bias or shift))
            count = settings.positions(features_of(weight, now), images) * (1 if now.geometry else sizes[number])
            chosen = fit if number < len(sizes) - held_out else judge
            _gather(chosen, wanted, now, weight, kept, model, count, settings.seed + turn * 100_003 + number)
            del wanted, here
    if fit is None or judge is None or now is None or not fit.rows:
        return None
    judge = judge if judge.rows else fit
    before, layer = judge.error(), applied[0].weight.rpartition(".")[0]
    if not math.isfinite(judge.lacking + judge.energy):  # their quotient may be infinite: a single row has no energy about its mean
        raise RequestError(f"{layer} reads or gives NaN or infinity on these images, so nothing can be refitted: check weights and images")
    correction, ridge = best_correction(fit, judge, settings.ridges) if before > UNCHANGED else (None, 0.0)
    features = features_of(weight, now)
    if correction is None:
        return Fit(layer, before, before, 0.0, rows=fit.rows, features=features)
    _apply(model, now, weight, correction, bias, shift)
    tensors = tuple(name for name in (now.weight, bias or shift) if name)
    return Fit(layer, before, judge.error(correction), ridge, tensors, fit.rows, features)


def features_of(weight: Tensor, application: Application) -> int:
    """How many inputs each output of a layer is computed from."""
    geometry = application.geometry
    return (
        weight[0].numel()
        if geometry is None or not geometry.transposed
        else application.inputs.shape[1] // geometry.groups * weight[0, 0].numel()
    )


def _gather(
    equations: Equations, wanted: Application, now: Application, weight: Tensor, kept: Mapping[int, Indices], model: nn.Module,
    count: int, seed: int,
) -> None:  # fmt: skip
    """Add one batch's sampled rows to the equations."""
    picks = sample(wanted, count, seed)
    inputs = inputs_at(now, picks)
    outputs = outputs_at(wanted, picks)
    channels = output_channels(kept, wanted, now)
    if channels is not None:
        outputs = outputs[:, channels.to(outputs.device)]
    matrix = as_matrix(weight[now.first : now.first + now.count].detach(), now.geometry)
    given = (inputs @ matrix).transpose(0, 1).reshape(len(outputs), -1)
    if now.bias:
        given = given + tensor_at(model, now.bias)[added(now)].detach()
    equations.add(inputs, outputs - given, outputs)


def common(names: set[str]) -> str:
    """The name that all applications of a weight share; "" where they differ, since no intercept would suit all of them."""
    return next(iter(names)) if len(names) == 1 else ""


def _apply(model: nn.Module, now: Application, weight: Tensor, correction: Tensor, added_to: str, shift: str) -> None:
    """Add a correction to the tensors in place, so that forwards halted before them continue with it."""
    intercept = bool(added_to or shift)
    part = slice(now.first, now.first + now.count)
    change = as_weight(correction[:, :-1] if intercept else correction, now.geometry)
    weight.data[part] += change.to(weight)
    if added_to:
        bias = tensor_at(model, added_to).data
        bias[added(now)] += correction[:, -1].reshape(-1).to(bias)
    elif shift:
        mean = tensor_at(model, shift).data
        mean -= correction[:, -1].reshape(-1).to(mean)


def added(application: Application) -> slice:
    """The part of the bias that an application adds."""
    return slice(application.first, application.first + application.count) if application.geometry is None else slice(None)


def output_channels(kept: Mapping[int, Indices], wanted: Application, now: Application) -> Tensor | None:
    """The original's output channels that a cut layer still has; None where it has all."""
    geometry = wanted.geometry
    if geometry is None or not geometry.transposed:
        return torch.from_numpy(kept[0]) if 0 in kept else None
    if not kept or now.geometry is None:
        return None
    inputs, outputs = wanted.inputs.shape[1], wanted.outputs.shape[1]  # type: ignore[union-attr]
    groups = geometry.groups
    each = outputs // groups
    numbers = torch.arange(inputs)[:, None] // (inputs // groups) * each + torch.arange(each)
    for dim, indices in kept.items():
        numbers = numbers.index_select(dim, torch.from_numpy(indices))
    return numbers.reshape(now.geometry.groups, -1, numbers.shape[1])[:, 0].reshape(-1)


class FitMemory(Protocol):
    """Stores finished fits, so that an interrupted refit continues after the last one."""

    def load(self, weight: str, first: int) -> tuple[Fit, Mapping[str, Tensor]] | None:
        """A stored fit and the tensors that it changed, by name; None where there is none."""

    def store(self, weight: str, first: int, fit: Fit, tensors: Mapping[str, Tensor]) -> None:
        """Store a fit."""


@dataclass(frozen=True)
class Recovered:
    """The candidate that is closest to the original on held-out images.

    `kept` names it: "cut", "recalibrated", "refitted" or "both". `distance` has the distance of each candidate from the original's outputs,
    the mean over the outputs of the task; `outputs` has the distances of each output.
    """

    model: nn.Module
    kept: str
    distance: Mapping[str, float]
    outputs: Mapping[str, Mapping[str, float]]
    fits: Sequence[Fit]


def recover(
    original: nn.Module,
    pruned: nn.Module,
    kept: Mapping[str, Mapping[int, Indices]],
    batches: Sequence[Given],
    held_out: Sequence[Given],
    *,
    frozen: Collection[str] = (),
    settings: RefitSettings | None = None,
    memory: FitMemory | None = None,
    on_layer: OnLayer = lambda fit, done, total: None,
) -> Recovered:
    """Refit and recalibrate a cut network without labels, and keep the candidate closest to the original, which may be the cut itself.

    Both networks are unchanged. The candidates are compared on `held_out`; where that is empty, on the batches of the refit.
    """
    device = next(original.parameters()).device
    refitted = reconstruct(
        original, pruned, kept, batches, held_out, frozen=frozen, settings=settings, memory=memory, on_layer=on_layer
    )  # fmt: skip
    candidates = {"cut": pruned, "refitted": refitted.model}
    if statistics_of(pruned):
        for name, base in (("recalibrated", pruned), ("both", refitted.model)):
            candidates[name] = recalibrate(base, batches, str(device)).model.to(device)
    judge = OriginalPredictions(original, held_out or batches)
    outputs = {name: judge.distance(model) for name, model in candidates.items()}
    distance = {name: mean(found) for name, found in outputs.items()}
    best = min(distance, key=lambda name: distance[name])
    return Recovered(candidates[best], best, distance, outputs, refitted.fits)
