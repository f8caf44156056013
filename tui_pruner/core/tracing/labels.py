"""Labels of channels, and the record of a trace."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

if TYPE_CHECKING:
    from tui_pruner.core.tracing.coupling import JoinedLabels
    from tui_pruner.core.tracing.coupling_map import Normalised, WidthName
    from tui_pruner.core.tracing.inner_blocks import InnerLabels

Labels = NDArray[np.int64]
"""One integer for each channel; 0 for an element that belongs to no channel."""
PARAMETRIZED = ".parametrizations."
"""Where `torch.nn.utils.parametrize` keeps what a module's weight is computed from."""


class Axis(NamedTuple):
    """One dimension of one named parameter or buffer."""

    parameter: str
    dim: int

    @property
    def module(self) -> str:
        """The path of the module that uses the parameter: its owner, or the one whose weight a parametrization computes from it."""
        owner = "." + self.parameter.rpartition(".")[0]
        return owner.partition(PARAMETRIZED)[0][1:]

    @property
    def is_weight(self) -> bool:
        """Whether it is the module's weight, or one that its weight is computed from (`weight_v`, `parametrizations.weight.original0`)."""
        own = self.parameter[len(self.module) :].lstrip(".")
        return own.removeprefix(PARAMETRIZED[1:]).startswith("weight")


@dataclass(frozen=True)
class AxisLabels:
    """The labels of a whole weight, one vector per dimension; None for dimensions without channels, such as the kernel's sides."""

    shape: tuple[int, ...]
    vectors: tuple[Labels | None, ...]

    def permuted(self, order: Sequence[int]) -> AxisLabels:
        """The labels after the weight's dimensions were reordered."""
        return AxisLabels(tuple(self.shape[d] for d in order), tuple(self.vectors[d] for d in order))

    @cached_property
    def crossed(self) -> bool:
        """Whether elements belong to several channels, one on each axis."""
        return len(self.shape) > 1 and self.as_elements() is None

    def as_elements(self) -> Tensor | None:
        """A label for each element where only one dimension is longer than 1; None where an element would have two labels."""
        long = [d for d, size in enumerate(self.shape) if size > 1]
        if not long and self.shape and self.vectors[0] is not None:
            long = [0]
        vector = self.vectors[long[0]] if len(long) == 1 else None
        return along(vector, long[0], self.shape) if vector is not None else None


def along(vector: Labels, dim: int, shape: Sequence[int]) -> Tensor:
    """A tensor of labels of the given shape that follows `vector` along `dim` and is constant elsewhere (stride 0)."""
    labels = torch.from_numpy(vector)
    if len(vector) == shape[dim]:
        steps = [0] * len(shape)
        steps[dim] = labels.stride(0)
        return labels.as_strided(tuple(shape), steps)
    sides = [1] * len(shape)
    sides[dim] = -1
    return labels.view(sides).expand(tuple(shape))


def nothing(shape: Sequence[int]) -> Tensor:
    """A tensor of zeros ("no channel") that takes no memory."""
    return torch.zeros((), dtype=torch.int64).expand(tuple(shape))


def compact(*labels: Tensor) -> tuple[Tensor, ...]:
    """Tensors of one shape, narrowed to length 1 along every dimension in which none of them changes."""
    shape, strides = labels[0].shape, [tensor.stride() for tensor in labels]
    sides = [side if any(steps) else 1 for side, *steps in zip(shape, *strides)]
    if sides == list(shape):
        return labels
    return tuple(tensor.as_strided(sides, steps) for tensor, steps in zip(labels, strides))


def small(labels: Tensor) -> Labels:
    """The labels with length 1 along dimensions of stride 0, without a copy (NumPy, whose operations are faster and not traced)."""
    array: Labels = labels.numpy()
    if 0 not in array.strides:
        return array
    return array[tuple([slice(None) if stride else slice(1) for stride in array.strides])]


def all_channels(labels: Labels) -> bool:
    """Whether each of these labels is a channel (`all` takes three times as long for a short vector)."""
    return int(np.count_nonzero(labels)) == labels.size


def has_channels(labels: Tensor) -> bool:
    """Whether any of these labels is a channel."""
    array = small(labels)
    return array.size > 0 and (array.item(0) != 0 or bool(array.any()))


def varies(labels: Tensor, dim: int) -> bool:
    """Whether the labels change along a dimension."""
    return labels.shape[dim] > 1 and labels.stride(dim) != 0 and differs_along(small(labels), dim)


