"""`validate`: Ultralytics' metrics on a subset, beside the original's."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.cli.conftest import Call, Pruned

MAP = "metrics/mAP50-95(B)"


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def test_validate_reports_metrics_beside_the_baseline(call: Call, pruned: Pruned, demo_checkpoint: Path, demo_data: Path):
    answer = call("validate", pruned.file, "--data", demo_data, "--images", 16, "--against", demo_checkpoint, "--json")
    assert answer.status == 0
    document = answer.document
    assert document["images"] == 16
    assert document["cached"] is False
    assert (
        document["metrics"].keys() == document["baseline"].keys() >= {MAP, "metrics/mAP50(B)", "metrics/precision(B)", "metrics/recall(B)"}
    )
    assert 0.6 < document["metrics"][MAP] < 1
    assert abs(document["metrics"][MAP] - document["baseline"][MAP]) < 0.1
    assert document["seconds"] > 0
    assert "validate 16/16 validating" in answer.remarks


def test_validation_under_a_plan_equals_that_of_the_pruned_file_and_is_cached(
    call: Call, pruned: Pruned, demo_checkpoint: Path, demo_data: Path
):
    options = ["--data", demo_data, "--images", 8, "--json"]
    planned = call("validate", demo_checkpoint, "--plan", pruned.plan, *options).document
    written = call("validate", pruned.file, *options).document
    assert planned["metrics"][MAP] == pytest.approx(written["metrics"][MAP], abs=1e-3)
    assert planned["baseline"] is not None
    assert written["baseline"] is None
    again = call("validate", demo_checkpoint, "--plan", pruned.plan, *options)
    assert again.document == {**planned, "cached": True, "seconds": again.document["seconds"]}
    assert not any("validating" in remark for remark in again.remarks)


def test_table_for_people_has_the_change(call: Call, pruned: Pruned, demo_checkpoint: Path, demo_data: Path):
    answer = call("validate", pruned.file, "--data", demo_data, "--images", 4, "--against", demo_checkpoint)
    header, *rows = (line.split() for line in answer.out.splitlines())
    assert header == ["metric", "value", "baseline", "change"]
    (row,) = (row for row in rows if row[0] == MAP)
    assert float(row[3]) == pytest.approx(float(row[1]) - float(row[2]), abs=2e-4)
    found = re.search(rf"95 % interval of {re.escape(MAP)}: (0[.]\d+) to (\d[.]\d+) \(bootstrap over 4 images\)", answer.out)
    assert float(found[1]) <= float(row[1]) <= float(found[2])


def test_image_size_that_is_not_a_multiple_of_the_stride_is_rounded_up_and_reported(call: Call, demo_checkpoint: Path, demo_data: Path):
    answer = call("validate", demo_checkpoint, "--data", demo_data, "--images", 2, "--imgsz", 100)
    assert answer.status == 0
    assert answer.remarks[-1] == "image side 100 rounded up to 128, a multiple of the stride 32"


def test_data_with_other_classes_is_refused(call: Call, demo_data: Path):
    answer = call("validate", "yolov8n.yaml", "--classes", 3, "--data", demo_data)
    assert (answer.status, answer.out) == (2, "")
    assert answer.remarks[-1].endswith("names 10 classes, but the model has 3: use the data it was trained on")


def test_missing_device_is_refused(call: Call, demo_checkpoint: Path, demo_data: Path):
    answer = call("validate", demo_checkpoint, "--data", demo_data, "--images", 2, "--device", "cuda:9")
    assert (answer.status, answer.out) == (2, "")
    assert "no device 'cuda:9' here: the devices are cpu" in answer.remarks[-1]
