"""Integers that know which channels they count, for a forward to compute with while it is watched (`watch.py`)."""

from __future__ import annotations

import math
import operator
import sys
from collections.abc import Callable, Iterator, Sequence
from functools import reduce
from types import FrameType
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from tui_pruner.core.tracing.coupling_map import WidthName
from tui_pruner.core.tracing.labels import (
    AxisLabels,
    Labels,
    flat,
    vector_along,
)
from tui_pruner.core.tracing.values import (
    Computed,
)
from tui_pruner.domain.errors import Interruption

Known = Tensor | AxisLabels | Computed
"""The labels of a tensor, as a trace keeps them."""


class WidthKept(Interruption):
    """A width was made a key, which may outlive the trace: the forward has to run with plain integers."""


class Watching(Protocol):
    """What a width tells of how it is used; `named`: the channels that attributes of other modules count, as far as that was seen."""

    named: dict[WidthName, Labels]

    def use(self, width: ReadWidth) -> int:
        """Its number, which is used for more than a size."""

    def index(self, width: ReadWidth, caller: FrameType) -> None:
        """C code that is called from this frame asks for its number."""

    def keep(self) -> None:
        """It is made a key."""

    def is_fixed(self, labels: Known, dim: int | None) -> bool:
        """Whether every cut leaves a dimension as long."""


class ReadWidth:
    """A width that a forward read. It passes for an integer but is none, so that C code has to ask for its value too.

    `made`: a function and its operands; labels and the dimension whose length it is; all labels of the layer that has it as attribute; or
    the attribute of another module that it is from.
    """

    __slots__ = ("made", "number", "watch")

    def __init__(self, number: int, watch: Watching, made: tuple[Any, ...]) -> None:
        self.number = number
        self.watch = watch
        self.made = made

    @property  # type: ignore[misc]
    def __class__(self) -> type:
        return int

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return getattr(self.watch.use(self), name)

    def __hash__(self) -> int:
        self.watch.keep()
        return hash(self.number)

    def __index__(self) -> int:
        self.watch.index(self, sys._getframe(1))
        return self.number

    def __reduce__(self) -> Any:
        return int, (self.watch.use(self),)

    def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
        return np.asarray(self.watch.use(self), dtype=dtype)

    def __array_ufunc__(self, function: Any, method: str, *inputs: Any, **named: Any) -> Any:
        return getattr(function, method)(*(self.watch.use(one) if type(one) is ReadWidth else one for one in inputs), **named)

    def parts(self) -> list[ReadWidth]:
        """Itself and all that it was computed from, each once and before what was computed from it."""
        found: dict[int, ReadWidth] = {}
        waiting = [(self, False)]
        while waiting:  # a loop of the forward may have added thousands of widths up
            width, ready = waiting.pop()
            if id(width) in found:
                continue
            if ready:
                found[id(width)] = width
            else:
                waiting.append((width, True))
                waiting += [(part, False) for part in width.made if type(part) is ReadWidth]
        return list(found.values())

    def leaves(self) -> Iterator[tuple[Known, int | None]]:
        """The labels and dimensions that it was computed from."""
        for width in self.parts():
            first, *rest = width.made
            if isinstance(first, list):
                yield from ((labels, None) for labels in first)
            elif isinstance(first, WidthName):
                if first in self.watch.named:
                    yield torch.from_numpy(self.watch.named[first]), 0
            elif not callable(first):
                yield first, rest[0]

    def left(self, alive: np.ndarray) -> int | None:
        """Its value once only these labels are alive; None where that is not known."""
        known: dict[int, int | None] = {}
        for width in self.parts():
            operands = [known[id(part)] if type(part) is ReadWidth else part for part in width.made[1:]]
            known[id(width)] = width._left(alive, operands)
        return known[id(self)]

    def _left(self, alive: np.ndarray, operands: list[Any]) -> int | None:
        if isinstance(self.made[0], WidthName):
            counted = self.watch.named.get(self.made[0])
            return self.number if counted is None else int(alive[counted].sum())
        if not callable(self.made[0]):
            labels, dim = self.made if len(self.made) > 1 else (None, None)
            if self.watch.is_fixed(labels, dim):
                return self.number
            return int(alive[vector_along(labels, dim)].sum()) if isinstance(labels, Tensor) else None
        divides = self.made[0] in (operator.floordiv, operator.mod)
        return None if None in operands or (divides and not operands[1]) else self.made[0](*operands)


def staying(compute: Callable[[Any, Any], Any], turned: bool = False) -> Callable[[ReadWidth, Any], Any]:
    """The method for an operation on whole numbers, whose result is a width again."""

    def method(self: ReadWidth, other: Any) -> Any:
        if type(other) is not int and type(other) is not ReadWidth:
            number = self.watch.use(self)
            return compute(other, number) if turned else compute(number, other)
        left, right = (other, self) if turned else (self, other)
        return ReadWidth(compute(plain(left), plain(right)), self.watch, (compute, left, right))

    return method


