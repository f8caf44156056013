"""Starts and stops jobs, and reports their results."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

from tui_pruner.domain.errors import DataError
from tui_pruner.domain.formatting import clock
from tui_pruner.tui.actions import INTERACTIVE, JOBS, Action
from tui_pruner.tui.controllers.base import Controller, Handler, ask_to_cancel, unproved_reason
from tui_pruner.tui.job_specs.job import CANCELLED, DONE, FAILED, QueuedJob
from tui_pruner.tui.messages import EngineMessage, JobsChanged
from tui_pruner.tui.state import JOBS as QUEUE
from tui_pruner.tui.state import AppState

VALIDATE = "validate MODEL --plan FILE --data DATA"


class JobController(Controller):
    """Validations and the job queue."""

    def actions(self) -> Sequence[Action]:
        """Validations, their data, and the queue."""
        return (
            Action(
                id="validate",
                keys="v",
                title="Validate",
                help="Measure the current model on the data set, in the background.",
                group=JOBS,
                cli=VALIDATE,
                run=self.validate,
                footer="validate",
                disabled_reason=unproved_reason,
            ),
            Action(
                id="validate-masked",
                keys="M",
                title="Validate as masked",
                help="Measure the steps as masked (zeros, all shapes), beside the cut model: both metrics must be the same to 1e-4.",
                group=JOBS,
                cli="validate MODEL --plan FILE --mask --data DATA",
                run=lambda: self.jobs.with_data(self.jobs.validate_masked),
                disabled_reason=lambda state: unproved_reason(state) or ("" if state.session.steps else "no step to measure as masked"),
            ),
            Action(
                id="choose-data",
                keys="d",
                title="Choose the data",
                help="Choose the data yaml for validations.",
                group=JOBS,
                cli=VALIDATE,
                run=self.choose_data,
            ),
            Action(
                id="automatic",
                keys="V",
                title="Validate every step",
                help="Switch the validation after every step on or off.",
                group=JOBS,
                cli=VALIDATE,
                run=self.switch_automatic,
            ),
            Action(
                id="cancel-job",
                keys="K",
                title="Cancel the job",
                help="Cancel the running job; waiting jobs follow.",
                group=JOBS,
                cli=INTERACTIVE,
                run=self.cancel,
                disabled_reason=self.nothing_runs,
            ),
            Action(
                id="all-jobs",
                keys="b",
                title="Background jobs",
                help="List all jobs (waiting, running, finished) with their results and logs.",
                group=JOBS,
                cli=INTERACTIVE,
                run=lambda: self.dialogs.show_jobs(),
            ),
        )

    def handlers(self) -> Mapping[type[EngineMessage | JobsChanged], Handler]:
        """Handlers of job changes."""
        return {JobsChanged: self.take_change}

    def begin(self) -> None:
        """Measure the checkpoint if the data is known."""
        if self.jobs.checkpoint.data:
            self.jobs.validate(quiet=True)

    def validate(self) -> None:
        """Measure the present session, after asking for the data if it is unknown."""
        self.jobs.with_data(self._validate)

    def choose_data(self) -> None:
        """Ask for the data yaml, then validate."""
        self.jobs.ask_for_data(self._validate)

    def switch_automatic(self) -> None:
        """Switch the validation of every step on or off."""
        self.store.update(automatic=not self.state.automatic)
        self.say(f"validation after every step is {'on' if self.state.automatic else 'off'}")

    def cancel(self) -> None:
        """Stop the running job, after a question."""
        if self.jobs.queue.running is not None:
            ask_to_cancel(self.dialogs, self.jobs.queue, self.jobs.queue.running)

    def nothing_runs(self, state: AppState) -> str:
        """Why there is nothing to cancel."""
        return "" if self.jobs.queue.running is not None else "no job runs"

    def take_change(self, event: JobsChanged) -> None:
        """Report how a job ended; its result was stored before."""
        if event.ended is not None:
            self._tell_end(event.ended)
        self.store.touch(QUEUE, "metrics")

    def _validate(self) -> None:
        if reason := unproved_reason(self.state):
            self.say(reason, "error")
        else:
            self.jobs.validate()

    def _tell_end(self, job: QueuedJob) -> None:
        if job.state == DONE:
            self.store.note(f"{job.spec.title} {job.outcome.figure}, {clock(job.elapsed(time.monotonic()))}")
        elif job.state == CANCELLED:
            self.store.note(f"{job.spec.name} cancelled", failed=None)
        elif job.state == FAILED:
            self._tell_failure(job)

    def _tell_failure(self, job: QueuedJob) -> None:
        self.store.note(str(job.error), failed=True)
        self.say(f"{job.spec.name}: {job.error}", "error")
        if isinstance(job.error, DataError) and self.jobs.checkpoint.data == job.spec.data:
            self.jobs.checkpoint.data = None  # the next job that needs data asks for it
