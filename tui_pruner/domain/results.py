"""Results in a word or a figure: the status of a layer, the verdict of a proof, and the main metric."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

Status = Literal["free", "coupled", "linked", "locked"]
Section = Literal["backbone", "neck", "head", "all blocks"]
Verdict = Literal["equal", "approximate", "not equal", "not exercised"]
NOT_EQUAL = "such a cut does more than remove channels, and is checked, not proved equal"
"""Of a cut through a normalisation across channels."""


FIGURES = 3
"""Version of how metrics are measured: it changes where a stored figure would no longer come out the same. 3: no time limits."""
MAIN_METRICS = (
    ("metrics/mAP50-95(M)", "mask mAP"),
    ("metrics/mAP50-95(P)", "pose mAP"),
    ("metrics/mAP50-95(B)", "mAP"),
    ("metrics/accuracy_top1", "top-1"),
    ("metrics/mIoU", "mIoU"),
)


def main_metric(metrics: Mapping[str, float]) -> tuple[str, float] | None:
    """The key and the value of the main metric; None where a result has no metric."""
    known = next((key for key, _ in MAIN_METRICS if key in metrics), None)
    key = known or next((key for key in metrics if key.startswith("metrics/")), None)
    return (key, metrics[key]) if key else None


def short_metric(metrics: Mapping[str, float]) -> tuple[str, float] | None:
    """The main metric under its short name, such as mAP."""
    found = main_metric(metrics)
    return (dict(MAIN_METRICS).get(found[0], found[0].removeprefix("metrics/")), found[1]) if found else None


def nothing_to_lose(metrics: Mapping[str, float], of_module: bool = False) -> list[str]:
    """Return a note where the figure that people compare by is 0 before anything is cut: no cut can lower it.

    `of_module`: it is computed by a function of the user, and may be negative.
    """
    found = short_metric(metrics)
    if found is None or found[1] != 0:
        return []
    if of_module:
        return [f"the original's {found[0]} is 0 before anything is cut: if it cannot be negative, no loss can show"]
    return [f"the original's {found[0]} is 0 on these images, so no loss can show: check the data and the image size"]


TAIL = 0.025
FEWEST_PAIRS = 40


def percentiles(values: Sequence[float]) -> tuple[float, float]:
    """The range of the middle 95 % of the values."""
    ordered = sorted(values)
    cut = round(TAIL * (len(ordered) - 1))
    return ordered[cut], ordered[-1 - cut]


@dataclass(frozen=True)
class MeasuredMetric:
    """A metric, its 95 % interval, and its values on the draws of the bootstrap, as far as they are known."""

    value: float
    interval: tuple[float, float] | None = None
    resamples: Sequence[float] = ()


def change_between(before: MeasuredMetric, after: MeasuredMetric) -> tuple[float, float] | None:
    """The 95 % interval of the change of a metric on the same images; None where it is not known.

    Draw by draw where both have their draws, which are of the same images; else as if measured on different images, which makes it too
    wide.
    """
    pairs = [last - first for first, last in zip(before.resamples, after.resamples)]
    if len(pairs) >= FEWEST_PAIRS:
        return percentiles(pairs)
    if before.interval is None or after.interval is None:
        return None
    half = math.hypot(*((high - low) / 2 for low, high in (before.interval, after.interval)))
    change = after.value - before.value
    return change - half, change + half


def share_words(median: float, low: float, high: float) -> str:
    """A share with its 95 % interval: "45.1 % (44.0 to 46.2)"."""
    return f"{100 * median:.1f} % ({100 * low:.1f} to {100 * high:.1f})"
