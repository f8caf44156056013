"""Batch normalisation recalibrated: means and variances measured again on images, after a cut has changed what flows through."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from tui_pruner.core.inputs import Given, inputs_of


@dataclass(frozen=True)
class Recalibrated:
    """A copy of a model with new statistics, in how many layers, from how many images; its weights are the model's."""

    model: nn.Module
    layers: int
    images: int


def recalibrate(model: nn.Module, batches: Iterable[Given], device: str = "cpu") -> Recalibrated:
    """Average every normalisation's statistics over all batches of inputs, such as images, as training would see them.

    A layer that the forward does not reach keeps its statistics. Without a batch the model comes back as it is.
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
    """Send batches through; how many images they had."""
    device = next(model.parameters()).device
    images = 0
    with torch.no_grad():
        for batch in map(inputs_of, batches):
            batch.to(device).run(model)
            images += len(batch)
    return images
