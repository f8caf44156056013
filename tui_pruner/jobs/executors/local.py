"""The default: trials run on this machine, in the job's own process or in several of them."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import TYPE_CHECKING

from tui_pruner.jobs.executors import Landing, Subject
from tui_pruner.jobs.station import station

if TYPE_CHECKING:
    from tui_pruner.core.sensitivity import Trial


def landings(subject: Subject, trials: Sequence[Trial]) -> Generator[Landing, None, None]:
    """The baseline first, then trial by trial; from several processes, task by task as they are done."""
    if subject.parameters.executor.workers > 1:
        from tui_pruner.jobs.executors import workers

        yield from workers.landings(subject, trials)
        return
    with station(subject.analysis, subject.data, subject.parameters) as found:
        yield Landing(found.baseline)
        for trial, outcome in found.outcomes(trials):
            yield Landing(found.baseline, {trial.digest: outcome})
