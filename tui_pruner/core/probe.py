"""Images to send through a network when no data set is at hand: areas, edges and noise, so that deep layers get a signal."""

from __future__ import annotations

import torch
from torch import Tensor, nn

COARSE = 4


def probe_images(count: int, channels: int, side: int, generator: torch.Generator | None = None) -> Tensor:
    """[count, channels, side, side] in 0..1. Plain noise would average out on its way down, and every image would look the same."""
    coarse = torch.rand(count, channels, COARSE, COARSE, generator=generator)
    areas = nn.functional.interpolate(coarse, size=(side, side), mode="nearest")
    contrast = torch.rand(count, 1, 1, 1, generator=generator)
    noise = torch.rand(count, channels, side, side, generator=generator)
    return (0.75 * contrast * areas + 0.25 * noise).clamp(0.0, 1.0)
