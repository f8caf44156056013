"""Lists on their own screens, each with a cursor and an action to leave: all jobs, and images with the detections of two stages."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, ClassVar, Protocol

from tui_pruner.domain.errors import RequestError
from tui_pruner.tui.actions import ALL_JOBS, DETECTIONS, INTERACTIVE, JOBS, VIEW, Action
from tui_pruner.tui.controllers.base import Dialogs, ask_to_cancel
from tui_pruner.tui.controllers.job import VALIDATE
from tui_pruner.tui.job_queue import JobQueue
from tui_pruner.tui.job_specs.export import DETECT, StagePair
from tui_pruner.tui.job_specs.job import WAITING, QueuedJob
from tui_pruner.tui.state import AppState

if TYPE_CHECKING:
    from tui_pruner.engine.job_messages import DetectedImage, DetectionResult


class ListView(Protocol):
    """The screen that shows a list."""

    def leave(self) -> None:
        """Go back to the workbench."""


@dataclass(frozen=True)
class CursorMove:
    """One direction of the cursor: its keys, and its words in help and footer."""

    keys: str
    title: str
    help: str
    shown: str = ""
    footer: str = ""


class ListController:
    """A cursor on a list, and the action to leave; `pane` and `group` are those of its actions."""

    pane: ClassVar[str]
    group: ClassVar[str]
    _view: ListView

    @classmethod
    def listed(cls) -> Sequence[Action]:
        """Return the actions without a session, to list them and to bind their keys: they cannot be run."""
        return cls.__new__(cls).actions()

    def actions(self) -> Sequence[Action]:
        """Actions on the list."""
        raise NotImplementedError

    def move(self, by: int) -> None:
        """Move the cursor."""
        raise NotImplementedError

    def moves(self, stem: str, back: CursorMove, on: CursorMove) -> Sequence[Action]:
        """The two actions that move the cursor, by ids that begin with `stem`."""
        return [
            Action(
                id=id, keys=way.keys, shown=way.shown, title=way.title, help=way.help, group=self.group, cli=INTERACTIVE,
                run=partial(self.move, by), footer=way.footer, pane=self.pane,
            )
            for id, way, by in ((f"{stem}-minus-1", back, -1), (f"{stem}-1", on, 1))
        ]  # fmt: skip

    def leaving(self, id: str, keys: str, title: str, help: str, group: str = "") -> Action:
        """The action that returns to the workbench."""
        return Action(
            id=id, keys=keys, shown="escape", title=title, help=help, group=group or self.group, cli=INTERACTIVE,
            run=lambda: self._view.leave(), footer="back", pane=self.pane,
        )  # fmt: skip


class JobView(ListView, Protocol):
    """The screen that shows the jobs."""

    def draw_all(self, with_log: bool = True) -> None:
        """Show the present state in every pane."""

    def next_pane(self) -> None:
        """Focus the next pane."""


class JobListController(ListController):
    """Actions on the job under the cursor; they change only the queue."""

    pane = ALL_JOBS
    group = JOBS
    _view: JobView

    def __init__(self, queue: JobQueue, dialogs: Dialogs, view: JobView) -> None:
        self._queue = queue
        self._dialogs = dialogs
        self._view = view
        self._chosen = queue.running

    @property
    def chosen(self) -> QueuedJob | None:
        """The job under the cursor; the last one if that no longer exists."""
        if self._chosen not in self._queue.jobs:
            self._chosen = self._queue.jobs[-1] if self._queue.jobs else None
        return self._chosen

    def actions(self) -> Sequence[Action]:
        """Actions on a job."""
        return (
            *self.moves(
                "job-move",
                CursorMove("up,k", "Job above", "Go to the job above.", "up k"),
                CursorMove("down,j", "Job below", "Go to the job below.", "down j"),
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
            self.leaving("leave", "escape,b,q", "Back to the workbench", "Leave the list; the jobs continue."),
        )

    def move(self, by: int) -> None:
        """Go to another job."""
        jobs, chosen = self._queue.jobs, self.chosen
        if jobs:
            here = jobs.index(chosen) if chosen is not None else len(jobs)
            self._chosen = jobs[min(max(here + by, 0), len(jobs) - 1)]
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
        """Queue the job under the cursor again, and move to it."""
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


class ImageView(ListView, Protocol):
    """The screen that shows the images."""

    def switch_pictures(self) -> None:
        """Show the pictures, or only the results."""


class ImageListController(ListController):
    """A cursor on the images with the detections of two stages, those that changed most first."""

    pane = DETECTIONS
    group = VIEW
    _view: ImageView

    def __init__(self, state: AppState, queue: JobQueue, dialogs: Dialogs, view: ImageView, pair: StagePair) -> None:
        self._state = state
        self._queue = queue
        self._dialogs = dialogs
        self._view = view
        self.pair = pair
        self.at = 0

    def actions(self) -> Sequence[Action]:
        """Actions on the images."""
        return (
            *self.moves(
                "image",
                CursorMove("left,up,k", "Previous image", "Go to the image before, which changed more.", "left k", "previous"),
                CursorMove("right,down,j", "Next image", "Go to the next image, which changed less.", "right j", "next"),
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
            self.leaving("leave-detections", "escape,q", "Back from the detections", "Leave the detections; a running job continues."),
        )

    @property
    def result(self) -> DetectionResult | None:
        """The detections; None until they are known."""
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

    @property
    def running(self) -> QueuedJob | None:
        """The job that runs now, which another may wait for."""
        return self._queue.running

    def move(self, by: int) -> None:
        """Go to another image."""
        found = self.result.images if self.result is not None else []
        self.at = min(max(self.at + by, 0), max(len(found) - 1, 0))

    def nothing_runs(self, state: AppState) -> str:
        """Why there is nothing to cancel."""
        return "no job to cancel" if self.job is None or self.job.over else ""

    def cancel(self) -> None:
        """Stop the job, or remove it from the queue."""
        if self.job is None or not self._queue.cancel(self.job):
            self._dialogs.say("no job to cancel", "warning")
