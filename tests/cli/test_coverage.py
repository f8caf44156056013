"""`coverage` cuts every group of a model alone, then all at once at random, and reports each result."""

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
    assert [(plan["seed"], plan["cut"], plan["whole"], plan["equal"]) for plan in report["plans"]] == [(n, 24, 0, True) for n in range(3)]


def test_coverage_prints_one_line_for_people(call: Call):
    answer = call("coverage", "yolov8n-cls.yaml", "--imgsz", 64, "--plans", 1)
    lines = answer.out.splitlines()
    assert answer.status == 0
    assert lines[0].startswith("yolov8n-cls.yaml  25 groups: 24 equal, 0 approximate, 0 failed, 1 locked; traced in ")
    assert lines[1] == "    1 locked: feeds the model's predictions"
    assert lines[2].startswith("    plan 0, 24 groups at once: proved, relative difference ")
    assert len(lines) == 3
