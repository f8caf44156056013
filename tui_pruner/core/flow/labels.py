"""Labels: one integer per channel of every parameter axis, and tensors of them that follow the activations.

A tensor of labels has its activation's shape, but dimensions along which nothing changes keep stride 0, so that it costs no memory and
`compact` can drop them before anything is computed. Label 0 means "not a channel".
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Labels = NDArray[np.int64]
NOT_A_CHANNEL = 0
PARAMETRIZED = ".parametrizations."
"""Where `torch.nn.utils.parametrize` keeps what a module's weight is computed from."""


@dataclass(frozen=True, order=True)
class Axis:
    """One dimension of one named parameter or buffer."""

    parameter: str
    dim: int

    @property
    def module(self) -> str:
        """The path of the module that works with the parameter: its owner, or the one whose weight a parametrization computes from it."""
        owner = "." + self.parameter.rpartition(".")[0]
        return owner.partition(PARAMETRIZED)[0][1:]

    @property
    def is_weight(self) -> bool:
        """Whether it is the module's weight, or what its weight is computed from (`weight_v`, `parametrizations.weight.original0`)."""
        own = self.parameter[len(self.module) :].lstrip(".")
        return own.removeprefix(PARAMETRIZED[1:]).startswith("weight")


@dataclass(frozen=True)
class AxisLabels:
    """The labels of a whole weight, one vector per dimension (None for those that carry no channels, such as a kernel's sides)."""

    shape: tuple[int, ...]
    vectors: tuple[Labels | None, ...]

    def permuted(self, order: Sequence[int]) -> AxisLabels:
        """The labels after the weight's dimensions were reordered."""
        return AxisLabels(tuple(self.shape[d] for d in order), tuple(self.vectors[d] for d in order))

    @cached_property
    def crossed(self) -> bool:
        """Whether elements belong to several channels, one for each axis."""
        return len(self.shape) > 1 and self.as_elements() is None

    def as_elements(self) -> Tensor | None:
        """Element labels where only one dimension is longer than 1; None where two axes would compete for an element."""
        long = [d for d, size in enumerate(self.shape) if size > 1]
        if not long and self.shape and self.vectors[0] is not None:
            long = [0]
        if len(long) != 1 or self.vectors[long[0]] is None:
            return None
        vector = self.vectors[long[0]]
        return along(vector, long[0], self.shape) if vector is not None else None


def along(vector: Labels, dim: int, shape: Sequence[int]) -> Tensor:
    """A tensor of labels of the given shape that follows `vector` along `dim` and is constant elsewhere (stride 0)."""
    sides = [1] * len(shape)
    sides[dim] = -1
    return torch.from_numpy(vector).view(sides).expand(tuple(shape))


def nothing(shape: Sequence[int]) -> Tensor:
    """A tensor of "not a channel" that takes no memory."""
    return torch.zeros((), dtype=torch.int64).expand(tuple(shape))


def compact(*labels: Tensor) -> tuple[Tensor, ...]:
    """The tensors of one shape with every dimension narrowed to 1 along which none of them changes."""
    shape, narrow = labels[0].shape, list(labels)
    for dim in range(len(shape)):
        if shape[dim] > 1 and all(tensor.stride(dim) == 0 for tensor in labels):
            narrow = [tensor.narrow(dim, 0, 1) for tensor in narrow]
    return tuple(narrow)


def varies(labels: Tensor, dim: int) -> bool:
    """Whether the labels change along a dimension."""
    if labels.shape[dim] < 2 or labels.stride(dim) == 0:
        return False
    (small,) = compact(labels)
    first = small.narrow(dim, 0, 1)
    return bool((small.narrow(dim, 1, 1) != first).any()) or bool((small != first).any())  # most that change do so at once


def changing(labels: Tensor) -> list[int]:
    """The dimensions along which labels change."""
    return [d for d in range(labels.ndim) if varies(labels, d)]


def spread(labels: Tensor) -> Tensor:
    """The labels with only those dimensions left along which they change, in their order; one dimension at least."""
    (small,) = compact(labels)
    for dim in range(small.ndim):
        if small.shape[dim] > 1 and not varies(small, dim):
            small = small.narrow(dim, 0, 1)
    return small.reshape([side for side in small.shape if side > 1] or [1])


def rows_of(labels: Tensor) -> list[Labels]:
    """The vectors along the last dimension that changes, one for each place in the others."""
    core = spread(labels)
    return [row.numpy() for row in core.reshape(-1, core.shape[-1])]


def flat(labels: Tensor) -> Labels:
    """All labels of a tensor as a vector, each run of repeated ones along constant dimensions only once."""
    (small,) = compact(labels)
    vector: Labels = small.reshape(-1).numpy()
    return vector


def channel_vector(labels: Tensor, dim: int) -> Labels | None:
    """The labels along one dimension, or None where they also change along another, so that no single vector says it."""
    (small,) = compact(labels)
    if any(side > 1 for d, side in enumerate(small.shape) if d != dim):
        small = small.transpose(0, dim).reshape(small.shape[dim], -1)
        if bool((small != small[:, :1]).any()):
            return None
        small = small[:, 0]
    vector: Labels = small.reshape(-1).expand(labels.shape[dim]).numpy()
    return vector


class LabelSource:
    """Hands out fresh labels and remembers which axis each belongs to."""

    def __init__(self) -> None:
        self.count = 1
        self.starts: dict[Axis, int] = {}
        self.sizes: dict[Axis, int] = {}

    def fresh(self, size: int) -> Labels:
        """`size` new labels that belong to no parameter."""
        first, self.count = self.count, self.count + size
        return np.arange(first, self.count, dtype=np.int64)

    def for_axis(self, axis: Axis, size: int) -> Labels:
        """`size` new labels for the indices of a parameter's dimension."""
        self.starts[axis], self.sizes[axis] = self.count, size
        return self.fresh(size)

    def owners(self, vector: Labels) -> list[Axis]:
        """The axes that any of these labels belong to."""
        axes, starts = list(self.starts), np.fromiter(self.starts.values(), dtype=np.int64)
        places = np.searchsorted(starts, vector, side="right") - 1
        ends = starts + np.fromiter(self.sizes.values(), dtype=np.int64)
        return [axes[place] for place in np.unique(places[(places >= 0) & (vector < ends[places])]).tolist()]

    def labels_of(self, axis: Axis) -> Labels:
        """The labels of an axis."""
        return np.arange(self.starts[axis], self.starts[axis] + self.sizes[axis], dtype=np.int64)
