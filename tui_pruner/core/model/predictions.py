"""What a model predicts (every tensor in its output, in any container), and how far the outputs of two models are apart.

An output is taken apart into its leaves, each under a name such as `output[1]['boxes']`. An object that might contain a tensor and cannot
be searched is an error: nothing would lock the channels in it, and the proof would not compare them.
"""

from __future__ import annotations

import functools
import math
import types
from collections.abc import Callable, ItemsView, Iterable, Iterator, KeysView, Mapping, Sequence, Set, ValuesView
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from enum import Enum
from typing import Any

import torch
from torch import Tensor, nn

from tui_pruner.core.model.copies import modules_of

ROOT = "output"
MOST_LEAVES = 100_000
CONSTANTS = (
    bool, int, float, complex, str, bytes, type(None), type, Enum, range, slice, nn.Module, types.ModuleType, torch.Size,
    torch.dtype, torch.device, torch.layout, torch.memory_format,
)  # fmt: skip
"""What holds no output: a module is part of the model, and what a forward leaves in it is not an output."""
Leaves = dict[str, Any]


class Unseen(Exception):
    """Types that contain no output: a module is part of the model, and what a forward stores in it does not count."""


def leaves_of(output: Any) -> Leaves:
    """Return the tensors and constants of an output by their names.

    Mappings, sequences, iterators (which are exhausted), objects with attributes and closures are searched.

    Raises:
        Unseen: it contains an object that cannot be searched, or more than the limit.
    """
    found: Leaves = {}
    for place, leaf in _walk(output, ROOT, set()):
        found[place] = leaf
        if len(found) > MOST_LEAVES:
            raise Unseen(f"the forward gives more than {MOST_LEAVES:,} outputs: return tensors")
    return found


def tensors(output: Any) -> list[Tensor]:
    """Return all tensors of an output, in their order."""
    return [leaf for leaf in leaves_of(output).values() if isinstance(leaf, Tensor)]


def predicted(output: Any, features: Mapping[int, Tensor]) -> Leaves:
    """Return the leaves of an output that are predictions: all except some features.

    Raises:
        Unseen: it contains no tensor, or an object that cannot be searched."""
    leaves = leaves_of(output)
    found = {place: leaf for place, leaf in leaves.items() if id(leaf) not in features}
    if not any(isinstance(leaf, Tensor) for leaf in found.values()):
        kind = type(output).__name__
        raise Unseen(f"no tensor is found in what the forward returns ({kind}): return tensors, in tuples, lists, dicts or dataclasses")
    return found


DETECTION_HEADS: list[Callable[[nn.Module], bool]] = []
"""Predicates for heads whose features in the output are for the loss only; frameworks register them."""


@contextmanager
def features_passed_through(model: nn.Module) -> Iterator[dict[int, Tensor]]:
    """Collect, by identity, the features that Ultralytics' detection heads pass from their inputs to their outputs while the block runs.

    The loss reads their shapes; no prediction depends on them. Only those heads do so: anything else that a model returns is a prediction,
    even if it is also the input of its last module.
    """
    features: dict[int, Tensor] = {}
    with ExitStack() as hooks:
        for _, module in modules_of(model):
            if is_detection_head(module):
                hooks.callback(module.register_forward_hook(functools.partial(_collect, features)).remove)
        yield features


def is_detection_head(module: nn.Module) -> bool:
    """Whether a framework has registered a module as one that passes features through."""
    return any(known(module) for known in DETECTION_HEADS)


def _collect(features: dict[int, Tensor], module: nn.Module, args: Any, output: Any) -> None:
    entered = {storage_of(tensor) for tensor in tensors(args)}
    for place, leaf in leaves_of(output).items():
        if "['feats']" in place and isinstance(leaf, Tensor) and storage_of(leaf) in entered:
            features[id(leaf)] = leaf


def storage_of(tensor: Tensor) -> int:
    """Return the identity of a tensor's memory, which it shares with its views and with itself detached."""
    return int(tensor.untyped_storage()._cdata)


def _walk(value: Any, place: str, above: set[int]) -> Iterator[tuple[str, Any]]:
    """Go through all that a value holds; `above` are the values around it, for what holds itself."""
    if isinstance(value, (Tensor, *CONSTANTS)):
        yield place, value
    if isinstance(value, CONSTANTS) or id(value) in above:
        return
    for below, part in attributes_of(value, place) if isinstance(value, Tensor) else _parts(value, place):
        yield from _walk(part, below, above | {id(value)})


