"""Gradients of a model's own loss on labelled images, and what torch-pruning's gradient criteria make of them."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from tui_pruner.core.calibrated import Scores, name_of
from tui_pruner.core.checkpoint.stock import default_arguments
from tui_pruner.core.groups import ChannelGroup, CouplingMap
from tui_pruner.core.importance import FROM_LABELS, library_scores
from tui_pruner.core.library import modules_of
from tui_pruner.core.skeleton import forget_caches
from tui_pruner.errors import DataError

Batch = dict[str, Any]
INSTEAD = "rank by a criterion that needs no data, such as l2"


@dataclass(frozen=True)
class Gradients:
    """Of each parameter, over the images: the mean of the loss's gradient, and the mean of the squared gradient."""

    images: int
    mean: dict[str, Tensor]
    square: dict[str, Tensor]


def differentiable(model: nn.Module, device: str | torch.device = "cpu") -> nn.Module:
    """A copy whose loss can be differentiated by every parameter, also of a frozen checkpoint; in eval mode, as the model will be used."""
    twin = copy.deepcopy(model).to(device).float().eval().requires_grad_(True)
    settings = getattr(model, "args", None) or {}
    twin.args = SimpleNamespace(**{**default_arguments(), **(settings if isinstance(settings, dict) else vars(settings))})  # type: ignore[assignment]
    twin.nc = len(model.names)  # type: ignore[assignment, arg-type]  # a trainer sets it, and RT-DETR's loss reads it
    twin.criterion = None  # type: ignore[assignment]  # one that was built before has the settings and the device of then
    forget_caches(twin)  # anchors that were made in inference mode cannot be differentiated through
    return twin


def gradients(twin: nn.Module, batches: Iterable[tuple[str, Batch]], on_image: Callable[[int], None]) -> Gradients:
    """Gradients of `twin.loss` for each named batch of one image, summed up as they come; no `.grad` is left behind.

    Raises:
        DataError: a loss or a gradient that is no number.
    """
    parameters = dict(twin.named_parameters())
    mean = {name: torch.zeros_like(parameter) for name, parameter in parameters.items()}
    square = {name: torch.zeros_like(parameter) for name, parameter in parameters.items()}
    done = 0
    for done, (image, batch) in enumerate(batches, start=1):
        for name, gradient in zip(parameters, _gradient(twin, image, batch, list(parameters.values()))):
            if gradient is not None:
                mean[name] += gradient
                square[name] += gradient.square()
        on_image(done)
    found = Gradients(done, {name: total / done for name, total in mean.items()}, {name: total / done for name, total in square.items()})
    if not all(bool(torch.isfinite(total).all()) for total in found.square.values()):
        raise DataError(f"the gradients of the loss are not finite numbers: the checkpoint's weights are too large or damaged; {INSTEAD}")
    return found


def _gradient(twin: nn.Module, image: str, batch: Batch, parameters: list[nn.Parameter]) -> tuple[Tensor | None, ...]:
    loss = twin.loss(batch)[0].sum()  # type: ignore[operator]
    if not torch.isfinite(loss):
        raise DataError(
            f"the loss on {image} is not a number ({loss.item()}): its labels or the checkpoint's weights are broken; {INSTEAD}"
        )
    return torch.autograd.grad(loss, parameters, allow_unused=True)


def calibrated_axes(twin: nn.Module, coupling: CouplingMap, found: Gradients) -> dict[str, Scores]:
    """The scores of all channels that can be removed, by each criterion that needs data, as `Calibration` keeps them.

    torch-pruning reads `.grad`: for Taylor the gradient, for Hessian the mean squared gradient. Its own `accumulate_grad` (1.6.1) keeps
    those of the last sample only, since it looks parameters up by name and stores them by themselves.
    """
    twin = twin.cpu()
    axes: dict[str, Scores] = {}
    for criterion, values in {"taylor": found.mean, "hessian": found.square}.items():
        for name, parameter in twin.named_parameters():
            parameter.grad = values[name].to(parameter.device)
        axes |= _by_axis(criterion, twin, coupling)
    twin.zero_grad(set_to_none=True)
    return axes


def _by_axis(criterion: str, twin: nn.Module, coupling: CouplingMap) -> dict[str, Scores]:
    modules = modules_of(twin)
    scored = ((group, library_scores(FROM_LABELS[criterion], group, modules)) for group in coupling.groups if group.prunable)
    return by_axis(criterion, coupling, scored)


def by_axis(criterion: str, coupling: CouplingMap, scored: Iterable[tuple[ChannelGroup, Scores]]) -> dict[str, Scores]:
    """Scores of groups as `Calibration` keeps them."""
    axes: dict[str, Scores] = {}
    for group, scores in scored:
        member = group.producers[0]
        axis = axes.setdefault(name_of(criterion, member), np.full(coupling.sizes[member.axis], np.nan))
        axis[member.indices[:, 0]] = scores
    return axes
