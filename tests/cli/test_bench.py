"""`bench`: latency side by side, in words and as data."""

from __future__ import annotations

from pathlib import Path

from tests.cli.conftest import Call, Pruned


def test_bench_reports_latency_and_blocks_of_every_model(call: Call, pruned: Pruned, demo_checkpoint: Path):
    answer = call("bench", demo_checkpoint, pruned.file, "--imgsz", 64, "--runs", 5, "--blocks", "--device", "cpu", "--json")
    assert answer.status == 0, answer.err
    first, second = answer.document["models"]
    assert (first["model"], second["model"]) == (str(demo_checkpoint), str(pruned.file))
    assert (first["runs"], first["device"], first["verdict"]) == (5, "cpu", "reference")
    assert 0 < second["median_ms"] <= second["p90_ms"]
    assert second["parameters"] < first["parameters"]
    assert [block["name"] for block in second["blocks"]] == [f"model.{number}" for number in range(23)]


def test_table_has_a_row_for_each_model_and_explains_the_ratio(call: Call, demo_checkpoint: Path):
    answer = call("bench", demo_checkpoint, "yolov8n.yaml", "--classes", 10, "--imgsz", 64, "--runs", 5, "--device", "cpu")
    header, first, second, conditions, conclusion = answer.out.splitlines()
    assert header.split()[:4] == ["model", "parameters", "median", "ms"]
    assert first.split()[-2:] == ["1.000", "reference"]
    assert second.split()[0] == "yolov8n.yaml"
    assert conditions.startswith("1 x 64x64 on cpu,") and conditions.endswith("5 runs in turns, fused, float32, without NMS")
    assert conclusion.startswith("yolov8n.yaml is ") and "95 % sure" in conclusion