def _parts(value: Any, place: str) -> Iterator[tuple[str, Any]]:
    """What a value holds directly: its entries, and its attributes."""
    if isinstance(value, Mapping):
        yield from ((f"{place}[{key!r}]", entry) for key, entry in value.items())
    elif isinstance(value, (Sequence, Iterator, KeysView, ItemsView, ValuesView)):
        for number, entry in enumerate(value):
            if number > MOST_LEAVES:
                raise Unseen(f"{place} of the forward's output has no end: return tensors")
            yield f"{place}[{number}]", entry
    elif isinstance(value, Set):
        if any(not isinstance(entry, CONSTANTS) for entry in value):
            raise Unseen(f"{place} of the forward's output is a {type(value).__name__}, which has no order: return a list")
    elif isinstance(value, functools.partial):
        yield from ((f"{place}.{name}", getattr(value, name)) for name in ("func", "args", "keywords"))
    elif isinstance(value, (types.MethodType, types.BuiltinFunctionType)):
        yield f"{place}.__self__", value.__self__
    elif isinstance(value, types.FunctionType):
        cells = [(name, cell) for name, cell in zip(value.__code__.co_freevars, value.__closure__ or ()) if cell != types.CellType()]
        yield from ((f"{place}.{name}", cell.cell_contents) for name, cell in cells)
        yield from ((f"{place}.__defaults__[{number}]", default) for number, default in enumerate(value.__defaults__ or ()))
    elif not hasattr(value, "__dict__") and not slots_of(value) and type(value) is not object:
        raise Unseen(f"{place} of the forward's output is a {type(value).__name__}, in which no tensor can be looked for: return tensors")
    yield from attributes_of(value, place)


def slots_of(value: Any) -> list[str]:
    """Return the names of the slots that a value's classes declare, private ones as Python stores them."""
    declared = [(base, vars(base).get("__slots__", ())) for base in type(value).__mro__]
    names = [(base, name) for base, given in declared for name in ([given] if isinstance(given, str) else given)]
    private = {(base, name): name.startswith("__") and not name.endswith("__") for base, name in names}
    own = [f"_{base.__name__.lstrip('_')}{name}" if private[base, name] else name for base, name in names]
    return [name for name in own if name not in ("__dict__", "__weakref__")]


def attributes_of(value: Any, place: str) -> Iterator[tuple[str, Any]]:
    """Go through what a value keeps in attributes of its own, by their places."""
    kept = {**getattr(value, "__dict__", {}), **{name: getattr(value, name) for name in slots_of(value) if hasattr(value, name)}}
    yield from ((f"{place}.{name}", entry) for name, entry in kept.items())


TOLERANCE = 1e-4
TELLING = 0.01
TINY = 1e-30
LEAST_EFFECT = {torch.float32: 1e-4, torch.float64: 1e-11}
COMPARABLE = (bool, int, float, complex, str, bytes, type(None), torch.Size, torch.dtype, torch.device)


class Mismatch(Exception):
    """The pruned model's output has another structure, shape or constant than the twin's."""


@dataclass(frozen=True)
class Gap:
    """One tensor of the output: its size (largest value), how far pruned and twin are apart, how far twin and original are.

    `elements`: how many of its numbers were compared, which are those that are finite. `undefined`: whether the twin alone has no number
    somewhere, as 0/0 where a channel is divided by its own norm.
    """

    size: float
    difference: float
    effect: float
    elements: int
    undefined: bool = False

    def telling(self, precision: torch.dtype) -> bool:
        """Whether the effect is larger than the rounding in this precision."""
        return self.elements > 0 and self.effect >= LEAST_EFFECT[precision] * self.size and self.effect > 0.0

    def settled(self, precision: torch.dtype) -> bool:
        """Whether this precision decides: the outputs agree and the effect is large enough, or the cut does not affect this tensor."""
        return self.agrees(precision) and (self.telling(precision) or self.effect == self.difference == 0.0)

    def agrees(self, precision: torch.dtype) -> bool:
        """Whether the difference is within tolerance and small beside the effect; where the effect is too small, within rounding."""
        if self.telling(precision):
            return self.difference <= min(TOLERANCE * self.size, TELLING * self.effect)
        return self.difference <= (TOLERANCE if precision == torch.float32 else LEAST_EFFECT[precision]) * self.size


