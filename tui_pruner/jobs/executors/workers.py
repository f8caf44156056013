"""Several processes on this machine, a GPU or a share of the cores each; one that dies is replaced, and its task runs once more."""

from __future__ import annotations

import contextlib
import json
import queue
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Generator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from typing import TYPE_CHECKING

from tui_pruner.engine.client import as_error
from tui_pruner.engine.processes import child_environment, open_log
from tui_pruner.errors import Cancelled, JobError
from tui_pruner.jobs.executors import Landing, Subject
from tui_pruner.jobs.executors.tasks import Order, Task, TaskResult, order_of, tasks_of

if TYPE_CHECKING:
    from tui_pruner.core.sensitivity import Trial

LONGEST_END = 10.0


class Worker:
    """A child that does one task after the other; it is started when the first one comes, and again after its death."""

    def __init__(self, order: Order, threads: int) -> None:
        self._order = order
        self._environment = {**child_environment(), "OMP_NUM_THREADS": str(threads)}
        self._lock = threading.Lock()
        self._child: subprocess.Popen[bytes] | None = None
        self._scratch = ""
        self._over = False

    def do(self, task: Task) -> Landing:
        """A task's outcomes; where the child dies over it twice, the reason for each trial.

        Raises:
            PrunerError: the worker's own explanation of why it cannot work at all.
            Cancelled: `end` was called.
        """
        result, death = self._ask(task)
        if result is None:
            first, (result, death) = death, self._ask(task)
            remark = f"a worker {first}: its {len(task.trials)} trials ran again"
            if result is None:
                return Landing(outcomes={trial.digest: f"its worker {death}, twice" for trial in task.trials}, remarks=(remark,))
            return landed(result, remark)
        return landed(result)

    def end(self) -> None:
        """End the child at once, and start no other."""
        with self._lock:
            self._over = True
            self._close()

    def _ask(self, task: Task) -> tuple[TaskResult | None, str]:
        """The result, or None with how the child ended."""
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
                command = [sys.executable, "-m", "tui_pruner.jobs.executors", self._scratch]
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


def landings(subject: Subject, trials: Sequence[Trial]) -> Generator[Landing, None, None]:
    """Task by task, in whatever order they are done."""
    count = subject.parameters.executor.workers
    tasks = tasks_of(subject, trials, count)
    staff = [Worker(order_of(subject, device), threads_each(count)) for device in devices(subject.parameters.device, count)]
    idle: queue.SimpleQueue[Worker] = queue.SimpleQueue()
    for worker in staff:
        idle.put(worker)

    def run(task: Task) -> Landing:
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


def landed(result: TaskResult, *remarks: str) -> Landing:
    """A result as all executors give it."""
    return Landing(result.baseline, {**result.metrics, **result.reasons}, result.where, remarks)


def devices(asked: str, count: int) -> list[str]:
    """The device of each worker: those asked for in turns, by default one GPU after the other where there are any.

    Raises:
        RequestError: a device is not there.
    """
    import torch

    from tui_pruner.jobs.devices import chosen_devices

    chosen = chosen_devices(asked)
    if not asked and chosen != ["cpu"]:
        chosen = [f"cuda:{number}" for number in range(torch.cuda.device_count())]
    return [chosen[number % len(chosen)] for number in range(count)]


def threads_each(count: int) -> int:
    """How many threads a worker gets of those that this process may use."""
    import torch

    return max(1, torch.get_num_threads() // count)
