"""The file that `prune` writes, used by stock Ultralytics alone."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import Call, Pruned
from tests.deadlines import HANGING


@pytest.fixture(scope="module")
def stock_report(pruned: Pruned, demo_data: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What a process that cannot import this program reports of the file."""
    folder = tmp_path_factory.mktemp("stock_report")
    command = [sys.executable, "-I", Path(__file__).with_name("stock_digits.py"), pruned.file, demo_data, folder]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder, timeout=HANGING)
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout.splitlines()[-1])


def test_predict_finds_the_digits(stock_report: dict[str, Any]):
    labelled, found = stock_report["digits"]
    assert labelled >= 30
    assert found / labelled >= 0.9


def test_stock_val_measures_the_same_as_validate(stock_report: dict[str, Any], call: Call, pruned: Pruned, demo_data: Path):
    ours = call("validate", pruned.file, "--data", demo_data, "--json").document
    assert ours["images"] == 128
    assert stock_report["map"] > 0.8
    assert ours["metrics"]["metrics/mAP50-95(B)"] == pytest.approx(stock_report["map"], abs=1e-3)


def test_torchscript_export_loads_and_agrees(stock_report: dict[str, Any]):
    assert stock_report["export"] < 1e-4


def test_train_explains_how_to_fine_tune_and_that_keeps_the_structure(stock_report: dict[str, Any], call: Call):
    assert "PRUNED MODEL: train() would rebuild the network at full size" in stock_report["train"]
    assert "t.model = YOLO('pruned.pt').model; t.train()" in stock_report["train"]
    assert stock_report["structure_kept"] is True
    layers = {
        layer["name"]: layer for block in call("inspect", stock_report["tuned"], "--json").document["blocks"] for layer in block["layers"]
    }
    assert (layers["model.6.m.0.cv1"]["out_channels"], layers["model.12.cv2"]["out_channels"]) == (45, 102)