def differs_along(array: Labels, dim: int) -> bool:
    """Whether an array longer than 1 along a dimension changes along it."""
    if not array.size:
        return False
    array = array.swapaxes(0, dim)
    return bool((array[0] != array[1]).any()) or bool((array != array[:1]).any())  # the first two suffice most often


def changing(labels: Tensor) -> list[int]:
    """The dimensions along which labels change."""
    array = small(labels)
    return [dim for dim, side in enumerate(array.shape) if side > 1 and differs_along(array, dim)]


def condensed(labels: Tensor, dims: Sequence[int]) -> Tensor:
    """The labels along these dimensions, at the first position of all others; at least one dimension is left."""
    array = labels.numpy()[tuple([slice(None) if dim in dims else 0 for dim in range(labels.ndim)])]
    return torch.from_numpy(np.atleast_1d(array))


def reshaped(labels: Tensor, dims: Sequence[int], shape: Sequence[int]) -> tuple[Tensor, list[int]]:
    """Labels that change along these dimensions, in another shape, and the dimensions along which they change there.

    Along all others they have stride 0, and are not copied unless they are merged with one that changes.
    """
    found, strides = unchanged_by(labels.shape, dims, shape), labels.stride()
    if found is None:
        sides, wanted = list(labels.shape), list(shape)
        for before, after in segments(sides, wanted):
            if not any(dim in dims for dim in before):
                for dim in before:
                    sides[dim] = 1
                for dim in after:
                    wanted[dim] = 1
        labels = labels.as_strided(sides, strides).reshape(wanted)
        found = changing(labels)
        moved = [labels.stride(dim) for dim in found]
    else:
        moved = [strides[dim] for dim in dims]
    steps = [0] * len(shape)
    for dim, stride in zip(found, moved):
        steps[dim] = stride
    return labels.as_strided(tuple(shape), steps), found


def unchanged_by(shape: Sequence[int], dims: Sequence[int], other: Sequence[int]) -> list[int] | None:
    """Where these dimensions are after a reshape to another shape that neither splits nor merges any of them; None where it does."""
    found = []
    for before, after in segments(shape, other):
        long, now = [dim for dim in before if shape[dim] > 1], [dim for dim in after if other[dim] > 1]
        if not any(dim in dims for dim in long):
            continue
        if not len(long) == len(now) == 1:
            return None
        found += now
    return found


def segments(before: Sequence[int], after: Sequence[int]) -> list[tuple[range, range]]:
    """The smallest runs of dimensions of two shapes that have as many elements."""
    found, left, right = [], 0, 0
    while left < len(before) or right < len(after):
        start, begin, have, want = left, right, 1, 1
        while have != want or left == start or right == begin:
            if have <= want and left < len(before):
                have, left = have * before[left], left + 1
            elif right < len(after):
                want, right = want * after[right], right + 1
            else:
                break
        found.append((range(start, left), range(begin, right)))
    return found


def rows_of(labels: Tensor) -> list[Labels]:
    """The vectors along the last dimension that changes, one for each position in the others."""
    array = condensed(labels, changing(labels)).numpy()
    return list(array.reshape(-1, array.shape[-1]))


def vector_along(labels: Tensor, dim: int) -> Labels:
    """The labels along one dimension, at the first position of all others."""
    vector: Labels = labels.numpy()[tuple([slice(None) if d == dim else 0 for d in range(labels.ndim)])]
    return vector


def flat(labels: Tensor) -> Labels:
    """All labels of a tensor as a vector; labels repeated along constant dimensions count once."""
    return small(labels).reshape(-1)


def channel_vector(labels: Tensor, dim: int) -> Labels | None:
    """The labels along one dimension; None where they also change along another, so that no single vector describes them."""
    array = small(labels)
    length = array.shape[dim]
    if array.size > length:
        array = np.moveaxis(array, dim, 0).reshape(length, -1)
        if bool((array != array[:, :1]).any()):
            return None
        array = array[:, 0]
    vector = array.reshape(-1)
    return vector if length == labels.shape[dim] else np.repeat(vector, labels.shape[dim])


class LabelSource:
    """Makes new labels and remembers which axis each belongs to."""

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


Role = Literal["out", "in", "depthwise", "norm", "scale"]


@dataclass(frozen=True)
class Operation:
    """One operation that ran: its aten name, the module whose forward called it, and how it tied channels."""

    index: int
    name: str
    module: str
    detail: str = ""


class Union(NamedTuple):
    """Labels that an operation tied in pairs: each pair is one channel."""

    operation: int
    left: Labels
    right: Labels


