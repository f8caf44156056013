"""`export`: written where it agrees with the model, status 1 where it does not."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests.cli.conftest import Call, Pruned
from tui_pruner.cli import job_runs
from tui_pruner.engine.job_messages import ExportResult


def test_export_writes_a_file_with_the_same_outputs(call: Call, pruned: Pruned, tmp_path: Path):
    file = tmp_path / "out.torchscript"
    answer = call("export", pruned.file, "--format", "torchscript", "--imgsz", 64, "-o", file, "--json")
    assert answer.status == 0, answer.err
    document = answer.document
    assert (document["output"], document["bytes"]) == (str(file), file.stat().st_size)
    assert 0 <= document["relative_difference"] < 1e-4
    with torch.no_grad():
        assert torch.jit.load(str(file))(torch.zeros(1, 3, 64, 64)).shape == (1, 14, 84)
    assert list(tmp_path.iterdir()) == [file]


def test_export_with_different_outputs_exits_with_1(call: Call, pruned: Pruned, monkeypatch: pytest.MonkeyPatch):
    result = ExportResult(
        output=None, bytes=1, source_bytes=2, equal=False, max_abs_difference=3.0, relative_difference=0.5, images=8, drawn=True
    )
    monkeypatch.setattr(job_runs, "run_job", lambda kind, parameters, on_progress, ends_early: result.model_dump())
    answer = call("export", pruned.file, "--format", "onnx")
    assert answer.status == 1
    assert answer.out.splitlines() == [
        "NOT EQUAL  relative difference 5.0e-01 on 8 drawn images",
        "not written: the onnx file's outputs differ from those of the PyTorch model",
    ]
