"""Too little GPU memory: smaller batches, the same figures, and finally an error in one line."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.faults.nth_call import quick_verification
from tests.gpu.alike import differences
from tests.gpu.device import MIB, Machine
from tests.gpu.pretending import WITHOUT_AMP, pretended_gpus
from tests.gpu.workload import RUNS, Subject, function_of, parameters
from tui_pruner.cli import job_runs
from tui_pruner.core.model.checkpoint import stages_of
from tui_pruner.core.search import sensitivity
from tui_pruner.domain.errors import JobError
from tui_pruner.engine.messages import Message
from tui_pruner.frameworks.ultralytics import read_checkpoint
from tui_pruner.jobs.__main__ import explain


@pytest.fixture
def machine() -> Iterator[Machine]:
    """A machine with one GPU, on which Ultralytics trains without mixed precision."""
    with pretended_gpus(1, name=WITHOUT_AMP) as machine, quick_verification():
        yield machine


def test_scan_gives_the_same_result_with_less_memory(subject: Subject, machine: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    all_trials = sensitivity.trials_of
    monkeypatch.setattr(sensitivity, "trials_of", lambda *given: (all_trials(*given)[0][::3], []))

    def scanned(folder: str) -> dict[str, Any]:
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / folder))
        wanted = parameters(RUNS["scan"], subject, "cuda:0", tmp_path)
        return RUNS["scan"].figures(function_of("scan")(wanted, lambda progress: None))

    ample = scanned("ample")
    machine.devices[0].total = machine.devices[0].peak * 2 // 3
    assert differences(ample, scanned("short"), 1e-6) == []


def test_training_halves_its_batch_until_it_fits(subject: Subject, machine: Machine, tmp_path: Path):
    machine.devices[0].total = 32 * MIB  # with this side, batches of 4 take 43 MiB and batches of 2 take 24 MiB
    wanted = parameters(RUNS["finetune"], subject, "cuda:0", tmp_path).model_copy(update={"imgsz": 192, "teacher": None})
    found = function_of("finetune")(wanted, lambda progress: None)
    assert stages_of(read_checkpoint(found.output).provenance)[-1]["batch"] == 2


class InThisProcess:
    """A job that runs in this process, and fails as its own process would."""

    def __init__(self, kind: str, parameters: Message, on_progress: Any) -> None:
        self.kind, self.parameters, self.on_progress = kind, parameters, on_progress

    async def run(self) -> dict[str, Any]:
        try:
            return function_of(self.kind)(self.parameters, self.on_progress).model_dump()
        except Exception as error:
            raise explain(error) from error


def test_command_halves_the_batch_and_finally_reports_what_to_do(
    subject: Subject, machine: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setattr("tui_pruner.engine.client.Job", InThisProcess)
    machine.devices[0].total = MIB // 5
    wanted = parameters(RUNS["reconstruct"], subject, "cuda:0", tmp_path)
    with pytest.raises(JobError, match=r"not enough memory for this job; free some, choose another --device or a smaller --imgsz"):
        job_runs.run_job("reconstruct", wanted, lambda progress: None, ends_early=False)
    tried = [line for line in capsys.readouterr().err.splitlines() if "trying" in line]
    assert tried == [f"not enough memory for batches of {batch}: trying {batch // 2}" for batch in (4, 2)]