@dataclass(frozen=True)
class Gaps:
    """The gaps by name of the output, in one precision; `whole`: there are integers that this precision leaves out."""

    by_place: Mapping[str, Gap]
    precision: torch.dtype
    whole: bool = False

    @property
    def agree(self) -> bool:
        """Whether all of them agree."""
        return all(gap.agrees(self.precision) for gap in self.by_place.values())

    @property
    def telling(self) -> bool:
        """Whether the effect on any of them is larger than the rounding."""
        return any(gap.telling(self.precision) for gap in self.by_place.values())

    @property
    def settled(self) -> bool:
        """Whether a higher precision would give the same verdict."""
        return self.telling and not self.whole and all(gap.settled(self.precision) for gap in self.by_place.values())

    @property
    def undefined(self) -> bool:
        """Whether the twin alone has NaN somewhere."""
        return any(gap.undefined for gap in self.by_place.values())

    @property
    def compared(self) -> Iterable[str]:
        """The names of the outputs with a number to compare."""
        return [place for place, gap in self.by_place.items() if gap.elements]

    @property
    def elements(self) -> int:
        """How many numbers were compared."""
        return sum(gap.elements for gap in self.by_place.values())


def gaps_between(actual: Leaves, expected: Leaves, before: Leaves, precision: torch.dtype) -> Gaps:
    """Compare the outputs of the pruned model, of its twin and of the original.

    Integers are left out in single precision, since rounding may change them.

    Raises:
        Mismatch: another structure or shape, or another constant where those of twin and original are the same.
    """
    for place in sorted(actual.keys() ^ expected.keys()):
        raise Mismatch(f"{place} is in the output of {'the pruned model' if place in actual else 'the masked twin'} alone")
    found: dict[str, Gap] = {}
    whole = False
    for place, wanted in expected.items():
        given, was = actual[place], before.get(place)
        if isinstance(wanted, Tensor) and isinstance(given, Tensor) and isinstance(was, Tensor):
            if given.shape != wanted.shape:
                raise Mismatch(f"{place} has the shape {list(given.shape)} in place of {list(wanted.shape)}")
            if not real(wanted) and precision == torch.float32:
                whole = True
            else:
                found[place] = gap_between(*(numbers(tensor) for tensor in (given, wanted, was)))
        elif equal(was, wanted) and not equal(given, wanted):
            raise Mismatch(f"{place} is {given!r} in place of {wanted!r}")
    return Gaps(found, precision, whole)


def gap_between(given: Tensor, wanted: Tensor, was: Tensor) -> Gap:
    """Compare one tensor. NaN or infinity in the same position of both counts as equal and proves nothing."""
    was = was if was.shape == wanted.shape else wanted
    size, difference, effect = largest(wanted), largest(given - wanted), largest(wanted - was)
    if math.isfinite(difference + effect):
        return Gap(size, difference, effect, wanted.numel())
    finite = given.isfinite() & wanted.isfinite()
    alike = finite | (given == wanted) | (given.isnan() & wanted.isnan())
    both = wanted.isfinite() & was.isfinite()
    return Gap(
        size=largest(wanted[finite]),
        difference=largest((given - wanted)[finite]) if bool(alike.all()) else math.inf,
        effect=largest((wanted - was)[both]),
        elements=int(finite.sum()),
        undefined=bool((~wanted.isfinite() & given.isfinite() & was.isfinite()).any()),
    )


def largest(values: Tensor) -> float:
    """Return the largest absolute value, NaN if any is; 0 without values."""
    return float(values.abs().max()) if values.numel() else 0.0


def real(tensor: Tensor) -> bool:
    """Whether a tensor holds real or complex numbers."""
    return tensor.is_floating_point() or tensor.is_complex()


def numbers(tensor: Tensor) -> Tensor:
    """Return a tensor as real numbers, in its own precision."""
    dense = tensor if tensor.layout == torch.strided else tensor.to_dense()
    if dense.is_complex():
        return torch.view_as_real(dense.resolve_conj())
    return dense if dense.dtype in (torch.float32, torch.float64) else dense.double()


def equal(left: object, right: object) -> bool:
    """Whether two constants of an output are equal; objects other than plain values count as equal."""
    if isinstance(left, COMPARABLE) and isinstance(right, COMPARABLE):
        return type(left) is type(right) and (left == right or (left != left and right != right))
    return type(left) is type(right)
