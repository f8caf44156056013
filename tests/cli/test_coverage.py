"""`coverage` cuts every group of a model alone and says what became of each."""

from __future__ import annotations

import json

from tests.cli.conftest import Call


def test_every_group_of_a_small_classifier_is_proved_and_the_locked_one_has_its_reason(call: Call):
    answer = call("coverage", "yolov8n-cls.yaml", "--imgsz", 64, "--json")
    (report,) = json.loads(answer.out)["models"]
    assert answer.status == 0
    assert (report["groups"], report["equal"], report["approximate"], report["failed"]) == (25, 24, 0, 0)
    assert report["locked"] == {"feeds the model's predictions": 1}
    assert report["failures"] == []
    assert report["unknown_operations"] == {}
    assert 0 < report["trace_seconds"] < 60