@dataclass(frozen=True)
class LinkedLabels:
    """An axis cut into equal parts that must lose equally many channels: the rows of a view. Of heads, a whole one may also be removed."""

    operation: int
    parts: tuple[Labels, ...]
    kind: Literal["", "rows", "heads"] = ""


@dataclass(frozen=True)
class LockedLabels:
    """Labels that may not be removed, and why. Where several reasons apply, the one of the lowest rank is shown."""

    operation: int
    labels: Labels
    reason: str
    dim: int
    rank: int


BY_PLACE = "slice takes channels by their place"


@dataclass(frozen=True)
class SizedLabels:
    """Labels at an operation with sizes in its arguments, which the forward may have computed or may have from an attribute.

    `place` is the module's class and how many operations it had run. `widths`: vectors of labels as long as the sizes that the operation
    must have along `dim`; `otherwise`: why they are locked where it has others. `rows`: a channel of each row of a view, their dimension.
    `follows`: the sizes were computed from the widths in `FlowRecord.counted`.
    """

    operation: int
    elements: Labels
    place: tuple[str, int]
    widths: tuple[Labels, ...] = ()
    dim: int = 0
    otherwise: str = ""
    rows: tuple[Labels, int] | None = None
    follows: bool = False

    @cached_property
    def labels(self) -> Labels:
        """Each label once."""
        return np.unique(self.elements)


@dataclass(frozen=True)
class ProductLabels:
    """A convolution or matrix product without a stored weight: its number among all that ran, and for each factor of its work a vector of
    the labels that it is proportional to.
    """

    operation: int
    place: int
    factors: tuple[Labels, ...]


@dataclass(frozen=True)
class ScaledLabels:
    """Rows of a layer's weight and bias whose values attention divides by the root of a width, one label for each channel of the width."""

    parameters: tuple[Axis, ...]
    rows: Labels
    width: Labels


Step = tuple[str, tuple[float, ...] | None]
"""The name of an operation and the numbers among its arguments; None where these may change, since weights make up for it."""


@dataclass
class FlowRecord:
    """Everything that one run of the model showed about its channels; `steps` are those in evaluation mode.

    `spared`: axes that something is divided by, where zeros in a removed channel would give NaN; `relied`: axes whose zeros in a removed
    channel make that channel of a computed weight zero; `decided`: channels by whose number the forward may decide, None where no trace
    watched; `counted`: widths that became sizes, with what each must count, and the operations.
    """

    source: LabelSource = field(default_factory=LabelSource)
    operations: list[Operation] = field(default_factory=list)
    steps: list[Step] = field(default_factory=list)
    unions: list[Union] = field(default_factory=list)
    links: list[LinkedLabels] = field(default_factory=list)
    sized: list[SizedLabels] = field(default_factory=list)
    named: dict[WidthName, Labels] = field(default_factory=dict)
    scaled: list[ScaledLabels] = field(default_factory=list)
    products: list[ProductLabels] = field(default_factory=list)
    locks: list[LockedLabels] = field(default_factory=list)
    roles: dict[Axis, Role] = field(default_factory=dict)
    unknown: Counter[str] = field(default_factory=Counter)
    remarks: list[str] = field(default_factory=list)
    spared: set[Axis] = field(default_factory=set)
    relied: set[Axis] = field(default_factory=set)
    block_outputs: dict[str, Labels] = field(default_factory=dict)
    inner: dict[str, InnerLabels] = field(default_factory=dict)
    joined: JoinedLabels | None = None
    approximate: dict[str, Normalised] = field(default_factory=dict)
    decided: list[Labels] | None = None
    counted: list[tuple[Any, Labels | None, int]] = field(default_factory=list)

    def note(self, name: str, module: str) -> Operation:
        """Add an operation and return its number."""
        self.operations.append(Operation(len(self.operations), name, module))
        return self.operations[-1]

    def unify(self, operation: int, left: Labels, right: Labels) -> None:
        """Tie two vectors of labels, position by position; positions that have no channel in either vector are left out."""
        if not (all_channels(left) and all_channels(right)):
            both = (left != 0) & (right != 0)
            left, right = left[both], right[both]
        if len(left) and (left.item(0) != right.item(0) or (left != right).any()):
            self.unions.append(Union(operation, left, right))

    def lock(self, operation: int, labels: Labels, reason: str, dim: int = 1, rank: int = 5) -> None:
        """Forbid the removal of these labels."""
        present = np.zeros(self.source.count, dtype=bool)
        present[labels] = True
        found = np.flatnonzero(present[1:]) + 1
        if len(found):
            self.locks.append(LockedLabels(operation, found, reason, dim, rank))
