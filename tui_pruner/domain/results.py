"""What is found of a model in a word or a figure: the status of a layer, the verdict of a proof, and the metric that people compare by."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    pass


Status = Literal["free", "coupled", "linked", "locked"]
Section = Literal["backbone", "neck", "head"]
Verdict = Literal["equal", "not equal", "not exercised"]


FIGURES = 3
"""How metrics are measured, as a number: another one where a figure that was kept would no longer come out the same. 3: no time limits."""
MAIN_METRICS = (
    ("metrics/mAP50-95(M)", "mask mAP"),
    ("metrics/mAP50-95(P)", "pose mAP"),
    ("metrics/mAP50-95(B)", "mAP"),
    ("metrics/accuracy_top1", "top-1"),
    ("metrics/mIoU", "mIoU"),
)


def main_metric(metrics: Mapping[str, float]) -> tuple[str, float] | None:
    """The key and the value of the figure that people compare by; None where a result has no metric at all."""
    known = next((key for key, _ in MAIN_METRICS if key in metrics), None)
    key = known or next((key for key in metrics if key.startswith("metrics/")), None)
    return (key, metrics[key]) if key else None


def short_metric(metrics: Mapping[str, float]) -> tuple[str, float] | None:
    """The same figure under the name that people use for it, such as mAP."""
    found = main_metric(metrics)
    return (dict(MAIN_METRICS).get(found[0], found[0].removeprefix("metrics/")), found[1]) if found else None


def share_words(median: float, low: float, high: float) -> str:
    """A share with the range that holds the true one in 95 % of cases: "45.1 % (44.0 to 46.2)"."""
    return f"{100 * median:.1f} % ({100 * low:.1f} to {100 * high:.1f})"
