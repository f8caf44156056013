"""How far a metric on a few images may be off: the bootstrap over images, by Ultralytics' own arithmetic."""

from __future__ import annotations

import copy
import random
from collections.abc import Sequence
from typing import Any

from tui_pruner.metrics import main_metric

RESAMPLES, FEWEST = 200, 40
WORK, CLASS_WORK = 1_300_000, 50
"""How many detections are summed up for an interval, in all resamples together (about 2 s); a class costs as much as 50 of them."""
TAIL = 0.025
SEED = 0


def interval_of(validator: Any) -> tuple[float, float] | None:
    """The main metric's 95 % percentile interval over resampled images; None where images cannot be told apart, or there is only one.

    Called when all images are seen and Ultralytics has not summed them up yet; the validation goes on as if nothing had been asked.
    Source: Efron, Bootstrap methods: another look at the jackknife, 1979.
    """
    images = images_of(validator)
    if images is None or len(images) < 2:
        return None
    draw, values = random.Random(SEED), []
    for _ in range(resamples_for(images)):
        found = main_metric(metrics_on(validator, draw.choices(images, k=len(images))))
        if found is None:
            return None
        values.append(found[1])
    values.sort()
    cut = round(TAIL * (len(values) - 1))
    return values[cut], values[-1 - cut]


def resamples_for(images: Sequence[dict[str, Any]], fewest: int = FEWEST, most: int = RESAMPLES, work: int = WORK) -> int:
    """Return how many resamples are drawn: fewer where one costs more. No clock decides: the interval would depend on other processes."""
    detections = sum(len(image.get("conf", ())) for image in images)
    classes = len({int(number) for image in images for number in image.get("target_cls", ())})
    return max(fewest, min(most, work // max(1, len(images), detections + CLASS_WORK * classes)))


def images_of(validator: Any) -> list[dict[str, Any]] | None:
    """What is collected of each image: of a detector the matched boxes by statistic, of a classifier its prediction and target."""
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
    """The metrics by Ultralytics' names as if just these images had been seen."""
    twin = copy.copy(validator)
    twin.metrics = copy.copy(validator.metrics)
    for part in ("box", "seg", "pose"):  # what the sums are put into
        if hasattr(twin.metrics, part):
            setattr(twin.metrics, part, copy.copy(getattr(twin.metrics, part)))
    collected = {name: [image[name] for image in images] for name in images[0]}
    if getattr(validator.metrics, "stats", None):
        twin.metrics.stats = collected
    else:
        twin.pred, twin.targets = collected["pred"], collected["targets"]
    return {name: float(value) for name, value in twin.get_stats().items()}
