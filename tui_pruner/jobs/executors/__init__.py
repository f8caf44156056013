"""Who runs the trials of a scan: one interface, and a table of those that there are."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tui_pruner.errors import RequestError
from tui_pruner.jobs.scan_store import Metrics

if TYPE_CHECKING:
    from tui_pruner.core.analysis import Analysis
    from tui_pruner.core.sensitivity import Trial
    from tui_pruner.engine.scan_messages import ScanExecutor, ScanParameters
    from tui_pruner.jobs.dataset import DataSet


@dataclass(frozen=True)
class Subject:
    """What is scanned: a checkpoint that is open, on the images of a data set."""

    analysis: Analysis
    parameters: ScanParameters
    data: DataSet


@dataclass(frozen=True)
class Landing:
    """What has come back: metrics or a reason by the digests of trials, with the baseline of whoever measured them.

    `baseline`: None where nobody did; `where`: who it was; `remarks`: what the user should know of how it went.
    """

    baseline: Metrics | None = None
    outcomes: Mapping[str, Metrics | str] = field(default_factory=dict)
    where: str = ""
    remarks: tuple[str, ...] = ()


Executor = Callable[[Subject, "Sequence[Trial]"], Generator[Landing, None, None]]
"""Measures trials in any order and yields what has landed; closing it ends all that it started.

Each trial lands at least once. It does not matter who else measures the same: an outcome depends on the subject and the trial alone.
"""
EXECUTORS = {
    "local": "tui_pruner.jobs.executors.local",
    "ray": "tui_pruner.jobs.executors.cluster",
}
"""The module of each; its function is `landings`."""


def executor_for(wanted: ScanExecutor) -> Executor:
    """The executor of this name.

    Raises:
        RequestError: there is none.
    """
    if wanted.name not in EXECUTORS:
        raise RequestError(f"there is no executor {wanted.name!r}: it is one of {', '.join(EXECUTORS)}")
    executor: Executor = importlib.import_module(EXECUTORS[wanted.name]).landings
    return executor
