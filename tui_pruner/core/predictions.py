"""What of a model's output is a prediction: everything but the features that its head hands through from its own input, for the loss."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves


@contextmanager
def seeing_inputs(module: nn.Module | None) -> Iterator[dict[int, Tensor]]:
    """The tensors that enter a module, by identity, filled while the block runs."""
    seen: dict[int, Tensor] = {}
    if module is None:
        yield seen
        return
    handle = module.register_forward_pre_hook(lambda _, args: seen.update((id(leaf), leaf) for leaf in tensors(args)))
    try:
        yield seen
    finally:
        handle.remove()


def tensors(tree: Any) -> list[Tensor]:
    """All tensors of a nested structure."""
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, Tensor)]


def predictions(model: nn.Module, head: nn.Module | None, image: Tensor) -> list[Tensor]:
    """One forward's predictions, without gradients."""
    with torch.no_grad(), seeing_inputs(head) as features:
        return [leaf for leaf in tensors(model(image)) if id(leaf) not in features]
