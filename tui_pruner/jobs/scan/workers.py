"""Workers of a scan: the messages to and from a worker, its work on its own cores and folder, and several workers on this machine."""

from __future__ import annotations

import contextlib
import fcntl
import functools
import json
import os
import platform
import queue
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from tui_pruner import __version__
from tui_pruner.domain.errors import Cancelled, DataError, JobError
from tui_pruner.engine.client import as_error
from tui_pruner.engine.messages import Message
from tui_pruner.engine.processes import child_environment, open_log
from tui_pruner.engine.search_messages import ScanParameters
from tui_pruner.jobs.data.dataset import read_data
from tui_pruner.jobs.scan.executors import ScanContext, TrialResults, TrialRunner, parts, side_by_side, trial_runner
from tui_pruner.jobs.validate import opened
from tui_pruner.storage.atomic import remove_leftovers, removed_at_next_start
from tui_pruner.storage.error_log import version_of
from tui_pruner.storage.trust import is_trusted, trust
from tui_pruner.storage.yaml import everywhere

if TYPE_CHECKING:
    from tui_pruner.core.search.sensitivity import Trial


@functools.cache
def common_folder() -> Path:
    """The folder of all workers of this user on this machine."""
    folder = Path(tempfile.gettempdir(), f"tui-pruner-workers-{os.getuid()}")
    folder.mkdir(mode=0o700, exist_ok=True)
    return folder


@dataclass(frozen=True)
class WorkerFolder:
    """A folder of this process, and the note that has it removed after the process is gone; valid while this object exists."""

    folder: Path
    note: contextlib.AbstractContextManager[None]


@functools.cache
def worker_folder() -> WorkerFolder:
    """This process's folder. Ray kills workers without notice, so leftovers of dead workers are removed here."""
    remove_leftovers()
    folder = Path(tempfile.mkdtemp(prefix="tui-pruner-worker-"))
    note = removed_at_next_start(folder)
    note.__enter__()
    return WorkerFolder(folder, note)


def claim_cores(count: int, common: Path) -> list[TextIO]:
    """Bind this process to this many cores that no other worker has; to none where there are not enough.

    The claims are locks that end with the process or with these streams: keep them.
    """
    if not hasattr(os, "sched_setaffinity"):
        return []
    claims: dict[int, TextIO] = {}
    for core in sorted(os.sched_getaffinity(0)):
        if len(claims) < count and (stream := locked(common / f"core-{core}")):
            claims[core] = stream
    if len(claims) < count:
        return []
    os.sched_setaffinity(0, claims)
    return list(claims.values())


def locked(file: Path) -> TextIO | None:
    """The file, locked; None where another process has locked it."""
    stream = file.open("w")
    with contextlib.suppress(BlockingIOError):
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return stream
    stream.close()
    return None


LIBRARIES = ("ultralytics", "torch")


class TaskTrial(Message):
    """A trial as plain data: what it removes of which groups. Its digest is its key."""

    digest: str
    group: int
    layer: str
    ratio: float
    places: dict[int, list[int]]


class Task(Message):
    """A wave of trials. It may run twice, or for two drivers: its result depends only on the order and these trials."""

    trials: list[TaskTrial]


class Order(Message):
    """What all tasks of a scan share: the checkpoint, the data and its digest, and the versions that results depend on.

    `trusted`: whether the driver's user trusts the checkpoint; a node of a cluster executes its driver's code anyway.
    """

    parameters: ScanParameters
    data_digest: str
    versions: dict[str, str]
    trusted: bool = False


class TaskResult(Message):
    """The outcomes of a task by the digests of its trials, and the baseline of the worker that measured them."""

    baseline: dict[str, float]
    metrics: dict[str, dict[str, float]]
    reasons: dict[str, str]
    where: str
    seconds: float


def versions() -> dict[str, str]:
    """The versions that must be equal for groups to have equal numbers, without a build suffix such as +cu128."""
    return {"tui-pruner": __version__, **{name: version_of(name).partition("+")[0] for name in LIBRARIES}}


