"""A Ray cluster: tasks run on its nodes, a task whose node is lost runs on another one, and the driver stores every result."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import logging
import math
import os
import platform
import signal
import socket
import tempfile
import threading
from collections.abc import Generator, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TextIO

from tui_pruner.domain.errors import JobError, RequestError
from tui_pruner.engine.client import as_error
from tui_pruner.engine.search_messages import ScanExecutor, ScanParameters
from tui_pruner.jobs.scan.executors import ScanContext, TrialResults
from tui_pruner.jobs.scan.workers import Order, Task, TaskResult, claim_cores, common_folder, order_of, tasks_of, worker_folder
from tui_pruner.storage import paths
from tui_pruner.storage.atomic import replace_file

if TYPE_CHECKING:
    from tui_pruner.core.search.sensitivity import Trial
    from tui_pruner.jobs.scan.executors import TrialRunner


def run_task(order: bytes, task: bytes, content: list[Any]) -> dict[str, Any]:
    """A task's {"result": ...}, or {"error": {"kind", "message"}} where this node cannot run it; both are plain data."""
    from tui_pruner.engine.processes import child_environment
    from tui_pruner.jobs.__main__ import explain
    from tui_pruner.jobs.scan.workers import done

    os.environ.update(child_environment())
    try:
        given = Order.from_json(order)
        local = given.model_copy(update={"parameters": with_local_checkpoint(given.parameters, content)})
        result = done(kept(local.to_json()).runner, Task.from_json(task), name_of_node())
        return {"result": result.model_dump()}
    except Exception as error:
        explained = explain(error)
        return {"error": {"kind": type(explained).__name__, "message": str(explained)}}


def name_of_node() -> str:
    """The host, and this node's name in Ray's own tools."""
    import ray

    return f"{platform.node()} {ray.get_runtime_context().get_node_id()[:8]}"


class Kept(NamedTuple):
    """A trial runner, what closes it, and the cores that it works on."""

    runner: TrialRunner
    opened: contextlib.ExitStack
    cores: list[TextIO]


@functools.lru_cache(maxsize=1)
def kept(order: bytes) -> Kept:
    """The trial runner of an order, kept while this process works on it, so that its baseline is measured once."""
    from tui_pruner.jobs.scan.workers import working

    given, opened, common = Order.from_json(order), contextlib.ExitStack(), common_folder()
    tempfile.tempdir = str(worker_folder().folder)
    cores = claim_cores(math.ceil(given.parameters.executor.cpus_per_task), common) if given.parameters.device == "cpu" else []
    return Kept(opened.enter_context(working(given)), opened, cores)


def with_local_checkpoint(parameters: ScanParameters, content: list[Any]) -> ScanParameters:
    """The parameters with a checkpoint on this node: where none has its SHA-256, it is fetched into the cache folder."""
    if not content or sha256_of(Path(parameters.checkpoint)) == parameters.sha256:
        return parameters
    file = paths.cache_folder() / "checkpoints" / f"{parameters.sha256}.pt"
    if sha256_of(file) != parameters.sha256:
        import ray

        replace_file(file, ray.get(content[0]).tobytes())
    return parameters.model_copy(update={"checkpoint": str(file)})


def sha256_of(file: Path) -> str | None:
    """The digest of a file; None where it cannot be read."""
    try:
        return hashlib.sha256(file.read_bytes()).hexdigest()
    except OSError:
        return None


REACH = 10.0
"""Seconds until an address that does not answer is given up; Ray itself waits for two minutes, then ends the process."""
RETRIES = 3
"""How often a task runs again after its worker or node was lost; our own errors would only be repeated."""
PATIENCE = 15.0
"""Seconds without a result until it is checked whether any node can run a task at all."""
CURRENT_CLUSTER = Path("/tmp/ray/ray_current_cluster")


def trial_results(context: ScanContext, trials: Sequence[Trial]) -> Generator[TrialResults, None, None]:
    """Task by task, in any order nodes are done.

    Raises:
        RequestError: Ray is not installed.
        JobError: the cluster cannot be reached, or a node has other versions.
        DataError: a node has no such data set.
    """
    wanted = context.parameters.executor
    with connection(wanted.address) as ray:
        gpus = gpus_of(wanted, context.parameters.device, ray.cluster_resources())
        need = {"CPU": wanted.cpus_per_task, "GPU": gpus}
        order = order_of(context, "cuda:0" if gpus else "cpu").to_json()
        # in a list: Ray fetches it only where a node asks, because it has no such file
        content = [ray.put(checkpoint)] if (checkpoint := bytes_of(context.parameters.checkpoint)) is not None else []
        remote = ray.remote(num_cpus=need["CPU"], num_gpus=gpus, max_retries=RETRIES, retry_exceptions=False)(run_task)
        tasks = tasks_of(context, trials, slots(ray.cluster_resources(), need))
        waiting = {remote.remote(order, task.to_json(), content): task for task in tasks}
        try:
            while waiting:
                ready, _ = ray.wait(list(waiting), timeout=PATIENCE)
                for reference in ready:
                    yield result_of_task(ray, reference, waiting.pop(reference))
                if not ready and not able(ray.nodes(), need):
                    yield TrialResults(remarks=(f"waiting: no node of the cluster has {described(need)}",))
        finally:
            for reference in waiting:
                ray.cancel(reference, force=True)


