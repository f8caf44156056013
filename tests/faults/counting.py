"""The size of a real network, counted on itself: its parameters, and the operations of a forward as hooks on its layers see them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

COUNTED = (nn.Conv2d, nn.Linear)


def size_of(model: nn.Module, shape: Sequence[int]) -> tuple[int, int]:
    """Parameters, and operations for one image of a shape, 2 per multiply-add."""
    operations: list[int] = []

    def count(layer: nn.Module, images: tuple[Tensor], result: Tensor) -> None:
        assert isinstance(layer.weight, Tensor)
        positions = result.shape[2:].numel() if result.ndim == 4 else result.numel() // result.shape[-1]
        operations.append(2 * layer.weight.numel() * positions)

    hooks = [layer.register_forward_hook(count) for layer in model.modules() if isinstance(layer, COUNTED)]
    with torch.no_grad():
        model.eval()(torch.zeros(tuple(shape)))
    for hook in hooks:
        hook.remove()
    return sum(parameter.numel() for parameter in model.parameters()), sum(operations)
