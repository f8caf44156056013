"""How certain a metric on a few images is: bootstrap intervals over images, and the drop of a metric from one model to another."""

from __future__ import annotations

import copy
import math
import random
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tui_pruner.domain.results import TAIL, main_metric

RESAMPLES, FEWEST = 200, 40
WORK, CLASS_WORK = 1_300_000, 50
"""How many detections are summed up for an interval, over all resamples (about 2 s); a class costs as much as 50 detections."""
SEED = 0


def resampled(validator: Any) -> list[float]:
    """The main metric on resampled images, by the same draws for every model; empty where the validation does not collect by image.

    Call it when all images are seen and Ultralytics has not summed them up yet; the validation continues undisturbed.
    Source: Efron, Bootstrap methods: another look at the jackknife, 1979.
    """
    images = images_of(validator)
    if images is None or len(images) < 2:
        return []
    draw, values = random.Random(SEED), []
    for _ in range(resamples_for(images)):
        found = main_metric(metrics_on(validator, draw.choices(images, k=len(images))))
        if found is None:
            return []
        values.append(found[1])
    return values


def resamples_for(images: Sequence[dict[str, Any]], fewest: int = FEWEST, most: int = RESAMPLES, work: int = WORK) -> int:
    """Return how many resamples are drawn: fewer where one costs more. Not by time: the interval would depend on other processes."""
    detections = sum(len(image.get("conf", ())) for image in images)
    classes = len({int(number) for image in images for number in image.get("target_cls", ())})
    return max(fewest, min(most, work // max(1, len(images), detections + CLASS_WORK * classes)))


def images_of(validator: Any) -> list[dict[str, Any]] | None:
    """What is collected for each image: by a detector the statistics of matched boxes, by a classifier prediction and target."""
    stats = getattr(validator.metrics, "stats", None)
    if stats:
        return [dict(zip(stats, image, strict=True)) for image in zip(*stats.values(), strict=True)]
    if isinstance(getattr(validator, "pred", None), list) and isinstance(getattr(validator, "targets", None), list):
        pairs = zip(validator.pred, validator.targets, strict=True)
        return [
            {"pred": pred, "targets": target}
            for preds, targets in pairs
            for pred, target in zip(preds.split(1), targets.split(1), strict=True)
        ]
    return None


def metrics_on(validator: Any, images: Sequence[dict[str, Any]]) -> dict[str, float]:
    """The metrics by Ultralytics' names, as if only these images had been seen."""
    twin = copy.copy(validator)
    twin.metrics = copy.copy(validator.metrics)
    for part in ("box", "seg", "pose"):  # the sums are stored in these attributes
        if hasattr(twin.metrics, part):
            setattr(twin.metrics, part, copy.copy(getattr(twin.metrics, part)))
    collected = {name: [image[name] for image in images] for name in images[0]}
    if getattr(validator.metrics, "stats", None):
        twin.metrics.stats = collected
    else:
        twin.pred, twin.targets = collected["pred"], collected["targets"]
    return {name: float(value) for name, value in twin.get_stats().items()}


RULE = (
    "No, only where the whole 95 % interval lies above what is allowed: the loss is then more than chance. A model that loses no more than "
    "allowed is refused in at most one run of forty."
)
STRICT_RULE = "Yes, only where the whole 95 % interval lies within what is allowed: what is not certain does not pass."
Metrics = Callable[[Sequence[int]], Mapping[str, float]]
"""A model's metrics on some images, given by index, with repetition."""


@dataclass(frozen=True)
class Drop:
    """A metric of both models on all images, and the 95 % interval of its drop."""

    name: str
    original: float
    pruned: float
    low: float
    high: float

    @property
    def drop(self) -> float:
        """The drop of the metric."""
        return self.original - self.pruned


@dataclass(frozen=True)
class Judgement:
    """Whether a figure passes, and whether its whole interval is on one side of what is allowed."""

    ok: bool
    certain: bool


def judged(low: float, high: float, allowed: float, strict: bool = False) -> Judgement:
    """Return the judgement on an interval, where larger is worse."""
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
    """Return the drop of each metric. For several each interval is wider, so that all hold together with 95 % probability (Bonferroni).

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
    """Return how many bootstrap standard errors an interval extends to each side.

    A bootstrap's variance is that of a sample divided by n instead of n - 1, and few images make the variance itself uncertain.
    """
    from scipy.special import stdtrit

    return float(stdtrit(images - 1, 1 - tail)) * math.sqrt(images / (images - 1))


def images_needed(drop: Drop, images: int, allowed: float) -> int | None:
    """Return about how many images would put the whole interval on one side of what is allowed; None where no number would.

    An interval narrows with the root of the number of images.
    """
    distance, half = abs(allowed - drop.drop), (drop.high - drop.low) / 2
    return math.ceil(images * (half / distance) ** 2) if distance > half / 100 else None
