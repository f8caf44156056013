"""The list of all jobs: goes from job to job, cancels one, and runs one again."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Protocol

from tui_pruner.domain.errors import RequestError
from tui_pruner.tui.actions.action import ALL_JOBS, INTERACTIVE, JOBS, Action
from tui_pruner.tui.controllers.base import Dialogs, ask_to_cancel
from tui_pruner.tui.controllers.job import VALIDATE
from tui_pruner.tui.job_queue import JobQueue
from tui_pruner.tui.job_specs.job import WAITING, QueuedJob


class JobView(Protocol):
    """The screen that shows the jobs."""

    def draw_all(self, with_log: bool = True) -> None:
        """Show the present state in every pane."""

    def next_pane(self) -> None:
        """Focus the next pane."""

    def leave(self) -> None:
        """Go back to the workbench."""


class JobListController:
    """The job under the cursor; nothing but the queue is changed."""

    def __init__(self, queue: JobQueue, dialogs: Dialogs, view: JobView) -> None:
        self._queue = queue
        self._dialogs = dialogs
        self._view = view
        self._chosen = queue.running

    @classmethod
    def listed(cls) -> Sequence[Action]:
        """Give the actions without a queue behind them, to list them and to bind their keys: they cannot be run."""
        return cls.__new__(cls).actions()

    @property
    def chosen(self) -> QueuedJob | None:
        """The job under the cursor; the last one where that is gone."""
        if self._chosen not in self._queue.jobs:
            self._chosen = self._queue.jobs[-1] if self._queue.jobs else None
        return self._chosen

    def actions(self) -> Sequence[Action]:
        """What is done with one job."""
        return (
            Action(
                id="job-move-minus-1",
                keys="up,k",
                shown="up k",
                title="Job above",
                help="Go to the job above.",
                group=JOBS,
                cli=INTERACTIVE,
                run=partial(self.move, -1),
                pane=ALL_JOBS,
            ),
            Action(
                id="job-move-1",
                keys="down,j",
                shown="down j",
                title="Job below",
                help="Go to the job below.",
                group=JOBS,
                cli=INTERACTIVE,
                run=partial(self.move, 1),
                pane=ALL_JOBS,
            ),
            Action(
                id="cancel-chosen",
                keys="K",
                title="Cancel this job",
                help="Stop the job under the cursor, or drop it from the queue.",
                group=JOBS,
                cli=INTERACTIVE,
                run=self.cancel,
                footer="cancel",
                pane=ALL_JOBS,
            ),
            Action(
                id="again",
                keys="r",
                title="Run again",
                help="Queue the job under the cursor once more.",
                group=JOBS,
                cli=VALIDATE,
                run=self.run_again,
                footer="run again",
                pane=ALL_JOBS,
            ),
            Action(
                id="next-view",
                keys="tab",
                title="Next pane of the jobs",
                help="Move between the list, the job and its log.",
                group=JOBS,
                cli=INTERACTIVE,
                run=lambda: self._view.next_pane(),
                footer="pane",
                pane=ALL_JOBS,
            ),
            Action(
                id="leave",
                keys="escape,b,q",
                shown="escape",
                title="Back to the workbench",
                help="Leave the list of jobs; they go on.",
                group=JOBS,
                cli=INTERACTIVE,
                run=lambda: self._view.leave(),
                footer="back",
                pane=ALL_JOBS,
            ),
        )

    def move(self, lines: int) -> None:
        """Go to another job."""
        jobs, chosen = self._queue.jobs, self.chosen
        if jobs:
            here = jobs.index(chosen) if chosen is not None else len(jobs)
            self._chosen = jobs[min(max(here + lines, 0), len(jobs) - 1)]
            self._view.draw_all()

    def cancel(self) -> None:
        """Stop the job under the cursor, or drop it."""
        job = self.chosen
        if job is None or job.over:
            self._dialogs.say("this job is over" if job else "no job to cancel", "warning")
        elif job.state == WAITING:
            self._queue.cancel(job)
        else:
            ask_to_cancel(self._dialogs, self._queue, job)

    def run_again(self) -> None:
        """Queue the job under the cursor once more, and go to it."""
        if self.chosen is None:
            return
        try:
            queued = self._queue.again(self.chosen)
        except RequestError as error:
            self._dialogs.say(str(error), "warning")
            return
        if queued:
            self._chosen = self._queue.jobs[-1]
            self._view.draw_all()
        else:
            self._dialogs.say("this job waits or runs already", "warning")
