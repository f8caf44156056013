"""A masked twin made without the program's own: float64 copies, slices zeroed from the list of kept indices, outputs listed by the test.

Nothing of the proof is used here, so that a mistake in it cannot hide from this comparison.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

Kept = Mapping[str, Mapping[str, list[int]]]
Told = Callable[[Any], list[Tensor]]


def zero_removed_slices(model: nn.Module, kept: Kept) -> nn.Module:
    """The original in float64 with zeros in every slice of a parameter that is not kept."""
    twin = copy.deepcopy(model).double()
    with torch.no_grad():
        for name, parameter in twin.named_parameters():
            for dim, indices in kept.get(name, {}).items():
                for index in set(range(parameter.shape[int(dim)])).difference(indices):
                    parameter.select(int(dim), index).zero_()
    return twin


def differences(model: nn.Module, pruned: nn.Module, kept: Kept, image: Tensor, told: Told, training: bool = False) -> tuple[float, float]:
    """How far the pruned model is from the twin, and the twin from the original, as shares of the largest value over all outputs.

    In training, modules that have children take the paths of training; a difference of shapes is infinite.
    """
    outputs = []
    for network in (copy.deepcopy(pruned).double(), zero_removed_slices(model, kept), copy.deepcopy(model).double()):
        for module in network.modules():
            module.training = training and next(module.children(), None) is not None
        with torch.no_grad():
            outputs.append(told(network(image.double())))
    if any(a.shape != b.shape for a, b in zip(outputs[0], outputs[1], strict=True)):
        return torch.inf, torch.inf
    figures = [(float((a - b).abs().max() / b.abs().max()), float((b - c).abs().max() / b.abs().max())) for a, b, c in zip(*outputs)]
    return max(difference for difference, _ in figures), max(effect for _, effect in figures)
