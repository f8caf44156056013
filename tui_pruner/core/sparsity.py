"""Sparse training: normalisation scales pressed towards zero, so that a later cut finds channels that hardly matter.

Source: Z. Liu et al., Learning Efficient Convolutional Networks through Network Slimming, 2017 (its subgradient of the L1 penalty).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

SMALL = 0.1
"""The part of its layer's largest scale below which a scale counts as small."""


def scales_of(model: nn.Module) -> list[Tensor]:
    """The scales of every batch normalisation, one for each channel."""
    layers = [module for module in model.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    return [layer.weight for layer in layers if layer.weight is not None]


def press(model: nn.Module, strength: float, scale: float = 1.0) -> None:
    """Add the penalty's gradient to what backward left; `scale` is by what a gradient scaler has multiplied that."""
    with torch.no_grad():
        for weight in scales_of(model):
            if weight.grad is not None:
                weight.grad.add_(torch.sign(weight), alpha=strength * scale)


def small_share(model: nn.Module) -> float:
    """The share of all channels whose scale is small beside the largest of their layer."""
    scales = [weight.detach().abs() for weight in scales_of(model)]
    small = sum(int((scale < SMALL * scale.max()).sum()) for scale in scales)
    return small / max(1, sum(len(scale) for scale in scales))