def result_of_task(ray: Any, reference: Any, task: Task) -> TrialResults:
    """The result of a task; where its workers died repeatedly, that is the reason for each of its trials."""
    try:
        answer = ray.get(reference)
    except ray.exceptions.RayTaskError as error:
        raise JobError(f"a Ray task failed: {last_line(error)}") from error
    except ray.exceptions.RayError as error:
        reason = f"its Ray task was lost {RETRIES + 1} times: {type(error).__name__}"
        return TrialResults(outcomes={trial.digest: reason for trial in task.trials})
    if "error" in answer:
        raise as_error(answer["error"], otherwise=JobError)
    result = TaskResult.model_validate(answer["result"])
    return TrialResults(result.baseline, {**result.metrics, **result.reasons}, result.where)


@contextlib.contextmanager
def connection(address: str) -> Iterator[Any]:
    """Ray, connected to a cluster; disconnected at the end, unless the caller was connected before.

    Raises:
        RequestError: Ray is not installed, or the address is invalid.
        JobError: the cluster cannot be reached, or does not accept this Python or Ray.
    """
    ray = installed()
    if ray.is_initialized():
        yield ray
        return
    probe(address)
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        with own_sigterm():
            ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
    except (Exception, SystemExit) as error:  # where no Ray server answers, it raises SystemExit after two minutes
        raise JobError(f"the Ray cluster at {address} cannot be used: {last_line(error)}") from None
    try:
        yield ray
    finally:
        ray.shutdown()


@contextlib.contextmanager
def own_sigterm() -> Iterator[None]:
    """Keep this process's SIGTERM handler: Ray's prints a stack and ends with another status."""
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        if before is not None and threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, before)


def installed() -> Any:
    """Import Ray.

    Raises:
        RequestError: it is not installed.
    """
    try:
        import ray
    except ImportError:
        raise RequestError("--executor ray needs Ray: pip install 'tui-pruner[ray]'") from None
    return ray


def probe(address: str) -> None:
    """Check that an address answers.

    Raises:
        RequestError: the address is invalid.
        JobError: the cluster does not answer.
    """
    text = known_address() if address == "auto" else address
    if text is None:
        return  # Ray looks further, and reports at once where it finds none
    host, _, port = text.removeprefix("ray://").rpartition(":")
    if not host or not port.isdigit():
        raise RequestError(f"--address {address!r}: give auto, host:port or ray://host:port")
    try:
        socket.create_connection((host.strip("[]"), int(port)), REACH).close()
    except (OSError, OverflowError) as error:
        raise JobError(f"the Ray cluster at {text} cannot be reached: {getattr(error, 'strerror', None) or error}") from None


def known_address() -> str | None:
    """The address for "auto": the environment's cluster, or the one that was started last on this machine."""
    if "RAY_ADDRESS" in os.environ:
        return os.environ["RAY_ADDRESS"]
    try:
        return CURRENT_CLUSTER.read_text().strip() or None
    except OSError:
        return None


def bytes_of(checkpoint: str) -> Any:
    """A file as an array, which Ray shares with all processes of a node without a copy; None for an architecture."""
    import numpy as np

    path = Path(checkpoint).expanduser()
    return np.frombuffer(path.read_bytes(), dtype=np.uint8) if path.is_file() else None


def gpus_of(wanted: ScanExecutor, device: str, resources: dict[str, float]) -> float:
    """How many GPUs a task takes: as requested; else none for the CPU, and one where the device is a GPU or the cluster has any."""
    if device == "cpu":
        return 0.0
    if wanted.gpus_per_task is not None:
        return wanted.gpus_per_task
    return 1.0 if device or resources.get("GPU") else 0.0


def slots(resources: dict[str, float], need: dict[str, float]) -> int:
    """How many tasks the cluster runs at once."""
    return max(1, int(min((resources.get(name, 0.0) / amount for name, amount in need.items() if amount), default=1.0)))


def able(nodes: Sequence[dict[str, Any]], need: dict[str, float]) -> bool:
    """Whether any living node could run a task."""
    alive = [found["Resources"] for found in nodes if found["Alive"]]
    return any(all(found.get(name, 0.0) >= amount for name, amount in need.items()) for found in alive)


def described(need: dict[str, float]) -> str:
    """A task's resources: 1 CPU, 0.5 GPU."""
    return ", ".join(f"{amount:g} {name}" for name, amount in need.items() if amount)


def last_line(error: BaseException) -> str:
    """The most informative line of an error: where Ray quotes a traceback, the last one."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__
