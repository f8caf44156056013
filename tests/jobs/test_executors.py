"""A scan's result does not depend on who runs its trials: other processes, other orders, repeated tasks, crashes."""

from __future__ import annotations

import hashlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tui_pruner.core.search.sensitivity import Trial, trials_of
from tui_pruner.domain.errors import DataError, JobError, PrunerError, RequestError
from tui_pruner.engine.job_messages import JobProgress
from tui_pruner.engine.search_messages import ScanExecutor, ScanParameters, ScanResult
from tui_pruner.jobs.cache import digest_of
from tui_pruner.jobs.scan import ray_cluster, workers
from tui_pruner.jobs.scan import scan as job
from tui_pruner.jobs.scan import workers as tasks
from tui_pruner.jobs.scan.executors import ScanContext, TrialResults
from tui_pruner.jobs.scan.workers import done, worker_folder, working


@pytest.fixture
def parameters(demo_checkpoint: Path, demo_data: Path) -> ScanParameters:
    sha256 = hashlib.sha256(demo_checkpoint.read_bytes()).hexdigest()
    return ScanParameters(
        checkpoint=str(demo_checkpoint), sha256=sha256, data=str(demo_data), images=4, imgsz=64, device="cpu", ratios=[0.5]
    )


@pytest.fixture(autouse=True)
def few_trials_in_small_tasks(monkeypatch: pytest.MonkeyPatch) -> None:
    def some(*arguments: Any) -> Any:
        trials, skipped = trials_of(*arguments)
        return trials[::6], skipped

    monkeypatch.setattr("tui_pruner.core.search.sensitivity.trials_of", some)
    monkeypatch.setattr("tui_pruner.jobs.scan.executors.SIDE_BY_SIDE", 2)


@pytest.fixture
def in_this_process(parameters: ScanParameters) -> ScanResult:
    return job.run_scan(parameters, lambda progress: None)


def with_executor(parameters: ScanParameters, **executor: Any) -> ScanParameters:
    return parameters.model_copy(update={"executor": ScanExecutor(**executor)})


def set_new_cache_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "other"))


def test_result_key_does_not_depend_on_the_executor(parameters: ScanParameters):
    assert digest_of(with_executor(parameters, name="ray", workers=9), "data") == digest_of(parameters, "data")


