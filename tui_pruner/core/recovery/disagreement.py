"""How far a network's predictions are from the original's on the same images, without labels: one distance for each output of the task.

A dense detection head names its raw outputs (`boxes`, `scores`, `mask_coefficient`, `proto`, `kpts`, `angle`). They are compared at the
anchors where the original is confident, since no others reach a result. Any other network is compared by its output tensors as they are.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from tui_pruner.core.model.inputs import Given, Inputs, inputs_of
from tui_pruner.core.model.predictions import tensors
from tui_pruner.core.model.recorded_forward import Recording, continued, record

SURE = 64
"""How many anchors of each image are compared: those where the original is most confident."""
APART = 10.0
"""The distance of a network that predicts NaN."""
TINY = 1e-9
Output = Mapping[str, float]


def dense_outputs(output: Any) -> Mapping[str, Tensor] | None:
    """The named raw outputs of a dense head; where it has two sets, those that are used without non-maximum suppression."""
    if isinstance(output, Mapping):
        for inner in ("one2one", "one2many"):
            if inner in output:
                return dense_outputs(output[inner])
        return output if "boxes" in output and "scores" in output else None
    if isinstance(output, (tuple, list)):
        return next((found for part in reversed(output) if (found := dense_outputs(part)) is not None), None)
    return None


@dataclass(frozen=True)
class Reference:
    """What the original predicts on one batch, reduced to what is compared: the picked anchors and their weights [n, k]."""

    picks: Tensor | None
    weights: Tensor | None
    values: Mapping[str, Tensor]


def reference_of(output: Any) -> Reference:
    """Reduce the original's output to what other networks are compared with."""
    dense = dense_outputs(output)
    if dense is None:
        return Reference(None, None, {f"output {n}": leaf for n, leaf in enumerate(real(output))})
    sure = dense["scores"].sigmoid().amax(1)
    weights, picks = sure.topk(min(SURE, sure.shape[1]), 1)
    return Reference(picks, weights, reduced(dense, picks))


def reduced(dense: Mapping[str, Tensor], picks: Tensor) -> dict[str, Tensor]:
    """The named outputs at the picked anchors, in the units of the final result."""

    def at(name: str) -> Tensor:
        values = dense[name]
        return values.gather(2, picks[:, None].expand(-1, values.shape[1], -1))

    found = {"class": at("scores").sigmoid(), "box": distances(at("boxes"))}
    if "mask_coefficient" in dense and isinstance(dense.get("proto"), Tensor):
        found["mask"] = torch.einsum("nka,nkhw->nahw", at("mask_coefficient"), dense["proto"]).sigmoid()
    if "kpts" in dense:
        found["keypoints"] = at("kpts")
    if "angle" in dense:
        found["angle"] = at("angle")
    return found


def distances(boxes: Tensor) -> Tensor:
    """[n, 4, k]: the distances from the anchor to the box's left, top, right and bottom, in strides; of bins their expectation."""
    if boxes.shape[1] == 4:
        return boxes
    images, bins, anchors = boxes.shape
    shares = boxes.reshape(images, 4, bins // 4, anchors).softmax(2)
    return (shares * torch.arange(bins // 4, device=boxes.device, dtype=boxes.dtype)[:, None]).sum(2)


def class_distance(here: Tensor, there: Tensor, weights: Tensor) -> Tensor:
    """The difference of all class probabilities over four times that of the likeliest class: lost classes weigh like lost boxes."""
    return (here - there).abs().sum() / (4 * weights.sum() + TINY)


def box_distance(here: Tensor, there: Tensor, weights: Tensor) -> Tensor:
    """1 - IoU of boxes at the same anchor."""
    mine, other = here.clamp_min(0), there.clamp_min(0)
    common = torch.minimum(mine, other)
    inside = (common[:, 0] + common[:, 2]) * (common[:, 1] + common[:, 3])
    areas = [(box[:, 0] + box[:, 2]) * (box[:, 1] + box[:, 3]) for box in (mine, other)]
    return weighted(1 - inside / (areas[0] + areas[1] - inside + TINY), weights)


def mask_distance(here: Tensor, there: Tensor, weights: Tensor) -> Tensor:
    """1 - IoU of soft masks."""
    inside, both = torch.minimum(here, there).sum((2, 3)), torch.maximum(here, there).sum((2, 3))
    return weighted(1 - inside / (both + TINY), weights)


def value_distance(here: Tensor, there: Tensor, weights: Tensor) -> Tensor:
    """The relative difference of raw values."""
    scale = weighted(there.square().mean(1), weights).sqrt()
    return weighted((here - there).square().mean(1), weights).sqrt() / (scale + TINY)


def weighted(values: Tensor, weights: Tensor) -> Tensor:
    """The weighted mean over anchors and images."""
    return (values * weights).sum() / (weights.sum() + TINY)


DISTANCES: dict[str, Callable[[Tensor, Tensor, Tensor], Tensor]] = {
    "class": class_distance,
    "box": box_distance,
    "mask": mask_distance,
    "keypoints": value_distance,
    "angle": value_distance,
}


class OriginalPredictions:
    """The original's predictions on batches of inputs, such as images, which cut networks are compared with.

    With `resuming` the outputs of its blocks are kept, so that a network with the same first blocks is computed from the first other one
    on.
    """

    def __init__(self, model: nn.Module, batches: Sequence[Given], resuming: bool = False) -> None:
        self._model, self._batches = model, batches
        self._recordings: list[Recording | None] = []
        self._references: list[Reference] = []
        with torch.no_grad():
            for batch in batches:
                images = on_its_device(model, batch)
                recording = record(model, images, forward) if resuming else None
                self._references.append(reference_of(recording.given if recording else forward(model, images)))
                self._recordings.append(replace(recording, given=None) if recording else None)

    def distance(self, model: nn.Module) -> dict[str, float]:
        """The mean distance of each output of the task: 0 where a network predicts the same, 10 where it predicts NaN."""
        totals: dict[str, float] = {}
        with torch.no_grad():
            for reference, batch, recording in zip(self._references, self._batches, self._recordings, strict=True):
                images = on_its_device(model, batch)
                output = continued(model, self._model, recording, images, forward) if recording else forward(model, images)
                for name, value in apart(reference, output).items():
                    totals[name] = totals.get(name, 0.0) + (value if value == value and value < APART else APART)
        return {name: total / len(self._references) for name, total in totals.items()}


def mean(outputs: Mapping[str, float]) -> float:
    """The mean distance over the outputs of the task."""
    return sum(outputs.values()) / max(len(outputs), 1)


def forward(model: nn.Module, images: Inputs | Tensor) -> Any:
    """A network's output."""
    return inputs_of(images).run(model)


def apart(reference: Reference, output: Any) -> Output:
    """The distances of one batch."""
    if reference.picks is None:
        return {
            name: float((here - there).norm() / (there.norm() + TINY))
            for (name, there), here in zip(reference.values.items(), real(output), strict=True)
        }
    dense = dense_outputs(output)
    assert dense is not None and reference.weights is not None
    values = reduced(dense, reference.picks)
    return {name: float(DISTANCES[name](values[name], there, reference.weights)) for name, there in reference.values.items()}


def on_its_device(model: nn.Module, batch: Given) -> Inputs:
    """A batch on the network's device."""
    return inputs_of(batch).to(next(model.parameters()).device)


def real(output: Any) -> list[Tensor]:
    """The tensors of real numbers in an output."""
    return [leaf for leaf in tensors(output) if leaf.is_floating_point()]
