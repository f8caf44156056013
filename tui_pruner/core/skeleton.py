"""Copies of a model that share its structure but not its weight: on the meta device for shapes, or with the very same tensors for surgery."""

from __future__ import annotations

import copy
from collections.abc import Iterator

import torch
from torch import Tensor, nn


def named_tensors(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Every parameter and buffer with its full name, each shared tensor under its first name only."""
    yield from model.named_parameters()
    yield from model.named_buffers()


def without_weights(model: nn.Module) -> nn.Module:
    """A copy of the model whose parameters and buffers live on the meta device; no weight is copied.

    Attributes that are tensors but no buffers (a detection head's strides) stay real, since `forward` reads their values.
    """
    memo: dict[int, object] = {}
    for _, tensor in named_tensors(model):
        empty = torch.empty_like(tensor, device="meta")
        memo[id(tensor)] = nn.Parameter(empty, requires_grad=False) if isinstance(tensor, nn.Parameter) else empty
    return copy.deepcopy(model, memo).eval()


def sharing_weights(model: nn.Module) -> nn.Module:
    """A copy of the model's modules around the very same tensors: replacing one in the copy leaves the original as it was."""
    memo: dict[int, object] = {id(tensor): tensor for _, tensor in named_tensors(model)}
    return copy.deepcopy(model, memo).eval()
