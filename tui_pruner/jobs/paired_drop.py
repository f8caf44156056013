"""How much a metric fell from one model to another on the same images, how sure that is, and the rule that decides by it.

Each resample of the images is measured with both models, so what makes an image easy or hard for both cancels. The interval is the
standard one with Student's t: the drop plus and minus t times its bootstrap standard error.
Source: Efron and Tibshirani, An Introduction to the Bootstrap, 1993, chapters 6 and 12.
"""

from __future__ import annotations

import math
import random
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

TAIL = 0.025
SEED = 0
RULE = (
    "No, only where the whole 95 % interval lies above what is allowed: the loss is then more than chance. A model that loses no more than "
    "allowed is refused in at most one run of forty."
)
STRICT_RULE = "Yes, only where the whole 95 % interval lies within what is allowed: what is not certain does not pass."
Metrics = Callable[[Sequence[int]], Mapping[str, float]]
"""A model's metrics on some images, given by their places; one may come several times."""


@dataclass(frozen=True)
class Drop:
    """A metric of both models on all images, and the range that holds the true drop with 95 % probability."""

    name: str
    original: float
    pruned: float
    low: float
    high: float

    @property
    def drop(self) -> float:
        """By how much the metric fell."""
        return self.original - self.pruned


@dataclass(frozen=True)
class Judgement:
    """Whether a figure passes, and whether its whole interval lies on one side of what is allowed."""

    ok: bool
    certain: bool


def judged(low: float, high: float, allowed: float, strict: bool = False) -> Judgement:
    """Return what an interval comes to, where larger is worse."""
    too_much, within = low > allowed, high <= allowed
    return Judgement(within if strict else not too_much, too_much or within)


def paired_drops(
    images: int,
    original: Metrics,
    pruned: Metrics,
    names: Sequence[str],
    resamples: int,
    on_resample: Callable[[int], None] = lambda done: None,
) -> list[Drop]:
    """Return the drop of each metric. Of several, each interval is so much wider that all hold together with 95 % probability (Bonferroni).

    Raises:
        ValueError: fewer than two images, which leave nothing to resample, or no metric.
    """
    if images < 2 or not names:
        raise ValueError(f"{images} images and {len(names)} metrics leave nothing to resample")
    everything, draw = range(images), random.Random(SEED)
    before, after = original(everything), pruned(everything)
    drops: dict[str, list[float]] = {name: [] for name in names}
    for number in range(resamples):
        chosen = draw.choices(everything, k=images)
        first, second = original(chosen), pruned(chosen)
        for name in names:
            drops[name].append(first[name] - second[name])
        on_resample(number + 1)
    reach = reach_of(images, TAIL / len(names))
    found = []
    for name in names:
        drop, error = before[name] - after[name], statistics.stdev(drops[name])
        found.append(Drop(name, before[name], after[name], drop - reach * error, drop + reach * error))
    return found


def reach_of(images: int, tail: float) -> float:
    """Return how many bootstrap standard errors an interval reaches to each side.

    A bootstrap's variance is that of a sample divided by n in place of n - 1, and few images make it uncertain itself.
    """
    from scipy.special import stdtrit

    return float(stdtrit(images - 1, 1 - tail)) * math.sqrt(images / (images - 1))


def images_needed(drop: Drop, images: int, allowed: float) -> int | None:
    """Return about how many images would put the whole interval on one side of what is allowed; None where no number can be said.

    An interval narrows with the root of the number of images.
    """
    distance, half = abs(allowed - drop.drop), (drop.high - drop.low) / 2
    return math.ceil(images * (half / distance) ** 2) if distance > half / 100 else None
