"""The base of controllers: the store, the engine, the jobs, and the dialogs that ask the user."""

from __future__ import annotations

import os
from collections.abc import Callable, Coroutine, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from tui_pruner.domain.errors import PrunerError, RequestError
from tui_pruner.tui.actions import Action
from tui_pruner.tui.job_specs.measurement import Validations
from tui_pruner.tui.messages import EngineMessage, JobsChanged
from tui_pruner.tui.timeline import unproved

if TYPE_CHECKING:
    from tui_pruner.tui.engine_session import EngineSession
    from tui_pruner.tui.job_queue import JobQueue
    from tui_pruner.tui.job_specs.export import StagePair
    from tui_pruner.tui.job_specs.job import JobSpec, OpenCheckpoint, QueuedJob
    from tui_pruner.tui.state import AppState, Store, ViewState

Answers = Sequence[tuple[str, str, str]]
"""The answers to a question: the key, its words, and the value that the question returns."""
Choices = Sequence[tuple[str, str, str]]
"""The lines of a list: the value, its name, and a description."""
Switch = Callable[[str], tuple[str, str]]
"""An alternative to a question with an input line, by Tab: its words and its line."""
Handler = Callable[[Any], None]


class Dialogs(Protocol):
    """The dialogs of controllers: each opens at once and passes the answer to a callable."""

    def say(self, text: str, severity: str = "information") -> None:
        """Show one line for a few seconds."""

    def choose(self, title: str, text: str, choices: Choices, then: Callable[[str], None], chosen: str = "") -> None:
        """Let the user choose a line of a list; `then` gets its value, or an empty text."""

    def confirm(self, title: str, text: str, answers: Answers, then: Callable[[str], None]) -> None:
        """Ask a question with a few answers; `then` gets the value of the answer, or an empty text."""

    def ask_text(
        self,
        title: str,
        text: str,
        value: str,
        then: Callable[[str | None], None],
        hint: str = "",
        may_be_empty: bool = False,
        fault: Callable[[str], str] = lambda _: "",
        switch: Switch | None = None,
        suggested: bool = False,
    ) -> None:
        """Ask for a line of text; `then` gets it, or None. While `fault` returns an error message for it, the question stays open.

        `switch`: the words and the line of the alternative question, which Tab opens. `suggested`: typing replaces the line.
        """

    def data_near(self, model: str, recorded: str) -> Sequence[str]:
        """The data yaml that a checkpoint has recorded, and those near it."""

    def replace_prompt_text(self, text: str) -> None:
        """Replace the words above the input line, if it is still open."""

    def ask_recipe(
        self,
        text: str,
        lines: Mapping[str, str],
        folder: str,
        then: Callable[[dict[str, str], str], None],
        job: QueuedJob | None = None,
        steps: int = 0,
        sample: str = "image",
    ) -> None:
        """Show the recipe of a compression, with the states of its stages where it is a job; `then` gets the lines and the folder.

        `sample`: what one of the model's inputs is called.
        """

    def show_help(self) -> None:
        """Show all keys, those of the focused pane first."""

    def show_jobs(self) -> None:
        """List all jobs."""

    def copy(self, text: str) -> None:
        """Copy a text to the terminal's clipboard."""

    def show_stages(self, on_front: bool) -> None:
        """Show the stages, as a tree or on the front."""

    def show_detections(self, pair: StagePair) -> None:
        """Show the detections of two stages on the same images."""

    def open_line(
        self,
        which: str,
        label: str,
        text: str = "",
        *,
        done: Callable[[str], None],
        left: Callable[[], None],
        typed: Callable[[str], None] | None = None,
        stepped: Callable[[int], None] | None = None,
        replacing: bool = False,
    ) -> None:
        """Open one of the two lines inside the workbench: "filter" or "amount"."""

    def close_line(self, which: str) -> None:
        """Hide such a line, and restore the former focus."""

    def start(self, work: Coroutine[Any, Any, None], name: str) -> None:
        """Run work in the background; errors are shown."""

    def scroll_detail(self, lines: int) -> None:
        """Scroll the detail pane."""

    def use_theme(self, name: str) -> None:
        """Switch to another theme."""

    def send(self, message: Any) -> None:
        """Post a message to the app."""

    def suspend(self) -> None:
        """Suspend the app until the shell resumes it."""

    def leave(self) -> None:
        """End the app."""

    @property
    def map_width(self) -> int:
        """The map's width in cells."""

    @property
    def narrow(self) -> bool:
        """Whether there is room for one pane only."""


