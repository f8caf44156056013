"""The dialogs of the workbench: screens in front of it, its two input lines, and its notifications."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping
from typing import TYPE_CHECKING, Any, cast

from textual.message import Message
from textual.widget import Widget

from tui_pruner.tui.controllers.base import Answers, Choices, Switch
from tui_pruner.tui.panes.detail import DetailPane
from tui_pruner.tui.panes.map import MapPane
from tui_pruner.tui.panes.widgets import EntryLine
from tui_pruner.tui.screens.base import ActionScreen
from tui_pruner.tui.screens.prompts import Answer, PathPrompt, Question

if TYPE_CHECKING:
    from tui_pruner.tui.app import PrunerApp
    from tui_pruner.tui.job_specs.export import StagePair
    from tui_pruner.tui.job_specs.job import QueuedJob
    from tui_pruner.tui.screens.workbench import Workbench


class ScreenDialogs:
    """Asks the user on a screen; each dialog is open before the next key is handled."""

    def __init__(self, screen: ActionScreen, show_jobs: Callable[[], None], leave: Callable[[], None]) -> None:
        self._screen = screen
        self._typed_in: Widget | None = None
        self.show_jobs = show_jobs
        self.leave = leave

    def say(self, text: str, severity: str = "information") -> None:
        """Show one line for a few seconds."""
        timeout = 8 if severity != "information" else 4
        self._screen.app.notify(text, severity=severity, timeout=timeout, markup=False)  # type: ignore[arg-type]

    def choose(self, title: str, text: str, choices: Choices, then: Callable[[str], None], chosen: str = "") -> None:
        """Let the user choose a line of a list; `then` gets its value, or an empty text."""
        from tui_pruner.tui.screens.forms import Choice, Chooser

        lines = [Choice(*choice) for choice in choices]
        self._screen.app.push_screen(Chooser(title, text, lines, chosen), lambda value: then(value or ""))

    def confirm(self, title: str, text: str, answers: Answers, then: Callable[[str], None]) -> None:
        """Ask a question with a few answers; `then` gets the value of the answer, or an empty text."""
        question = Question(title, text, [Answer(*answer) for answer in answers])
        self._screen.app.push_screen(question, lambda value: then(value or ""))

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
        self._screen.app.push_screen(PathPrompt(title, text, value, hint, may_be_empty, fault, switch, suggested), then)

    def data_near(self, model: str, recorded: str) -> list[str]:
        """The data yaml that a checkpoint has recorded, and those near it."""
        from tui_pruner.tui.screens.file_picker import data_near

        return data_near(model, recorded)

    def replace_prompt_text(self, text: str) -> None:
        """Replace the words above the input line, if it is still open."""
        if isinstance(self._screen.app.screen, PathPrompt):
            self._screen.app.screen.tell(text)

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
        """Show the recipe of a compression, with the states of its stages where it is a job; `then` gets the lines and the folder."""
        from tui_pruner.tui.screens.forms import RecipeForm

        self._screen.app.push_screen(RecipeForm(text, lines, folder, job, steps, sample), lambda found: then(*found) if found else None)

    def show_help(self) -> None:
        """Show all keys, those of the focused pane first, with the reasons of disabled actions."""
        from tui_pruner.tui.screens.help import HelpScreen

        front = self._screen.app.screen
        screen = front if isinstance(front, ActionScreen) else self._screen
        self._screen.app.push_screen(HelpScreen(screen.help_actions(), screen.current_pane))

    def copy(self, text: str) -> None:
        """Copy a text to the terminal's clipboard by OSC 52."""
        self._screen.app.copy_to_clipboard(text)

    def show_stages(self, on_front: bool) -> None:
        """Show the stages, as a tree or on the front."""
        from tui_pruner.tui.screens.stages import Stages

        self._screen.app.push_screen(Stages(cast("Workbench", self._screen), on_front))

    def show_detections(self, pair: StagePair) -> None:
        """Show the detections of two stages on the same images."""
        from tui_pruner.tui.screens.detections import Detections

        self._screen.app.push_screen(Detections(cast("Workbench", self._screen), pair))

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
        self._typed_in = self._screen.focused
        line = self._line(which)
        line.connect(done, left, typed, stepped)
        line.open(label, text, replacing)

    def close_line(self, which: str) -> None:
        """Hide such a line, and restore the former focus."""
        line = self._line(which)
        if line.typing:
            self._screen.set_focus(self._typed_in)
        line.close()

    def start(self, work: Coroutine[Any, Any, None], name: str) -> None:
        """Run work in the background; errors are shown."""
        self._screen.run_worker(work, name=name, exit_on_error=False)

    def scroll_detail(self, lines: int) -> None:
        """Scroll the detail pane."""
        self._screen.query_one(DetailPane).scroll_relative(y=lines, animate=False)

    def use_theme(self, name: str) -> None:
        """Switch to another theme."""
        cast("PrunerApp", self._screen.app).use_palette(name)

    def suspend(self) -> None:
        """Suspend the app until the shell resumes it; without a shell, do nothing."""
        self._screen.app.action_suspend_process()

    def send(self, message: Message) -> None:
        """Post a message to the app."""
        self._screen.app.post_message(message)

    @property
    def map_width(self) -> int:
        """The map's width in cells."""
        return self._screen.query_one(MapPane).width

    @property
    def narrow(self) -> bool:
        """Whether there is room for one pane only."""
        return self._screen.has_class("-narrow")

    def _line(self, which: str) -> EntryLine:
        return self._screen.query_one(f"#{which}", EntryLine)
