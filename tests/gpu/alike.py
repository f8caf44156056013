"""Whether two devices gave the same figures."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

Figures = dict[str, Any]
"""Numbers, arrays of numbers and words by their names."""


SMALLEST = 1e-6
"""Numbers below it count as this large."""


def differences(here: Mapping[str, Any], there: Mapping[str, Any], tolerance: float) -> list[str]:
    """A line for each figure that is missing on one side, or further apart than a share of the largest number of its own."""
    found = [f"{name} is on one device only" for name in sorted(set(here) ^ set(there))]
    for name in (name for name in here if name in there):
        apart = distance(here[name], there[name])
        if not apart <= tolerance:
            found.append(f"{name}: {words(here[name])} and {words(there[name])}, {apart:.2g} apart, {tolerance:g} allowed")
    return found


def largest(here: Mapping[str, Any], there: Mapping[str, Any]) -> float:
    """How far the figures that both sides have are apart at most."""
    return max((distance(here[name], there[name]) for name in here if name in there), default=0.0)


def distance(one: Any, other: Any) -> float:
    """How far apart two figures are, as a share of the largest number in them; infinitely far where they cannot be compared."""
    if isinstance(one, str) or isinstance(other, str):
        return 0.0 if one == other else float("inf")
    left, right = np.asarray(one, np.float64), np.asarray(other, np.float64)
    if left.shape != right.shape:
        return float("inf")
    if not left.size:
        return 0.0
    apart = np.nan_to_num(np.abs(left - right), nan=np.inf).max()
    return float(apart / max(np.abs(left).max(), np.abs(right).max(), SMALLEST))


def strayed(one: Any, other: Any, tolerance: float) -> int:
    """How many numbers of two arrays are further apart than a share of the largest; none of what is no array."""
    left, right = np.asarray(one), np.asarray(other)
    if left.dtype.kind != "f" or not left.ndim or left.shape != right.shape:
        return 0
    return int((np.abs(left - right) > tolerance * max(np.abs(left).max(initial=0.0), SMALLEST)).sum())


def words(figure: Any) -> str:
    """A figure in a few characters."""
    if isinstance(figure, str):
        return figure
    numbers = np.asarray(figure, np.float64)
    return f"{float(numbers):g}" if not numbers.ndim else f"{numbers.size} numbers up to {np.abs(numbers).max(initial=0.0):g}"