class Jobs:
    """The job queue, with the requests for validations and the dialogs about data."""

    def __init__(self, store: Store, queue: JobQueue, dialogs: Dialogs) -> None:
        self.queue = queue
        self._store = store
        self._dialogs = dialogs
        self._validations = Validations(queue, store.state.checkpoint, store.state.metrics)

    @property
    def checkpoint(self) -> OpenCheckpoint:
        """The open checkpoint, with its data where known."""
        return self._store.state.checkpoint

    def add(self, spec: JobSpec, queued: str = "", known: str = "") -> None:
        """Queue a job, and show that it was queued, that the same one waits or runs already, or why it cannot be."""
        try:
            words = queued if self.queue.add(spec) else known
        except RequestError as error:
            self._dialogs.say(str(error), "warning")
            return
        if words:
            self._dialogs.say(words)

    def validate(self, quiet: bool = False) -> None:
        """Measure the present session; `quiet`: without a word where it is measured already."""
        try:
            queued = self._validations.ask(self._store.state.session)
        except RequestError as error:
            self._dialogs.say(str(error), "warning")
            return
        if not queued and not quiet:
            self._dialogs.say("this state is measured already, or is being measured")

    def validate_masked(self) -> None:
        """Measure the steps as masked, beside the cut model."""
        try:
            queued = self._validations.ask_masked(self._store.state.session)
        except RequestError as error:
            self._dialogs.say(str(error), "warning")
            return
        self._dialogs.say("the steps are measured as masked, beside the cut" if queued else "they are being measured")

    def validate_step(self) -> None:
        """Measure a new step, if that is switched on and the data is known."""
        state = self._store.state
        if state.automatic and self.checkpoint.data and not unproved(state.session):
            self.validate(quiet=True)

    def with_data(self, then: Callable[[], None], title: str = "Validate on") -> None:
        """Call `then` with known data, after asking for the data yaml if necessary."""
        if self.checkpoint.data is None and self.checkpoint.opening.module is None:
            self.ask_for_data(then, title)
        else:
            then()

    def ask_for_data(self, then: Callable[[], None], title: str = "Validate on") -> None:
        """Ask for the data yaml, then call `then`."""

        def take(path: str | None) -> None:
            if path:
                self._validations.use(str(Path(path).expanduser()))
                then()

        text = "The data yaml that this model was trained with: its validation images are used."
        found = [] if self.checkpoint.data else self._dialogs.data_near(self.checkpoint.model.path, self._store.state.opened.recorded_data)
        several = f"\n{len(found)} were found; Tab shows the next."

        def following(line: str) -> tuple[str, str]:
            return text + several, found[(found.index(line) + 1) % len(found) if line in found else 0]

        self._dialogs.ask_text(
            title, text + several * (len(found) > 1), self.checkpoint.data or next(iter(found), ""), take, "path/to/data.yaml",
            fault=fault_of(readable_data), switch=following if len(found) > 1 else None, suggested=bool(found),
        )  # fmt: skip


def fault_of(read: Callable[[str], object]) -> Callable[[str], str]:
    """The error message of a text's parser; empty where the text is valid."""

    def fault(text: str) -> str:
        try:
            read(text)
        except PrunerError as error:
            return str(error)
        return ""

    return fault


def readable_data(text: str) -> None:
    """Refuse a path that is not a data set, as far as that can be checked quickly.

    Raises:
        DataError: no such file, or one that is not a data yaml.
    """
    from tui_pruner.storage.yaml import located, read_data_yaml

    file = located(Path(text).expanduser())
    if not file.is_dir() and (file.exists() or file.suffix or file.is_absolute()):  # what has none may be of Ultralytics' own
        read_data_yaml(file)


