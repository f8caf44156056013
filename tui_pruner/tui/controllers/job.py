"""Starts and stops what runs in the background, and tells what came of it."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Protocol

from tui_pruner.domain.errors import DataError, RequestError
from tui_pruner.domain.formatting import clock
from tui_pruner.tui.actions import ALL_JOBS, DETECTIONS, INTERACTIVE, JOBS, VIEW, Action
from tui_pruner.tui.controllers.base import Controller, Dialogs, Handler, ask_to_cancel, unproved_reason
from tui_pruner.tui.job_queue import JobQueue
from tui_pruner.tui.job_specs.export import DETECT, StagePair
from tui_pruner.tui.job_specs.job import CANCELLED, DONE, FAILED, WAITING, QueuedJob
from tui_pruner.tui.messages import EngineMessage, JobsChanged
from tui_pruner.tui.state import JOBS as QUEUE
from tui_pruner.tui.state import AppState

if TYPE_CHECKING:
    from tui_pruner.engine.job_messages import DetectedImage, DetectionResult


VALIDATE = "validate MODEL --plan FILE --data DATA"


class JobController(Controller):
    """Validations and the other jobs of the queue."""

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
        """What becomes of jobs."""
        return {JobsChanged: self.take_change}

    def begin(self) -> None:
        """Measure the checkpoint where the data is known."""
        if self.jobs.checkpoint.data:
            self.jobs.validate(quiet=True)

    def validate(self) -> None:
        """Measure the session as it is now; asks for the data when it is not known."""
        self.jobs.with_data(self._validate)

    def choose_data(self) -> None:
        """Ask for the data yaml, then validate."""
        self.jobs.ask_for_data(self._validate)

    def switch_automatic(self) -> None:
        """Switch the validation after every step."""
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
        """Tell how a job ended; its result is where it belongs by now."""
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
            self.store.note(f"{job.spec.name} cancelled")
        elif job.state == FAILED:
            self._tell_failure(job)

    def _tell_failure(self, job: QueuedJob) -> None:
        self.store.note(str(job.error), failed=True)
        self.say(f"{job.spec.name}: {job.error}", "error")
        if isinstance(job.error, DataError) and self.jobs.checkpoint.data == job.spec.data:
            self.jobs.checkpoint.data = None  # the next job that needs data asks for it


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
                help="Queue the job under the cursor again.",
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
                help="Leave the list; the jobs continue.",
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


class ImageView(Protocol):
    """The screen that shows the images."""

    def switch_pictures(self) -> None:
        """Draw the pictures, or only tell what was found."""

    def leave(self) -> None:
        """Go back."""


class ImageListController:
    """A cursor on the images on which two stages detect, those that changed most first."""

    def __init__(self, state: AppState, queue: JobQueue, dialogs: Dialogs, view: ImageView, pair: StagePair) -> None:
        self._state = state
        self._queue = queue
        self._dialogs = dialogs
        self._view = view
        self.pair = pair
        self.at = 0

    @classmethod
    def listed(cls) -> Sequence[Action]:
        """Give the actions without a session behind them, to list them and to bind their keys: they cannot be run."""
        return cls.__new__(cls).actions()

    def actions(self) -> Sequence[Action]:
        """What is done with the images."""
        moves = (
            ("image-minus-1", "left,up,k", "left k", "Previous image", "Go to the image before, which changed more.", -1),
            ("image-1", "right,down,j", "right j", "Next image", "Go to the next image, which changed less.", 1),
        )
        return (
            *(
                Action(
                    id=id, keys=keys, shown=shown, title=title, help=help, group=VIEW, cli=INTERACTIVE, run=partial(self.move, by),
                    footer=title.lower().removesuffix(" image"), pane=DETECTIONS,
                )
                for id, keys, shown, title, help, by in moves
            ),
            Action(
                id="pictures",
                keys="p",
                title="Pictures",
                help="Show the pictures, or the results only: over a slow line a picture takes seconds.",
                group=VIEW,
                cli=INTERACTIVE,
                run=lambda: self._view.switch_pictures(),
                footer="pictures",
                pane=DETECTIONS,
            ),
            Action(
                id="cancel-detections",
                keys="K",
                title="Cancel the detections",
                help="Cancel the job that runs the detections.",
                group=VIEW,
                cli=INTERACTIVE,
                run=self.cancel,
                disabled_reason=self.nothing_runs,
                footer="cancel",
                pane=DETECTIONS,
            ),
            Action(
                id="leave-detections",
                keys="escape,q",
                shown="escape",
                title="Back from the detections",
                help="Leave the detections; a running job continues.",
                group=VIEW,
                cli=INTERACTIVE,
                run=lambda: self._view.leave(),
                footer="back",
                pane=DETECTIONS,
            ),
        )  # fmt: skip

    @property
    def result(self) -> DetectionResult | None:
        """What was found; None until it is there."""
        return self._state.detected.get(self.pair.key)

    @property
    def image(self) -> DetectedImage | None:
        """The image under the cursor."""
        found = self.result.images if self.result is not None else []
        return found[min(self.at, len(found) - 1)] if found else None

    @property
    def job(self) -> QueuedJob | None:
        """The last job on these two stages."""
        own = [job for job in self._queue.jobs if (job.spec.kind, job.spec.key) == (DETECT, self.pair.key)]
        return own[-1] if own else None

    def move(self, by: int) -> None:
        """Go to another image."""
        found = self.result.images if self.result is not None else []
        self.at = min(max(self.at + by, 0), max(len(found) - 1, 0))

    def nothing_runs(self, state: AppState) -> str:
        """Why there is nothing to cancel."""
        return "no job to cancel" if self.job is None or self.job.over else ""

    def cancel(self) -> None:
        """Stop the job, or drop it from the queue."""
        if self.job is None or not self._queue.cancel(self.job):
            self._dialogs.say("no job to cancel", "warning")