def order_of(context: ScanContext, device: str) -> Order:
    """The order, with absolute paths."""
    parameters = context.parameters
    data = everywhere(parameters.data)
    checkpoint = Path(parameters.checkpoint).expanduser()
    changes = {"data": data, "checkpoint": str(checkpoint.absolute()) if checkpoint.is_file() else parameters.checkpoint, "device": device}
    seen = read_data(data).subset(parameters.images, parameters.seed)
    trusted = is_trusted(parameters.sha256)
    return Order(parameters=parameters.model_copy(update=changes), data_digest=seen.digest(), versions=versions(), trusted=trusted)


def tasks_of(context: ScanContext, trials: Sequence[Trial], slots: int) -> list[Task]:
    """Split trials into waves: as many side by side as memory allows, but at least one wave for each worker."""
    size = max(1, min(side_by_side(context.analysis.checkpoint.model), -(-len(trials) // max(1, slots))))
    return [Task(trials=[plain(trial) for trial in part]) for part in parts(trials, size)]


def plain(trial: Trial) -> TaskTrial:
    """A trial as plain data."""
    places = {number: found.tolist() for number, found in trial.removal.places.items()}
    return TaskTrial(digest=trial.digest, group=trial.group, layer=trial.layer, ratio=trial.ratio, places=places)


def trial_from_plain(trial: TaskTrial) -> Trial:
    """A trial from plain data."""
    import numpy as np

    from tui_pruner.core.pruning.removal import Removal
    from tui_pruner.core.search.sensitivity import Trial

    removal = Removal({number: np.asarray(found, dtype=np.int64) for number, found in trial.places.items()})
    return Trial(trial.group, trial.layer, trial.ratio, removal)


@contextlib.contextmanager
def working(order: Order) -> Iterator[TrialRunner]:
    """The checkpoint on the data of an order.

    Raises:
        JobError: other versions are installed here.
        DataError: the data set is missing here, or differs.
        CheckpointError: the checkpoint is missing here, or differs.
    """
    from tui_pruner.core.model.analysis import analyse

    parameters = order.parameters
    if order.trusted:
        trust([parameters.sha256])
    different = [f"{name} {found} instead of {order.versions[name]}" for name, found in versions().items() if found != order.versions[name]]
    if different:
        raise JobError(f"{platform.node()} has {', '.join(different)}: install the same versions on all nodes")
    data = read_data(parameters.data).subset(parameters.images, parameters.seed)
    if data.digest() != order.data_digest:
        raise DataError(
            f"{parameters.data} on {platform.node()} is not the data set that the scan was started with (path, size or time of a file): "
            "let all nodes read it from one shared file system"
        )
    with trial_runner(analyse(opened(parameters), parameters.imgsz), data, parameters) as found:
        yield found


def done(found: TrialRunner, task: Task, where: str) -> TaskResult:
    """A task's result."""
    started = time.perf_counter()
    metrics: dict[str, dict[str, float]] = {}
    reasons: dict[str, str] = {}
    for trial, outcome in found.outcomes([trial_from_plain(trial) for trial in task.trials]):
        if isinstance(outcome, str):
            reasons[trial.digest] = outcome
        else:
            metrics[trial.digest] = outcome
    seconds = time.perf_counter() - started
    return TaskResult(baseline=found.baseline, metrics=metrics, reasons=reasons, where=where, seconds=seconds)


LONGEST_END = 10.0


class Worker:
    """A child process that runs one task after the other; started with the first task, and again after it died."""

    def __init__(self, order: Order, threads: int) -> None:
        self._order = order
        self._environment = {**child_environment(), "OMP_NUM_THREADS": str(threads)}
        self._lock = threading.Lock()
        self._child: subprocess.Popen[bytes] | None = None
        self._scratch = ""
        self._over = False

    def do(self, task: Task) -> TrialResults:
        """A task's outcomes; where the child dies twice, the reason for each trial.

        Raises:
            PrunerError: the worker's own explanation why it cannot work at all.
            Cancelled: `end` was called.
        """
        result, death = self._ask(task)
        if result is None:
            first, (result, death) = death, self._ask(task)
            remark = f"a worker {first}: its {len(task.trials)} trials ran again"
            if result is None:
                return TrialResults(outcomes={trial.digest: f"its worker {death}, twice" for trial in task.trials}, remarks=(remark,))
            return as_trial_results(result, remark)
        return as_trial_results(result)

    def end(self) -> None:
        """Kill the child, and start no other."""
        with self._lock:
            self._over = True
            self._close()

    def _ask(self, task: Task) -> tuple[TaskResult | None, str]:
        """The result, or None with the reason how the child ended."""
        child = self._started()
        assert child.stdin is not None and child.stdout is not None
        line = b""
        with contextlib.suppress(OSError, ValueError):
            child.stdin.write(task.to_json() + b"\n")
            child.stdin.flush()
            line = child.stdout.readline()
        if not line.endswith(b"\n"):
            status = child.wait()
            with self._lock:
                self._close()
            return None, f"was killed by signal {-status}" if status < 0 else f"ended with status {status}"
        answer = json.loads(line)
        if "error" in answer:
            raise as_error(answer["error"], otherwise=JobError)
        return TaskResult.model_validate(answer["result"]), ""

    def _started(self) -> subprocess.Popen[bytes]:
        with self._lock:
            if self._over:
                raise Cancelled("the scan was cancelled")
            if self._child is None:
                self._scratch = tempfile.mkdtemp(prefix="tui-pruner-worker-")
                command = [sys.executable, "-m", "tui_pruner.jobs.scan", self._scratch]
                with open_log() as noise:
                    self._child = subprocess.Popen(
                        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=noise, env=self._environment
                    )
                assert self._child.stdin is not None
                with contextlib.suppress(OSError):
                    self._child.stdin.write(self._order.to_json() + b"\n")
            return self._child

    def _close(self) -> None:
        if self._child is None:
            return
        self._child.kill()
        for pipe in (self._child.stdin, self._child.stdout):
            with contextlib.suppress(OSError):
                pipe.close()  # type: ignore[union-attr]
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._child.wait(LONGEST_END)
        shutil.rmtree(self._scratch, ignore_errors=True)
        self._child = None


def results_of_workers(context: ScanContext, trials: Sequence[Trial]) -> Generator[TrialResults, None, None]:
    """Task by task, in the order in which they finish."""
    count = context.parameters.executor.workers
    tasks = tasks_of(context, trials, count)
    staff = [Worker(order_of(context, device), threads_each(count)) for device in devices(context.parameters.device, count)]
    idle: queue.SimpleQueue[Worker] = queue.SimpleQueue()
    for worker in staff:
        idle.put(worker)

    def run(task: Task) -> TrialResults:
        worker = idle.get()
        try:
            return worker.do(task)
        finally:
            idle.put(worker)

    pool = ThreadPoolExecutor(count)
    try:
        for future in as_completed([pool.submit(run, task) for task in tasks]):
            yield future.result()
    finally:
        for worker in staff:
            worker.end()
        pool.shutdown(cancel_futures=True)


def as_trial_results(result: TaskResult, *remarks: str) -> TrialResults:
    """A result in the form that all executors return."""
    return TrialResults(result.baseline, {**result.metrics, **result.reasons}, result.where, remarks)


def devices(asked: str, count: int) -> list[str]:
    """The device of each worker: the given ones in turns, by default one GPU after the other if there are any.

    Raises:
        RequestError: a device does not exist.
    """
    import torch

    from tui_pruner.jobs.tools import chosen_devices

    chosen = chosen_devices(asked)
    if not asked and chosen != ["cpu"]:
        chosen = [f"cuda:{number}" for number in range(torch.cuda.device_count())]
    return [chosen[number % len(chosen)] for number in range(count)]


def threads_each(count: int) -> int:
    """How many threads a worker gets of those that this process may use."""
    import torch

    return max(1, torch.get_num_threads() // count)
