"""The interval of a metric on a few images: the bootstrap over images by Ultralytics' own sums, which leaves the validation as it is."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from tui_pruner.domain.results import percentiles
from tui_pruner.jobs import validate
from tui_pruner.jobs.intervals import images_of, metrics_on, resampled

MAP = "metrics/mAP50-95(B)"
METRICS = {"DetMetrics": [], "OBBMetrics": [], "SegmentMetrics": ["tp_m"], "PoseMetrics": ["tp_p"]}


class Fake:
    """A validator that has seen some images: in each `per_image` boxes, of which this many are right."""

    def __init__(self, kind: str, right: list[int], per_image: int = 4) -> None:
        from ultralytics.utils import metrics

        self.metrics = getattr(metrics, kind)({0: "a", 1: "b"})
        draw = np.random.default_rng(0)
        for count in right:
            hits = np.zeros((per_image, 10), dtype=bool)
            hits[:count] = True
            classes = np.arange(per_image) % 2
            stat = {
                "tp": hits,
                "conf": draw.random(per_image),
                "pred_cls": classes,
                "target_cls": classes,
                "target_img": np.unique(classes),
            }
            for name, values in {**stat, **dict.fromkeys(METRICS[kind], hits[::-1])}.items():
                self.metrics.stats[name].append(values)

    def get_stats(self) -> dict[str, float]:
        self.metrics.process(plot=False)
        found = self.metrics.results_dict
        self.metrics.clear_stats()
        return found


@pytest.mark.parametrize("kind", METRICS)
def test_all_images_give_the_same_metrics_and_the_validator_does_not_change(kind: str):
    seen = Fake(kind, [4, 2, 3, 0, 1, 4])
    images = images_of(seen)
    mine = metrics_on(seen, images)
    assert len(images) == 6 and len(seen.metrics.stats["tp"]) == 6
    assert mine == pytest.approx(seen.get_stats())
    assert 0 < mine[MAP] < 1


def test_interval_is_empty_for_equal_images_and_shrinks_with_more_images():
    low, high = percentiles(resampled(Fake("DetMetrics", [4] * 6)))
    assert low == pytest.approx(high)
    few, many = (percentiles(resampled(Fake("DetMetrics", [4, 2, 3, 0] * count))) for count in (2, 20))
    assert many[1] - many[0] < 0.6 * (few[1] - few[0]) and few[0] <= many[0] < many[1] <= few[1]


def test_interval_of_a_classifier_is_that_of_a_proportion():
    """Of 100 images 80 are right: the standard error is 0.04, so that 95 % lie within about 0.08."""
    from ultralytics.models.yolo.classify import ClassificationValidator
    from ultralytics.utils.metrics import ClassifyMetrics

    right = torch.arange(100) % 5 != 0
    pred = torch.stack([torch.where(right, 1, 2), torch.full((100,), 3)], dim=1)
    seen = ClassificationValidator.__new__(ClassificationValidator)
    seen.metrics, seen.pred, seen.targets = ClassifyMetrics(), list(pred.split(16)), list(torch.ones(100, dtype=torch.long).split(16))
    low, high = percentiles(resampled(seen))
    assert low == pytest.approx(0.72, abs=0.03) and high == pytest.approx(0.88, abs=0.03)


def test_no_interval_is_given_if_images_cannot_be_separated():
    assert resampled(SimpleNamespace(metrics=SimpleNamespace())) == []
    assert resampled(Fake("DetMetrics", [4])) == []


def test_interval_does_not_change_the_metrics_of_a_validation(demo_checkpoint, demo_data, monkeypatch):
    from tests.jobs.test_validation_job import digits, ignore
    from tui_pruner.frameworks.ultralytics import open_model

    model, parameters = open_model(str(demo_checkpoint)).model, digits(demo_checkpoint, demo_data, images=24)
    result = validate.validate(model, parameters, ignore)
    assert result.interval[0] < result.metrics[MAP] < result.interval[1] < result.interval[0] + 0.15
    monkeypatch.setattr(validate, "resampled", lambda running: [])
    without = validate.validate(model, parameters, ignore)
    assert without.interval is None and without.metrics == result.metrics
