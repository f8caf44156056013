"""The running metrics of a validation are the final ones for the images so far, and take little of its time."""

from __future__ import annotations

import time

import pytest

from tui_pruner.jobs import validate
from tui_pruner.jobs import validate as job

MAP = "metrics/mAP50-95(B)"


def test_running_metrics_after_the_last_image_equal_the_final_ones(demo_checkpoint, demo_data, monkeypatch):
    from tests.jobs.test_validation_job import digits
    from tui_pruner.frameworks.ultralytics import open_model

    monkeypatch.setattr(validate, "SHARE", float("inf"))
    monkeypatch.setattr(validate, "REPORT_SECONDS", float("inf"))
    parameters, told = digits(demo_checkpoint, demo_data, images=40), []
    result = job.validate(open_model(str(demo_checkpoint)).model, parameters, told.append)
    counted = [progress for progress in told if progress.doing == "validating"]
    assert [progress.done for progress in counted] == [0, 16, 32, 40]
    assert counted[0].metrics == {}
    assert all(0.3 < progress.metrics[MAP] <= 1 for progress in counted[1:])
    assert len({progress.metrics[MAP] for progress in counted[1:]}) == 3
    assert counted[-1].metrics == pytest.approx(result.metrics)


class Slow:
    """A validator whose metrics take a second of the clock at hand."""

    metrics = None

    def __init__(self, clock: list[float]) -> None:
        self.clock = clock
        self.asked = 0

    def get_stats(self) -> dict[str, float]:
        self.clock[0] += 1
        self.asked += 1
        return {"metrics/mAP50-95(B)": self.clock[0]}


def test_slow_metrics_are_computed_rarely_and_repeated_in_between(monkeypatch):
    clock = [0.0]
    monkeypatch.setattr(time, "perf_counter", lambda: clock[0])
    monkeypatch.setattr(validate.copy, "copy", lambda thing: thing)
    slow = Slow(clock)
    running = validate.RunningMetrics(slow)
    seen = []
    for _ in range(100):
        clock[0] += 1
        seen.append(running.metrics()[MAP])
    assert slow.asked * 1.0 <= validate.SHARE * clock[0] + 1
    assert slow.asked >= 4
    assert len(set(seen)) == slow.asked and seen == sorted(seen)
