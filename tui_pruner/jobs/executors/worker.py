"""Does tasks in a process or on a machine of its own: opens what the order names, checks that it is the same, and measures."""

from __future__ import annotations

import contextlib
import platform
import time
from collections.abc import Iterator

from tui_pruner.errors import DataError, JobError
from tui_pruner.jobs.dataset import read_data
from tui_pruner.jobs.executors.tasks import Order, Task, TaskResult, revived, versions
from tui_pruner.jobs.station import Station, station
from tui_pruner.jobs.validate import opened
from tui_pruner.trust import trust


@contextlib.contextmanager
def working(order: Order) -> Iterator[Station]:
    """The checkpoint on the data as the order has them.

    Raises:
        JobError: other versions are installed here.
        DataError: the data set is not here, or not the same.
        CheckpointError: the checkpoint is not here, or not the same.
    """
    from tui_pruner.core.analysis import analyse

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
    with station(analyse(opened(parameters), parameters.imgsz), data, parameters) as found:
        yield found


def done(found: Station, task: Task, where: str) -> TaskResult:
    """A task's result."""
    started = time.perf_counter()
    metrics: dict[str, dict[str, float]] = {}
    reasons: dict[str, str] = {}
    for trial, outcome in found.outcomes([revived(trial) for trial in task.trials]):
        if isinstance(outcome, str):
            reasons[trial.digest] = outcome
        else:
            metrics[trial.digest] = outcome
    seconds = time.perf_counter() - started
    return TaskResult(baseline=found.baseline, metrics=metrics, reasons=reasons, where=where, seconds=seconds)
