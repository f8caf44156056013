"""`plan`: targets from the command line, and the criteria side by side."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import yaml

from tests.cli.conftest import Call
from tests.gpu.conftest import train_until_detecting
from tests.jobs.conftest import draw_splits
from tests.jobs.narrow import save_whole, short
from tui_pruner.cli.commands import plan

SMALL = ("yolov8n.yaml", "--imgsz", "64", "--classes", "2")
LAYERS = 15


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The data yaml of four scenes to learn and four to validate on."""
    return draw_splits(tmp_path_factory.mktemp("scenes"), training=4)


@pytest.fixture(scope="module")
def learnt(scenes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A detector of five layers that has learnt the scenes: planning on data tries each of its layers, and again with each rival."""
    folder = tmp_path_factory.mktemp("learnt")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        checkpoint = short(folder)
        train_until_detecting(checkpoint.model, scenes.parent)
    return save_whole(checkpoint, folder / "learnt.pt")


def test_target_becomes_a_plan_that_prune_meets(call: Call, tmp_path: Path):
    file = tmp_path / "plan.yaml"
    answer = call("plan", *SMALL, "--target", "flops=70%", "--round-to", 4, "-o", file, "--json")
    assert answer.status == 0, answer.err
    found = answer.document
    assert 0.693 <= found["reached"]["flops"] <= 0.7
    assert found["range"]["flops"]["least"] < 0.2 and found["range"]["flops"]["most"] == 1.0
    assert found["output"] == str(file) and found["plan"] == yaml.safe_load(file.read_text())
    after = call("preview", *SMALL, "--plan", file, "--json").document
    assert after["dry_run"]["ok"]
    assert after["after"]["flops"] / after["before"]["flops"] == pytest.approx(found["reached"]["flops"])


def test_missing_target_prints_the_reachable_range(call: Call):
    answer = call("plan", *SMALL, "--floor", 0.5)
    assert answer.status == 0
    assert answer.out.splitlines()[0].startswith("reachable: flops 2") and answer.out.splitlines()[0].endswith("to 100.0 %")


def test_unreachable_target_exits_with_1_and_the_range_and_writes_no_file(call: Call, tmp_path: Path):
    file = tmp_path / "plan.yaml"
    answer = call("plan", *SMALL, "--target", "flops=5%", "--floor", 0.5, "-o", file, "--json")
    assert answer.status == 1 and not file.exists()
    assert answer.document["plan"] is None and not answer.document["satisfied"]
    assert answer.document["reached"]["flops"] == pytest.approx(answer.document["range"]["flops"]["least"])
    assert "flops=5% is out of reach: reachable is" in answer.remarks[-1]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--target", "speed=5"], "by flops, params, bytes, latency"),
        (["--target", "latency=5"], "latency is compared with the checkpoint's"),
        (["--target", "latency=70%", "--data", "{data}", "--compare-criteria"], "by flops, params or bytes"),
        (["--target", "flops=70%", "--protect", "model.77"], "no layer 'model.77'"),
        (["--target", "flops=70%", "--criterion", "best"], "unknown criterion 'best'"),
        (["--target", "flops=70%", "--criterion", "taylor"], "give --data"),
        (["--target", "flops=70%", "--compare-criteria"], "--compare-criteria"),
    ],
)
def test_impossible_planning_is_refused_in_one_line(call: Call, options: list[str], words: str, demo_data: Path):
    refused = call("plan", *SMALL, *(option.format(data=demo_data) for option in options))
    assert refused.status == 2 and words in refused.remarks[-1] and refused.out == ""


def test_criteria_are_compared_at_equal_flops_on_data(call: Call, learnt: Path, scenes: Path):
    answer = call(
        "plan", learnt, "--target", "flops=50%", "--compare-criteria", "--data", scenes, "--images", 4, "--calibration-images", 2,
        "--imgsz", 64, "--json",
    )  # fmt: skip
    assert answer.status == 0, answer.err
    rows = {row["criterion"]: row for row in answer.document["criteria"]}
    assert set(rows) == {"l2", "l1", "bn-scale", "lamp", "fpgm", "random", "taylor", "hessian", "obs"}
    assert all(0.49 <= row["reached"]["flops"] <= 0.5 and row["metric"] == "metrics/mAP50-95(B)" for row in rows.values())
    assert len({round(row["value"], 6) for row in rows.values()}) > 3


def test_stored_scan_is_used_by_plan_and_a_missing_one_is_made(
    call: Call, learnt: Path, scenes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    subject = (learnt, "--data", scenes, "--images", 4, "--imgsz", 64)
    small = (*subject, "--criterion", "l2", "--target", "flops=80%")
    file, table, survivors = tmp_path / "scan.json", tmp_path / "scan.csv", tmp_path / "survivors.yaml"
    answer = call("scan", *subject, "--ratios", "50%", "-o", file, "--save-plan", survivors, "--max-drop", 0.2, "--json")
    assert answer.status == 0, answer.err
    found = answer.document
    assert len(found["groups"]) == LAYERS and found["failed"] == [] and found["cached"] == 0
    assert {"id", "layer", "ratio", "metric", "drop", "parameters", "flops"} <= set(found["groups"][0])
    again = call("scan", *subject, "--ratios", "50%", "-o", table)
    assert again.status == 0 and f"{LAYERS - 1} known before" in again.out
    assert len(table.read_text().splitlines()) == LAYERS + 1 and file.read_text().startswith("{")
    after = call("plan", *small, "--json")
    assert "scan" in {rival["name"] for rival in after.document["rivals"]}
    assert 0.75 <= after.document["reached"]["flops"] <= 0.8
    assert call("preview", learnt, "--plan", survivors, "--imgsz", 64).status == 0


def test_latency_target_is_reached_by_measuring_plans(call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(plan, "LATENCY_RUNS", 10)
    file = tmp_path / "plan.yaml"
    answer = call("plan", *SMALL, "--target", "latency=85%", "--round-to", 8, "-o", file, "--json")
    found = answer.document
    assert found["latency"]["least"]["low"] <= found["latency"]["least"]["median"] <= found["latency"]["least"]["high"]
    assert answer.status == (0 if found["satisfied"] else 1)
    if found["satisfied"]:  # on a machine where a narrow model is not a faster, the answer is rightly no
        assert file.exists() and found["latency"]["latency"]["median"] <= 0.85 * 1.01
        assert found["latency"]["least"]["median"] <= 0.85 * 1.01
    else:
        assert "out of reach: the smallest plan was measured at" in found["stopped"] and not file.exists()