def fault_of_place(place: Path, suffixes: Sequence[str], checkpoint: str) -> str:
    """Why no file can be written there; empty if it can. `suffixes`: how its name may end, any where there is none."""
    if suffixes and place.suffix.lower() not in suffixes:
        return f"{place.name}: the name must end in {' or '.join(suffixes)}"
    if not place.parent.is_dir():
        return f"no folder {place.parent}: create it first"
    if suffixes and place.is_dir():
        return f"{place} is a folder: add a file name"
    if place.exists() and Path(checkpoint).exists() and place.samefile(checkpoint):
        return f"{place} is the open model, which is never written to: choose another name"
    return "" if os.access(place if place.exists() else place.parent, os.W_OK) else f"no permission to write {place}"


def ask_to_cancel(dialogs: Dialogs, queue: JobQueue, job: QueuedJob) -> None:
    """Stop a running job after the user confirmed it."""
    early = job.spec.stops_early and not job.stopping
    lost = "Its finished stages are kept, and it resumes from them; what the present one" if job.spec.recipe else f"What {job.spec.name}"
    text = f"{job.spec.name} ends early, with {job.spec.kept}." if early else f"{lost} has done so far is lost."
    answers = [("y", "end it early" if early else "cancel it", "cancel")]

    def take(answer: str) -> None:
        if answer:
            queue.cancel(job)

    dialogs.confirm("Cancel the job?", text, answers, take)


class Controller:
    """A group of actions on the open session: a plain object that changes the store and knows no widget."""

    def __init__(self, store: Store, engine: EngineSession, jobs: Jobs, dialogs: Dialogs) -> None:
        self.store = store
        self.engine = engine
        self.jobs = jobs
        self.dialogs = dialogs

    @classmethod
    def listed(cls) -> Sequence[Action]:
        """Return the actions without a session, to list them and to bind their keys: they cannot be run."""
        return cls.__new__(cls).actions()

    def actions(self) -> Sequence[Action]:
        """The controller's actions."""
        return ()

    def moves(self) -> Mapping[str, Callable[..., object]]:
        """Handlers of moves of panes and mouse clicks, by name."""
        return {}

    def handlers(self) -> Mapping[type[EngineMessage | JobsChanged], Handler]:
        """The handlers of messages by their class."""
        return {}

    def begin(self) -> None:
        """Start observing, after the workbench was mounted."""

    def end(self) -> None:
        """Stop, before the workbench is removed."""

    @property
    def state(self) -> AppState:
        """The state of the session."""
        return self.store.state

    @property
    def view(self) -> ViewState:
        """The state of the view."""
        return self.store.view

    def say(self, text: str, severity: str = "information") -> None:
        """Show a line to the user."""
        self.dialogs.say(text, severity)

    def ask_place(
        self,
        title: str,
        text: str,
        path: Path,
        put: Callable[[str, bool], None],
        hint: str = "",
        suffixes: Sequence[str] = (),
        switch: Switch | None = None,
    ) -> None:
        """Ask for a file's path, and for permission to replace a file; `put` gets the path, and whether it may be replaced.

        A path that cannot be written is refused while the question is open.
        """

        def take(typed: str | None) -> None:
            place = Path(typed or "").expanduser()
            if not typed:
                return
            if place.exists():
                replace = [("r", "replace it", "replace")]
                self.dialogs.confirm("Replace the file?", f"{place} exists.", replace, lambda yes: put(str(place), True) if yes else None)
            else:
                put(str(place), False)

        def fault(typed: str) -> str:
            try:
                return fault_of_place(Path(typed).expanduser(), suffixes, self.jobs.checkpoint.model.path)
            except (OSError, ValueError) as error:  # a name that is too long, or has a byte that no name may have
                return f"{typed[:60]} cannot be a file: {getattr(error, 'strerror', None) or error}"

        self.dialogs.ask_text(title, text, str(path), take, hint, fault=fault, switch=switch)


def unproved_reason(state: AppState) -> str:
    """Why no file and no job may start from the session; empty where no proof failed."""
    return unproved(state.session)
