"""The nearest widths at which a cut layer is faster on this machine: kernels come in multiples, and a narrower layer may take longer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from tui_pruner.core.latency import Interval, ratio, time_in_turns

MULTIPLES = (8, 16, 32)
WARM_UP_SECONDS = 0.02


@dataclass(frozen=True)
class FasterWidth:
    """A layer with the milliseconds that it takes alone as it is, and at the nearest width that is surely faster; `ratio` of the two."""

    layer: str
    width: int
    milliseconds: float
    faster: int
    faster_milliseconds: float
    ratio: Interval


def faster_widths(
    original: nn.Module, pruned: nn.Module, batch: Tensor, runs: int, on_layer: Callable[[int, int], None] = lambda done, total: None
) -> list[FasterWidth]:
    """Time every layer that is narrower than in the original at the next multiples around its width, in turns with itself."""
    layers = narrowed_layers(original, pruned)
    shapes = input_shapes(pruned, layers, batch)
    found = []
    for number, (name, most) in enumerate(layers.items(), start=1):
        layer: Any = pruned.get_submodule(name)
        found += nearest_faster(name, layer, candidates(layer.out_channels, most), shapes[name], runs)
        on_layer(number, len(layers))
    return found


def narrowed_layers(original: nn.Module, pruned: nn.Module) -> dict[str, int]:
    """The plain convolutions whose outputs were cut, by path, with their outputs in the original."""
    wide = {name: module.out_channels for name, module in original.named_modules() if isinstance(module, nn.Conv2d)}
    return {
        name: wide[name]
        for name, module in pruned.named_modules()
        if isinstance(module, nn.Conv2d) and module.groups == 1 and module.out_channels < wide.get(name, 0)
    }


def candidates(width: int, most: int) -> list[int]:
    """The multiples next to a width on both sides, none beyond `most`, the nearest first; of two equally near ones the wider."""
    around = {side for step in MULTIPLES for side in ((width - 1) // step * step, (width // step + 1) * step)}
    return sorted((side for side in around if 0 < side <= most and side != width), key=lambda side: (abs(side - width), -side))


def input_shapes(model: nn.Module, layers: dict[str, int], batch: Tensor) -> dict[str, torch.Size]:
    """The shape of what enters each layer in one forward."""
    shapes: dict[str, torch.Size] = {}

    def keep(name: str) -> Any:
        return lambda module, args: shapes.__setitem__(name, args[0].shape)

    handles = [model.get_submodule(name).register_forward_pre_hook(keep(name)) for name in layers]
    with torch.inference_mode():
        model(batch)
    for handle in handles:
        handle.remove()
    return shapes


def nearest_faster(name: str, layer: nn.Conv2d, widths: list[int], shape: torch.Size, runs: int) -> list[FasterWidth]:
    """The first of some widths that is surely faster than the layer's own, by more than it is narrower; nothing where none is."""
    image = torch.rand(shape, device=layer.weight.device)
    layers = [layer, *(as_wide_as(width, layer) for width in widths)]
    own, *others = time_in_turns(layers, [image] * len(layers), runs, warm_up=WARM_UP_SECONDS)
    for width, timing in zip(widths, others, strict=True):
        share = ratio(timing, own)
        if share.high < min(1.0, width / layer.out_channels):
            return [FasterWidth(name, layer.out_channels, own.median, width, timing.median, share)]
    return []


def as_wide_as(width: int, layer: nn.Conv2d) -> nn.Conv2d:
    """The same convolution with another number of outputs."""
    wide: Any = nn.Conv2d(
        layer.in_channels,
        width,
        layer.kernel_size,  # type: ignore[arg-type]
        layer.stride,  # type: ignore[arg-type]
        layer.padding,  # type: ignore[arg-type]
        layer.dilation,  # type: ignore[arg-type]
        bias=layer.bias is not None,
    )
    return wide.to(layer.weight.device).eval()  # type: ignore[no-any-return]
