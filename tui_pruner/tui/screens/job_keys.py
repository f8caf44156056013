"""The keys that start and stop what runs in the background, and what it says."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from textual import on

from tui_pruner.errors import DataError, RequestError
from tui_pruner.tui.messages import JobsChanged
from tui_pruner.tui.queued_job import CANCELLED, DONE, FAILED, QueuedJob, Wanted
from tui_pruner.tui.screens.bench import Bench
from tui_pruner.tui.screens.path_prompt import PathPrompt
from tui_pruner.tui.timeline import unproved

if TYPE_CHECKING:
    from tui_pruner.engine.protocol import OpenResult

NOTES = 20


class JobKeys(Bench):
    """Validations and whatever else the queue has."""

    def action_validate(self) -> None:
        """Measure the model as it stands; asks for the data when it is not known."""
        if not self.refuses_unproved():
            self.with_data(self._validate)

    def action_choose_data(self) -> None:
        """Ask for the data yaml, then validate."""
        self._ask_for_data(self._validate)

    def action_automatic(self) -> None:
        """Switch the validation after every step."""
        self.automatic = not self.automatic
        self.say(f"validation after every step is {'on' if self.automatic else 'off'}")
        self.draw_jobs()

    def action_cancel_job(self) -> None:
        """Stop the running job."""
        if not self.jobs.cancel():
            self.say("no job runs", "warning")

    def action_all_jobs(self) -> None:
        """List all jobs."""
        from tui_pruner.tui.screens.all_jobs import AllJobs

        self.app.push_screen(AllJobs(self))

    def with_data(self, then: Callable[[], None], title: str = "Validate on") -> None:
        """Do something that needs the data yaml, after asking for it where it is not known."""
        if self.subject is None:
            return
        if self.subject.data is None:
            self._ask_for_data(then, title)
        else:
            then()

    def refuses_unproved(self) -> bool:
        """Whether the session has a step whose proof failed, so that no file and no job may start from it; says so."""
        reason = unproved(self.board.session) if self.board is not None else ""
        if reason:
            self.say(reason, "error")
        return bool(reason)

    def queue(self, wanted: Wanted, queued: str = "", known: str = "") -> None:
        """Queue a job and say so, or that the same one waits or runs already, or why it cannot be."""
        try:
            words = queued if self.jobs.add(wanted) else known
        except RequestError as error:
            self.say(str(error), "warning")
            return
        if words:
            self.say(words)

    def start_jobs(self, opened: OpenResult) -> None:
        """The model is there for the first time: measure it where the data is known."""
        from tui_pruner.tui.subject import Subject
        from tui_pruner.tui.validations import Validations

        self.subject = Subject(self.opening, opened.model, self.opening.data)
        self.validations = Validations(self.jobs, self.subject, self.scores)
        if self.subject.data:
            self.validations.ask(opened.session)

    def validate_step(self) -> None:
        """Measure a new step, where that is switched on and the data is known."""
        if self.automatic and self.subject is not None and self.subject.data:
            self._validate(quiet=True)

    @on(JobsChanged)
    def show_jobs(self, event: JobsChanged) -> None:
        """Draw the jobs, and their results where they belong."""
        if event.ended is not None:
            self._tell_end(event.ended)
        self.draw_header()
        self.draw_steps()
        self.wake()

    def note(self, text: str, failed: bool = False) -> None:
        """Keep a line in the jobs pane."""
        self.notes = [*self.notes, (text, failed)][-NOTES:]
        self.draw_jobs()

    def _validate(self, quiet: bool = False) -> None:
        if self.board is None or self.validations is None or self.refuses_unproved():
            return
        try:
            queued = self.validations.ask(self.board.session)
        except RequestError as error:
            self.say(str(error), "warning")
            return
        if not queued and not quiet:
            self.say("this state is measured already, or is being measured")

    def _tell_end(self, job: QueuedJob) -> None:
        if job.state == DONE:
            self.note(f"{job.wanted.title} {job.outcome.figure}")
        elif job.state == CANCELLED:
            self.note(f"{job.wanted.name} cancelled")
        elif job.state == FAILED:
            self._tell_failure(job)

    def _tell_failure(self, job: QueuedJob) -> None:
        self.note(str(job.error), failed=True)
        self.say(f"{job.wanted.name}: {job.error}", "error")
        if isinstance(job.error, DataError) and self.subject is not None and self.subject.data == job.wanted.data:
            self.subject.data = None  # the next job that needs data asks for it

    def _ask_for_data(self, then: Callable[[], None], title: str = "Validate on") -> None:
        if self.subject is None:
            return
        text = "The data yaml that this model was trained with: its validation images are used."
        self.app.push_screen(
            PathPrompt(title, text, self.subject.data or "", "path/to/data.yaml"), lambda path: self._take_data(path, then)
        )

    def _take_data(self, path: str | None, then: Callable[[], None]) -> None:
        if path and self.validations is not None:
            self.validations.use(str(Path(path).expanduser()))
            then()
