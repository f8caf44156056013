"""Every kind of job gives the same result on a pretended GPU as on the CPU, uses no other GPU, and frees its memory."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.faults.nth_call import quick_verification
from tests.gpu.alike import differences
from tests.gpu.conftest import OnBoth
from tests.gpu.device import Machine
from tests.gpu.pretending import WITHOUT_AMP, pretended_gpus
from tests.gpu.workload import RUNS, Subject, function_of, parameters
from tui_pruner.frameworks.ultralytics import read_checkpoint
from tui_pruner.jobs.__main__ import KINDS

EQUAL = 1e-6
LOOSER = {"finetune": 1e-3, "detect": 2e-4}
"""An optimizer sums in another order for a GPU, and a file has its weights in half precision; detections are kept with four digits."""
IN_A_PROCESS = "train sparsely"
"""It is tried by a command, in test_processes.py."""
NOT_ON_A_GPU = {"prune", "compress"}
"""A cut and its proof are made on the CPU; the stages of a compression are jobs of the other kinds, each in a process of its own."""
TAKES = 1.0
"""Seconds of a pretended clock that a kernel runs."""


@pytest.fixture
def gpus() -> Iterator[Machine]:
    """GPUs on which Ultralytics trains without mixed precision."""
    with pretended_gpus(2, name=WITHOUT_AMP) as machine:
        yield machine


@pytest.fixture(autouse=True)
def quick() -> Iterator[None]:
    with quick_verification():
        yield


def job_result(name: str, subject: Subject, device: str, folder: Path, **changes: Any) -> Any:
    """A job's result."""
    folder.mkdir()
    wanted = parameters(RUNS[name], subject, device, folder).model_copy(update=changes)
    return function_of(RUNS[name].kind)(wanted, lambda progress: None)


@pytest.mark.parametrize("name", [name for name in RUNS if name != IN_A_PROCESS])
def test_job_gives_the_same_result_on_a_gpu(name: str, subject: Subject, on_both: OnBoth, tmp_path: Path):
    here, there = on_both(lambda device: RUNS[name].figures(job_result(name, subject, device, tmp_path / device)))
    assert here and differences(here, there, LOOSER.get(RUNS[name].kind, EQUAL)) == []


def test_every_kind_of_job_is_tested():
    assert {run.kind for run in RUNS.values()} | NOT_ON_A_GPU == set(KINDS)


def test_measured_latency_includes_the_kernels_of_the_gpu(subject: Subject, gpus: Machine, tmp_path: Path):
    with gpus.slow_kernels(TAKES):
        found = job_result("bench", subject, "cuda:0", tmp_path / "bench", blocks=False, suggest=False)
    for one in found.models:
        layers = sum(isinstance(module, torch.nn.Conv2d) for module in read_checkpoint(one.model).model.modules())
        assert one.device == f"cuda:0 ({WITHOUT_AMP})" and one.median_ms > 1000 * TAKES * layers > 10_000
