"""What a metric will probably be after cuts that are asked for: the drops of a scan added up, and what the session learnt of such sums."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

NOISE = 0.01
"""A metric on a few images is not a surer than that, no matter what the cut."""
UNTRIED = 0.5
"""How far a sum of drops is off before any was tried, as a share of it: drops of layers that are cut together do not just add up."""
WEIGHT = 0.02
"""How much drop the trust in plain sums is worth against what was measured."""
RANGE = (0.2, 5.0)
WIDEST = 0.25
"""Nothing is forecast that may be off by more than this share of the metric before: sums of drops say no more than that much is lost."""


@dataclass(frozen=True)
class Forecast:
    """The metric before (`base`), the sum of the scanned drops, what is expected, and how far that may be off."""

    base: float
    drop: float
    expected: float
    spread: float


def drop_at(drops: Mapping[float, float], share: float) -> float | None:
    """How far the metric falls where a share of a layer's channels is gone, on straight lines between 0 and the shares that were scanned;
    None beyond the largest of them, where nothing is known."""
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


def guessed(
    cuts: Mapping[str, tuple[float, float]], layers: Mapping[str, Mapping[float, float]], coupled: Mapping[str, int], typical: Typical
) -> tuple[float, float] | None:
    """As `summed`, of a scan that was stopped: groups that it did not come to lose what groups lose on the whole.

    Gives the sum, and the standard deviation of what is guessed in it; None where too few groups were scanned to say.
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


def learnt(tried: Iterable[tuple[float, float]]) -> tuple[float, float]:
    """By how much a sum of drops is multiplied, and how far the product is off, as a share of it.

    `tried`: for every step of the session that had a forecast and was measured, the sum and the drop that came. The factor is the quotient
    of all measured drops and all sums, where plain sums count as if a drop of `WEIGHT` had come just so; the share is the root mean square
    of the errors so far, with `UNTRIED` as one of them.
    """
    pairs = list(tried)
    factor = (WEIGHT + sum(max(came, 0.0) for _, came in pairs)) / (WEIGHT + sum(max(drop, 0.0) for drop, _ in pairs))
    factor = min(max(factor, RANGE[0]), RANGE[1])
    errors = [UNTRIED, *((came - factor * drop) / max(abs(factor * drop), WEIGHT) for drop, came in pairs)]
    return factor, math.sqrt(sum(error * error for error in errors) / len(errors))


def forecast(base: float, drop: float, tried: Sequence[tuple[float, float]], guess: float = 0.0) -> Forecast | None:
    """What is expected of a metric that was `base`, where the scanned drops come to `drop`; `guess`: how far off what is guessed may be.

    None where that is too far off to say anything.
    """
    factor, share = learnt(tried)
    fall = factor * drop
    spread = max(NOISE, math.hypot(share * fall, factor * guess))
    if spread > max(WIDEST * base, NOISE):
        return None
    return Forecast(base, drop, min(max(base - fall, 0.0), 1.0), spread)
