"""A forecast of the metric after pending cuts: the sum of a scan's drops, corrected by how such sums came out in this session."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

NOISE = 0.01
"""The least error of a metric on a few images, after any cut."""
UNTRIED = 0.5
"""The relative error of a sum of drops before any was measured: drops of layers that are cut together do not just add up."""
WEIGHT = 0.02
"""Weight of the uncorrected sum beside measured drops, as a drop."""
RANGE = (0.2, 5.0)
WIDEST = 0.25
"""No forecast whose error may exceed this share of the metric before."""


@dataclass(frozen=True)
class Forecast:
    """The metric before (`base`), the sum of the scanned drops, the expected metric, and its error."""

    base: float
    drop: float
    expected: float
    spread: float


def drop_at(drops: Mapping[float, float], share: float) -> float | None:
    """The drop of the metric without a share of a layer's channels, linear between scanned shares; None beyond the largest."""
    points = sorted({0.0: 0.0, **drops}.items())
    if len(points) < 2 or share > points[-1][0] + 0.005:
        return None
    for (left, low), (right, high) in pairwise(points):
        if share <= right:
            return low + (high - low) * (share - left) / (right - left)
    return points[-1][1]


def summed(
    cuts: Mapping[str, tuple[float, float]], layers: Mapping[str, Mapping[float, float]], coupled: Mapping[str, int]
) -> float | None:
    """The drops of all cuts together: each layer's at its share after them, less that at its share before.

    None where a layer was not scanned that far. Layers with the same number in `coupled` lose the same channels: the one that costs most
    counts for all of them.
    """
    found: dict[object, float] = {}
    for layer, (before, after) in cuts.items():
        drops = layers.get(layer, {})
        first, last = drop_at(drops, before), drop_at(drops, after)
        if first is None or last is None:
            return None
        group = coupled.get(layer, layer)
        found[group] = max(last - first, found.get(group, -math.inf))
    return sum(found.values()) if found else None


Typical = Callable[[float], tuple[float, float] | None]
"""The mean drop of all scanned groups at a share of their channels, and its standard deviation."""


def summed_with_estimates(
    cuts: Mapping[str, tuple[float, float]], layers: Mapping[str, Mapping[float, float]], coupled: Mapping[str, int], typical: Typical
) -> tuple[float, float] | None:
    """Like `summed`, for a scan that was stopped: groups without a trial lose what groups lose on average.

    Return the sum, and the standard deviation of the estimated part; None where too few groups were scanned.
    """
    unknown: dict[object, float] = {}
    known = {}
    for layer, (before, after) in cuts.items():
        drops = layers.get(layer, {})
        if drop_at(drops, before) is None or drop_at(drops, after) is None:
            group = coupled.get(layer, layer)
            unknown[group] = max(after, unknown.get(group, 0.0))
        else:
            known[layer] = (before, after)
    total, variance = summed(known, layers, coupled) or 0.0, 0.0
    for share in unknown.values():
        found = typical(share)
        if found is None:
            return None
        total, variance = total + found[0], variance + found[1] ** 2
    return total, math.sqrt(variance)


def correction_factor(tried: Iterable[tuple[float, float]]) -> tuple[float, float]:
    """The correction factor for a sum of drops, and the relative error of the product.

    `tried`: for every step with a forecast and a measurement, the sum and the measured drop. The factor is the ratio of all measured drops
    to all sums, with a drop of `WEIGHT` that came out exactly as its sum added; the error is the root mean square of the errors so far,
    with `UNTRIED` as one of them.
    """
    pairs = list(tried)
    factor = (WEIGHT + sum(max(came, 0.0) for _, came in pairs)) / (WEIGHT + sum(max(drop, 0.0) for drop, _ in pairs))
    factor = min(max(factor, RANGE[0]), RANGE[1])
    errors = [UNTRIED, *((came - factor * drop) / max(abs(factor * drop), WEIGHT) for drop, came in pairs)]
    return factor, math.sqrt(sum(error * error for error in errors) / len(errors))


def forecast(base: float, drop: float, tried: Sequence[tuple[float, float]], guess: float = 0.0) -> Forecast | None:
    """The expected metric, from `base` before and the sum of the scanned drops; `guess`: the error of the estimated part.

    None where the error is too large.
    """
    factor, share = correction_factor(tried)
    fall = factor * drop
    spread = max(NOISE, math.hypot(share * fall, factor * guess))
    if spread > max(WIDEST * base, NOISE):
        return None
    return Forecast(base, drop, min(max(base - fall, 0.0), 1.0), spread)