def test_results_do_not_depend_on_the_order_or_repetition_of_tasks(
    parameters: ScanParameters, in_this_process: ScanResult, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def backwards(context: ScanContext, trials: list[Trial]) -> Iterator[TrialResults]:
        order = tasks.Order.model_validate_json(tasks.order_of(context, "cpu").model_dump_json())
        cut = [tasks.Task.model_validate_json(task.model_dump_json()) for task in tasks.tasks_of(context, trials, 1)]
        with working(order) as found:
            for task in [*reversed(cut), cut[1]]:
                yield workers.as_trial_results(done(found, task, "elsewhere"))

    set_new_cache_folder(tmp_path, monkeypatch)
    monkeypatch.setattr(job, "executor_for", lambda wanted: backwards)
    seen: list[JobProgress] = []
    result = job.run_scan(parameters, seen.append)
    assert result.model_dump(exclude={"seconds"}) == in_this_process.model_dump(exclude={"seconds"})
    assert len(result.groups) == 10 and seen[-1].doing.endswith(", elsewhere")


def test_several_processes_give_the_same_result_and_a_killed_one_is_replaced(
    parameters: ScanParameters, in_this_process: ScanResult, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    killed: list[int] = []

    def kill_one(progress: JobProgress) -> None:
        if progress.metrics and not killed:
            killed.append(int(progress.doing.rpartition(" ")[2]))
            os.kill(killed[0], signal.SIGKILL)

    set_new_cache_folder(tmp_path, monkeypatch)
    result = job.run_scan(with_executor(parameters, workers=2), kill_one)
    assert result.remarks == ["a worker was killed by signal 9: its 2 trials ran again"]
    assert result.groups == in_this_process.groups and result.failed == []


def test_trials_that_kill_their_worker_twice_are_reported_and_the_others_continue(
    parameters: ScanParameters, in_this_process: ScanResult, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    deadly_trials: list[list[str]] = []

    def deadly(worker: workers.Worker, task: tasks.Task) -> tuple[tasks.TaskResult | None, str]:
        digests = [trial.digest for trial in task.trials]
        deadly_trials[:] = deadly_trials or [digests]
        if digests == deadly_trials[0]:
            return None, "was killed by signal 9"
        metrics = {trial.digest: {in_this_process.name: 0.25} for trial in task.trials}
        baseline = {in_this_process.name: in_this_process.baseline, "images": 4.0}
        return tasks.TaskResult(baseline=baseline, metrics=metrics, reasons={}, where="worker 1", seconds=0.1), ""

    set_new_cache_folder(tmp_path, monkeypatch)
    monkeypatch.setattr(workers.Worker, "_ask", deadly)
    result = job.run_scan(with_executor(parameters, workers=2), lambda progress: None)
    assert [failure.error for failure in result.failed] == ["its worker was killed by signal 9, twice"] * 2
    assert {row.metric for row in result.groups} == {0.25} and len(result.groups) == 8


def test_scan_fails_if_no_worker_returns_a_result(parameters: ScanParameters, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(workers.Worker, "_ask", lambda worker, task: (None, "ended with status 1"))
    with pytest.raises(JobError, match="no worker came back with a result: its worker ended with status 1, twice"):
        job.run_scan(with_executor(parameters, workers=2), lambda progress: None)


def test_workers_with_different_baselines_are_reported(parameters: ScanParameters, monkeypatch: pytest.MonkeyPatch):
    def two(context: ScanContext, trials: list[Trial]) -> Iterator[TrialResults]:
        for where, value in (("old-node", 0.5), ("new-node", 0.4)):
            found = {"metrics/mAP50-95(B)": value}
            yield TrialResults({**found, "images": 4.0}, {trial.digest: found for trial in trials}, where)

    monkeypatch.setattr(job, "executor_for", lambda wanted: two)
    (remark,) = job.run_scan(parameters, lambda progress: None).remarks
    assert remark.startswith("new-node has metrics/mAP50-95(B) 0.4000 for the checkpoint instead of 0.5000")


def test_worker_refuses_other_data_and_other_versions(parameters: ScanParameters):
    order = tasks.Order(parameters=parameters, data_digest="0" * 64, versions=tasks.versions())
    with pytest.raises(DataError, match="is not the data set that the scan was started with"), working(order):
        pass
    old = order.model_copy(update={"versions": {**order.versions, "ultralytics": "8.0.0"}})
    with pytest.raises(JobError, match=r"has ultralytics \S+ instead of 8.0.0: install the same versions"), working(old):
        pass


@pytest.mark.parametrize(
    ("address", "kind", "words"),
    [
        ("auto", JobError, "cannot be reached: Connection refused"),
        ("ray", RequestError, "give auto, host:port or ray://host:port"),
        ("ray://127.0.0.1:PORT", JobError, "cannot be reached: Connection refused"),
        ("127.0.0.1:PORT", JobError, "cannot be reached: Connection refused"),
    ],
)
def test_unreachable_cluster_is_reported_in_one_line(address: str, kind: type[PrunerError], words: str, tmp_path: Path, monkeypatch):
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        monkeypatch.delenv("RAY_ADDRESS", raising=False)
        monkeypatch.setattr(ray_cluster, "CURRENT_CLUSTER", tmp_path / "left-behind")
        (tmp_path / "left-behind").write_text(f"127.0.0.1:{closed.getsockname()[1]}\n")
        with pytest.raises(kind, match=words) as caught:
            ray_cluster.probe(address.replace("PORT", str(closed.getsockname()[1])))
    assert "\n" not in str(caught.value)


def test_missing_ray_extra_is_reported_with_the_install_command(parameters: ScanParameters, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(RequestError, match=r"pip install 'tui-pruner\[ray\]'"):
        job.run_scan(with_executor(parameters, name="ray"), lambda progress: None)
    with pytest.raises(RequestError, match="no executor 'dask': it is one of local, ray"):
        job.run_scan(with_executor(parameters, name="dask"), lambda progress: None)


def test_ray_tasks_use_available_gpus_and_fill_the_cluster():
    gpus, cores = {"CPU": 32.0, "GPU": 8.0}, {"CPU": 32.0}
    whole, half = ScanExecutor(name="ray"), ScanExecutor(name="ray", gpus_per_task=0.5)
    assert [ray_cluster.gpus_of(whole, device, gpus) for device in ("", "cuda", "cpu")] == [1.0, 1.0, 0.0]
    assert [ray_cluster.gpus_of(found, "", cores) for found in (whole, half)] == [0.0, 0.5]
    assert ray_cluster.slots(gpus, {"CPU": 1.0, "GPU": 0.5}) == 16 and ray_cluster.slots(cores, {"CPU": 2.0, "GPU": 0.0}) == 16
    nodes = [{"Alive": False, "Resources": gpus}, {"Alive": True, "Resources": cores}]
    assert not ray_cluster.able(nodes, {"CPU": 1.0, "GPU": 1.0}) and ray_cluster.able(nodes, {"CPU": 32.0, "GPU": 0.0})


CLAIM = """
import os, sys
from pathlib import Path
from tui_pruner.jobs.scan.workers import claim_cores
claims = claim_cores(1, Path(sys.argv[1]))
print(len(claims), *sorted(os.sched_getaffinity(0)), flush=True)
sys.stdin.read()
"""


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="this system binds no process to cores")
def test_two_workers_claim_different_cores_and_a_surplus_one_uses_all(tmp_path: Path):
    cores = sorted(os.sched_getaffinity(0))
    command = [sys.executable, "-c", CLAIM, str(tmp_path)]
    running = [subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(len(cores) + 1)]
    found = [list(map(int, child.stdout.readline().split())) for child in running]
    for child in running:
        child.communicate()
    assert sorted(bound for claims, *bound in found if claims) == [[core] for core in cores]
    assert [bound for claims, *bound in found if not claims] == [cores]


def test_folder_of_a_dead_worker_is_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    killed = (
        "import os; from tui_pruner.jobs.scan.workers import worker_folder as own; (own().folder / 'view').mkdir(); os.kill(os.getpid(), 9)"
    )
    subprocess.run([sys.executable, "-c", killed], env={**os.environ, "TMPDIR": str(tmp_path)}, check=False)
    (left,) = tmp_path.iterdir()
    assert (left / "view").is_dir()
    worker_folder.cache_clear()
    mine = worker_folder().folder
    assert list(tmp_path.iterdir()) == [mine] and worker_folder().folder == mine
