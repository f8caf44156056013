"""`--criterion taylor|hessian`: calibrated by a job once, then from the cache."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
import yaml

from tests.cli.conftest import Call
from tui_pruner.domain.errors import JobError
from tui_pruner.engine.client import Job
from tui_pruner.storage import paths

CUT = ("--cut", "6.cv1=25%")
SMALL = ("--calibration-images", 4, "--imgsz", 96)


def test_cut_by_gradients_is_calibrated_once_then_cached_and_proved(
    call: Call, demo_checkpoint: Path, demo_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    by_gradients = ("--criterion", "taylor", "--data", demo_data, *SMALL)
    first = call("prune", demo_checkpoint, *CUT, *by_gradients, "-o", tmp_path / "out.pt", "--json")
    assert first.status == 0, first.err
    assert first.document["proof"]["equal"] is True
    assert len(first.document["kept"]["model.6.cv1.conv.weight"]["0"]) == 96
    assert "calibrate 4/4 calibrating" in first.remarks
    (kept,) = (paths.cache_folder() / "calibration").iterdir()

    def no_job(job: Job):
        raise JobError(f"{job.kind} ran again")

    monkeypatch.setattr(Job, "run", no_job)
    second = call("preview", demo_checkpoint, *CUT, *by_gradients, "--json")
    assert (second.status, second.document["layers"]["model.6.cv1"]["out_after"]) == (0, 96)
    sha256 = hashlib.sha256(demo_checkpoint.read_bytes()).hexdigest()
    plan = {"checkpoint": "digits.pt", "sha256": sha256, "steps": [{"cuts": [{"layer": "5", "amount": "10%", "criterion": "hessian"}]}]}
    (tmp_path / "plan.yaml").write_text(yaml.safe_dump(plan))
    planned = ("preview", demo_checkpoint, "--plan", tmp_path / "plan.yaml", "--data", demo_data, *SMALL, "--json")
    assert call(*planned).document["layers"]["model.5"]["out_after"] == 115
    kept.write_bytes(kept.read_bytes()[:500])
    again = call(*planned)
    assert (again.status, again.remarks[-1]) == (3, "tui-pruner: calibrate ran again")


@pytest.mark.parametrize("command", ["preview", "prune"])
def test_missing_data_for_a_criterion_is_reported_with_the_option_to_give(call: Call, demo_checkpoint: Path, tmp_path: Path, command: str):
    output = ("-o", tmp_path / "out.pt") if command == "prune" else ()
    answer = call(command, demo_checkpoint, *CUT, "--criterion", "hessian", *output)
    assert (answer.status, answer.out) == (2, "")
    assert answer.remarks == [
        "tui-pruner: the criterion hessian ranks channels by the gradients of the loss on calibration images: "
        "give --data DATA.yaml, the yaml that the model was trained with"
    ]