def using(compute: Callable[..., Any], turned: bool = False) -> Callable[..., Any]:
    """The method for an operation that needs the number."""

    def method(self: ReadWidth, *others: Any) -> Any:
        numbers = [one.watch.use(one) if type(one) is ReadWidth else one for one in (self, *others)]
        return compute(*(reversed(numbers) if turned else numbers))

    return method


def plain(value: Any) -> Any:
    """A width as an integer; anything else as it is."""
    return value.number if type(value) is ReadWidth else value


STAYING = {"add": operator.add, "sub": operator.sub, "mul": operator.mul, "floordiv": operator.floordiv, "mod": operator.mod}
TURNING = ("truediv", "pow", "and", "or", "xor", "lshift", "rshift")
COMPARING = ("lt", "le", "eq", "ne", "gt", "ge", "neg", "pos", "abs", "invert")
NEEDING: dict[str, Callable[..., Any]] = {
    **{name: getattr(operator, f"__{name}__") for name in (*TURNING, *COMPARING)},
    **{kind.__name__: kind for kind in (int, float, complex, bool, str, repr, format, round, divmod)},
    **{name: getattr(math, name) for name in ("floor", "ceil", "trunc")},
}
for name, function in STAYING.items():
    setattr(ReadWidth, f"__{name}__", staying(function))
    setattr(ReadWidth, f"__r{name}__", staying(function, turned=True))
for name, function in NEEDING.items():
    setattr(ReadWidth, f"__{name}__", using(function))
for name in (*TURNING, "divmod"):
    setattr(ReadWidth, f"__r{name}__", using(NEEDING[name], turned=True))


class Sizes(tuple[Any, ...]):
    """The sizes of a tensor with widths among them; passes for `torch.Size`."""

    __slots__ = ()

    @property  # type: ignore[misc]
    def __class__(self) -> type:
        return torch.Size

    def __getitem__(self, place: Any) -> Any:
        found = tuple.__getitem__(self, place)
        return Sizes(found) if type(place) is slice else found

    def __add__(self, other: Any) -> Sizes:
        return Sizes((*self, *other))

    def __radd__(self, other: Any) -> Sizes:
        return Sizes((*other, *self))

    def numel(self) -> Any:
        """How many elements such a tensor has."""
        return reduce(operator.mul, self, 1)


NESTING = (ReadWidth, Sizes, tuple, list, dict, slice)


def without_widths(value: Any, found: list[ReadWidth]) -> Any:
    """Arguments with integers for widths, which are added to a list."""
    kind = type(value)
    if kind is ReadWidth:
        found.append(value)
        return value.number
    if kind is slice:
        return slice(*(without_widths(one, found) for one in (value.start, value.stop, value.step)))
    if kind in (tuple, list, Sizes):
        count = len(found)
        items = [without_widths(one, found) for one in value]
        return value if len(found) == count and kind is not Sizes else torch.Size(items) if kind is Sizes else kind(items)
    if kind is dict:
        return {key: without_widths(one, found) for key, one in value.items()}
    return value


def moves(labels: Known, dim: int) -> bool:
    """Whether labels may change along a dimension, so that its length may be a width."""
    if isinstance(labels, Tensor):
        return labels.shape[dim] > 1 and labels.stride(dim) != 0
    if isinstance(labels, AxisLabels):
        return labels.shape[dim] > 1 and labels.vectors[dim] is not None
    return any(moves(strand.labels, dim) for strand in labels.strands)


def vectors_of(labels: Known) -> list[Labels]:
    """All labels of a tensor."""
    if isinstance(labels, Tensor):
        return [flat(labels)]
    if isinstance(labels, AxisLabels):
        return [vector for vector in labels.vectors if vector is not None]
    return [flat(strand.labels) for strand in labels.strands]


def bounds(args: Sequence[Any], widths: Sequence[Labels], dim: int) -> list[tuple[ReadWidth, Labels | None]] | None:
    """What the bounds of a slice must count; None where a bound is fixed, or the index is more than slices."""
    index = args[1] if isinstance(args[1], tuple) else (args[1],)
    if any(type(one) is not slice for one in index) or dim >= len(index) or index[dim].step is not None:
        return None
    given = [(bound, width) for bound, width in zip((index[dim].start, index[dim].stop), widths) if type(bound) is ReadWidth or bound]
    found = parts([bound for bound, _ in given], [width for _, width in given])
    others = [bound for place, one in enumerate(index) if place != dim for bound in (one.start, one.stop, one.step)]
    return None if found is None else found + [(bound, None) for bound in others if type(bound) is ReadWidth]


def parts(sizes: Any, widths: Sequence[Labels]) -> list[tuple[ReadWidth, Labels | None]] | None:
    """What the sizes of a split must count; None where a size is fixed."""
    each = list(sizes) if isinstance(sizes, (tuple, list)) else [sizes] * len(widths)
    known: list[ReadWidth] = [size for size in each if type(size) is ReadWidth]
    return [*zip(known, widths)] if len(known) == len(each) == len(widths) else None
