"""How far the outputs of the pruned model, of its masked twin and of the original are apart, place by place."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from tui_pruner.core.predictions import Leaves

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
        """Whether the effect stands out of the rounding at this precision."""
        return self.elements > 0 and self.effect >= LEAST_EFFECT[precision] * self.size and self.effect > 0.0

    def settled(self, precision: torch.dtype) -> bool:
        """Whether this precision suffices: agreement beside an effect that stands out, or a tensor that the cut does not reach at all."""
        return self.agrees(precision) and (self.telling(precision) or self.effect == self.difference == 0.0)

    def agrees(self, precision: torch.dtype) -> bool:
        """Whether the difference is within tolerance, and small beside the effect; where that does not stand out, within the rounding."""
        if self.telling(precision):
            return self.difference <= min(TOLERANCE * self.size, TELLING * self.effect)
        return self.difference <= (TOLERANCE if precision == torch.float32 else LEAST_EFFECT[precision]) * self.size


@dataclass(frozen=True)
class Gaps:
    """The gaps by place, at one precision; `whole` says whether there are whole numbers that this precision leaves out."""

    by_place: Mapping[str, Gap]
    precision: torch.dtype
    whole: bool = False

    @property
    def agree(self) -> bool:
        """Whether all of them agree."""
        return all(gap.agrees(self.precision) for gap in self.by_place.values())

    @property
    def telling(self) -> bool:
        """Whether the effect on any of them stands out of the rounding."""
        return any(gap.telling(self.precision) for gap in self.by_place.values())

    @property
    def settled(self) -> bool:
        """Whether a higher precision would say nothing else."""
        return self.telling and not self.whole and all(gap.settled(self.precision) for gap in self.by_place.values())

    @property
    def undefined(self) -> bool:
        """Whether the twin alone has no number somewhere."""
        return any(gap.undefined for gap in self.by_place.values())

    @property
    def compared(self) -> Iterable[str]:
        """The places where there was a number to compare."""
        return [place for place, gap in self.by_place.items() if gap.elements]

    @property
    def elements(self) -> int:
        """How many numbers were compared."""
        return sum(gap.elements for gap in self.by_place.values())


def gaps_between(actual: Leaves, expected: Leaves, before: Leaves, precision: torch.dtype) -> Gaps:
    """Compare the outputs of the pruned model, of its twin and of the original.

    At single precision whole numbers are left out, as rounding may turn them.

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
    """Compare one tensor. What is no number, or infinite, in the same place and alike in both, is equal and proves nothing."""
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
    """Return the largest absolute value, NaN where one is; 0 where there is none."""
    return float(values.abs().max()) if values.numel() else 0.0


def real(tensor: Tensor) -> bool:
    """Whether a tensor holds real or complex numbers."""
    return tensor.is_floating_point() or tensor.is_complex()


def numbers(tensor: Tensor) -> Tensor:
    """Return a tensor as real numbers, at the precision that it has."""
    dense = tensor if tensor.layout == torch.strided else tensor.to_dense()
    if dense.is_complex():
        return torch.view_as_real(dense.resolve_conj())
    return dense if dense.dtype in (torch.float32, torch.float64) else dense.double()


def equal(left: object, right: object) -> bool:
    """Whether two constants of an output are known to be equal; others than plain values are not known to differ."""
    if isinstance(left, COMPARABLE) and isinstance(right, COMPARABLE):
        return type(left) is type(right) and (left == right or (left != left and right != right))
    return type(left) is type(right)
