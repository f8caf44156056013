"""Commands, and the processes that they and the app start, see two pretended GPUs."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from tests import warm_processes
from tests.cli.conftest import Call
from tests.faults.nth_call import quick_verification
from tests.gpu.alike import differences, strayed
from tests.gpu.conftest import used
from tests.gpu.device import Machine
from tests.gpu.pretending import VARIABLE
from tests.gpu.workload import RUNS, Subject, function_of, parameters
from tests.tui.helpers import Desk
from tests.warm_processes import imported_with
from tui_pruner.engine.recovery_messages import FinetuneResult
from tui_pruner.engine.search_messages import ScanExecutor
from tui_pruner.tui.app import PrunerApp
from tui_pruner.tui.opening import Opening

MAP = "metrics/mAP50-95(B)"


@pytest.fixture
def job_result_here(subject: Subject, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Any:
    """`job_result_here(name, device, **changes)`: a job's result in this process, which finds nothing that another one kept."""

    def doing(name: str, device: str = "cpu", **changes: Any) -> Any:
        folder = tmp_path_factory.mktemp("here")
        monkeypatch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
        with quick_verification():
            wanted = parameters(RUNS[name], subject, device, folder).model_copy(update=changes)
            return function_of(RUNS[name].kind)(wanted, lambda progress: None)

    return doing


def test_children_of_later_tests_are_forked_from_the_warm_process_again(evidence: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("KMP_BLOCKTIME", "0")  # as a library may leave it
    assert VARIABLE in os.environ and VARIABLE not in warm_processes.BEGUN
    warm_processes.forget_changes()
    assert imported_with(os.environ) == imported_with(warm_processes.BEGUN)


def test_command_uses_the_first_gpu_by_default(subject: Subject, gpus: Machine, job_result_here: Any, call: Call):
    answer = call("validate", subject.original, "--data", subject.data, "--imgsz", subject.imgsz, "--images", subject.images, "--json")
    assert answer.status == 0, answer.err
    assert gpus.devices[0].kernels > 0 == gpus.devices[1].kernels
    expected = job_result_here("validate", plan=None).metrics
    assert expected[MAP] > 0.3 and differences(expected, answer.document["metrics"], 1e-6) == []


def test_job_of_a_command_trains_on_the_requested_gpu(subject: Subject, evidence: Path, job_result_here: Any, tmp_path: Path, call: Call):
    output = tmp_path / "trained.pt"
    options = ["--epochs", 1, "--batch", 4, "--imgsz", subject.imgsz, "--sparsity", 0.01, "--device", 1, "--json"]
    answer = call("finetune", subject.original, "-o", output, "--data", subject.data, *options)
    assert answer.status == 0, answer.err
    assert used(evidence) == {"cuda:1": 1}
    figures = RUNS["train sparsely"].figures
    expected, found = figures(job_result_here("train sparsely")), figures(FinetuneResult(**answer.document))
    # AdamW's first step is as long for a gradient of rounding noise as for any other: here one number of millions
    strays = sum(strayed(expected[name], number, 1e-3) for name, number in found.items() if name in expected)
    assert strays <= 3
    assert differences(expected, found, 1e-3 if not strays else 2e-2) == []


def test_two_workers_scan_on_one_gpu_each(gpus: Machine, evidence: Path, job_result_here: Any):
    found = job_result_here("scan", device="", executor=ScanExecutor(workers=2))
    assert used(evidence) == {"cuda:0": 1, "cuda:1": 1} and found.remarks == []
    assert differences(RUNS["scan"].figures(job_result_here("scan")), RUNS["scan"].figures(found), 1e-6) == []


async def test_app_validates_on_the_requested_gpu(subject: Subject, evidence: Path, job_result_here: Any):
    opening = Opening(str(subject.original), subject.imgsz, data=str(subject.data), images=subject.images, device="cuda:1")
    app = PrunerApp(opening)
    async with app.run_test(size=(120, 40)) as pilot:
        desk = Desk(app, pilot)
        await desk.until(lambda: desk.ready, "the model")
        await desk.press("v")
        await desk.until(lambda: desk.state.metrics.baseline is not None, "the validation")
        found = desk.state.metrics.baseline
    assert used(evidence) == {"cuda:1": 1}
    assert found == pytest.approx(job_result_here("validate", plan=None).metrics[MAP], abs=1e-6)
