"""The one figure that people compare by, for each task, by Ultralytics' names."""

from __future__ import annotations

from collections.abc import Mapping

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
