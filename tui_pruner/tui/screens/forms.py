"""A list to choose from, and the form of a compression."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from rich.cells import cell_len
from rich.text import Text
from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.geometry import Region
from textual.screen import ModalScreen
from textual.widgets import Input, OptionList, Static
from textual.widgets.option_list import Option

from tui_pruner.domain.errors import PrunerError
from tui_pruner.domain.formatting import legible
from tui_pruner.tui import colours
from tui_pruner.tui.drawing import GLYPHS, broken, fit
from tui_pruner.tui.job_specs.compression import RECIPE, RECIPE_FILE, parsed_recipe, settings_of, stage_states
from tui_pruner.tui.job_specs.job import CANCELLED, DONE, FAILED, RUNNING, WAITING, QueuedJob
from tui_pruner.tui.panes.jobs import progress_lines
from tui_pruner.tui.panes.widgets import Lines


@dataclass(frozen=True)
class Choice:
    """One choice: the value that the list returns, its name, and a description."""

    value: str
    name: str
    meaning: str = ""


class Chooser(ModalScreen[str]):
    """A list to choose from once; escape gives the empty answer. `chosen` is the value that the cursor starts on."""

    # Bindings and no on_key: a number that was typed before the list was there comes to the screen's bindings only.
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "leave", "Back", show=False),
        *(Binding(str(number), f"choose({number})", "Choose", show=False) for number in range(1, 10)),
    ]
    DEFAULT_CSS = """
    Chooser Static { height: auto; }
    Chooser OptionList { height: auto; max-height: 50vh; margin-top: 1; padding: 0; border: none; background: $surface; }
    Chooser OptionList:focus { border: none; }
    """

    def __init__(self, title: str, text: str, choices: Sequence[Choice], chosen: str = "") -> None:
        super().__init__()
        self._title = title
        self._text = text
        self._choices = choices
        self._chosen = chosen

    def compose(self) -> ComposeResult:
        """Compose the list."""
        with Vertical(classes="dialog wide") as box:
            box.border_title = self._title
            box.border_subtitle = "number or Enter choose    Esc close"
            yield Static(self._text, markup=False)
            yield OptionList(*self._options(), markup=False)

    def on_mount(self) -> None:
        """Put the cursor on the present choice."""
        values = [choice.value for choice in self._choices]
        self.query_one(OptionList).highlighted = values.index(self._chosen) if self._chosen in values else 0

    def action_choose(self, number: int) -> None:
        """Choose by number."""
        if number <= len(self._choices):
            self.dismiss(self._choices[number - 1].value)

    @on(OptionList.OptionSelected)
    def take(self, event: OptionList.OptionSelected) -> None:
        """Choose the entry under the cursor."""
        event.stop()
        self.dismiss(self._choices[event.option_index].value)

    def action_leave(self) -> None:
        """Return no choice."""
        self.dismiss("")

    def _options(self) -> list[Option]:
        names = max(len(choice.name) for choice in self._choices)
        columns, rows = self.app.size
        width = min(columns * 96 // 100, WIDEST) - FRAME
        prompts = [_prompt(number, choice, names, width) for number, choice in enumerate(self._choices, start=1)]
        if sum(prompt.plain.count("\n") + 1 for prompt in prompts) > rows // 2:
            prompts = [_prompt(number, choice, names, width - SCROLLBAR) for number, choice in enumerate(self._choices, start=1)]
        return [Option(prompt) for prompt in prompts]


WIDEST, FRAME, SCROLLBAR, LEAST = 84, 6, 2, 20
"""Widths in cells: the box, its frame, the scrollbar of a list longer than half the rows, and the least of a column of meanings."""


def _prompt(number: int, choice: Choice, names: int, width: int) -> Text:
    """A choice in lines of `width` cells; a description that does not fit continues below its beginning."""
    # No colours: the list has its own for the row under the cursor, which others would not be readable on in every theme.
    text = Text.assemble((f"{number}", "bold"), "  ", (fit(choice.name, names), "bold" if choice.meaning else ""))
    if not choice.meaning:
        return text
    first, *more = broken(choice.meaning, max(width - names - 5, LEAST))
    text.append(f"  {first}")
    for line in more:
        text.append(f"\n{' ' * (names + 5)}{line}")
    return text


EVERY = 0.5
"""Seconds between two updates of a compression's progress."""
FOLDER, FILE_ROW = "folder", "file"
SIGNS = {
    WAITING: ("dot", colours.MUTED), RUNNING: ("closed", colours.WARNING), DONE: ("good", colours.GOOD), FAILED: ("bad", colours.BAD),
    CANCELLED: ("minus", colours.MUTED),
}  # fmt: skip


class RecipeForm(ModalScreen[tuple[dict[str, str], str] | None]):
    """The recipe of a compression, a line for each stage; enter starts it, or keeps the edits of a running one, and escape gives None."""

    VERTICAL_BREAKPOINTS = [(0, "-dense"), (24, "-airy")]
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "leave", "Cancel", show=False),
        Binding("up", "app.focus_previous", "Field above", show=False),
        Binding("down", "app.focus_next", "Field below", show=False),
        Binding("ctrl+s", "save", "Save", show=False, priority=True),
        Binding("ctrl+o", "open", "Open", show=False, priority=True),
    ]

    def __init__(
        self, text: str, lines: Mapping[str, str], folder: str, job: QueuedJob | None = None, steps: int = 0, sample: str = "image"
    ) -> None:
        super().__init__()
        self._sample = sample
        self._text = text
        self._lines = dict(lines)
        self._folder = folder
        self._job = job
        self._steps = steps if job is None else 1
        self._replacing = ""

    def compose(self) -> ComposeResult:
        """Compose the stages."""
        with VerticalScroll(classes="dialog wide recipe", can_focus=False) as box:
            box.border_title = "Compress"
            starts = "Enter start" if self._job is None else "Enter keep"
            box.border_subtitle = f"{starts}  Tab next  ^s save  ^o open  Esc {'cancel' if self._job is None else 'close'}"
            yield Static(self._text, markup=False, id="what")
            if self._job is not None:
                yield Lines(id="progress")
            for item in RECIPE:
                yield from self._row(item.stage, self._lines[item.stage], item.stage)
            yield from self._row(FOLDER, self._folder, FOLDER, self._job is not None)
            yield from self._row("recipe file", str(Path(self._folder).with_name(RECIPE_FILE)), FILE_ROW)
            yield Static(markup=False, id="settings")

    def on_mount(self) -> None:
        """Scroll to the end of a long path after the layout, and show a job's progress."""
        self.call_after_refresh(self._scroll_to_ends)
        self.draw_states()
        if self._job is not None:
            self.set_interval(EVERY, self.draw_states)

    def draw_states(self) -> None:
        """Show each stage's meaning, or its state; a stage that has started cannot be edited any more."""
        states = (
            stage_states(self._job)
            if self._job is not None
            else {item.stage: ("", item.meaning.replace("image", self._sample)) for item in RECIPE}
        )
        if (job := self._job) is not None:
            self.query_one("#progress", Lines).draw(lambda width, _: progress_lines(job, time.monotonic(), width))
        for item in RECIPE:
            state, words = states[item.stage]
            sign, colour = SIGNS.get(state, (" ", colours.MUTED))
            self.query_one(f"#state-{item.stage}", Static).update(Text(getattr(GLYPHS, sign, sign), colour))
            self.query_one(f"#words-{item.stage}", Static).update(Text(words if state != WAITING else state, colours.MUTED))
            field = self.query_one(f"#{item.stage}", Input)
            field.disabled = self._job is not None and (item.stage in self._job.stages or self._job.over)

    @on(Input.Submitted)
    def submitted(self, event: Input.Submitted) -> None:
        """Return the lines, or show the error in one of them."""
        event.stop()
        lines = self._understood()
        if lines is not None:
            self.dismiss((lines, self.query_one(f"#{FOLDER}", Input).value.strip() or self._folder))

    def on_descendant_focus(self) -> None:
        """Show the settings of the stage that is being edited."""
        field = self.focused
        stage = field.id if isinstance(field, Input) else None
        known = settings_of(stage) if stage in self._lines else "where everything is written" if stage == FOLDER else ""
        self.query_one("#settings", Static).update(Text(known or "ctrl+s writes the stages into this file, ctrl+o reads them from it"))

    def action_save(self) -> None:
        """Write the recipe's file; an existing file is replaced at the second attempt."""
        from tui_pruner.storage.recipe import recipe_from_lines, write_recipe

        lines, name = self._understood(), self.query_one(f"#{FILE_ROW}", Input).value.strip()
        file = Path(name).expanduser()
        if lines is None:
            return
        if file.exists() and self._replacing != name:
            self._replacing = name
            self._tell(f"{file} exists: press ctrl+s once more to replace it")
            return
        try:
            write_recipe(file, recipe_from_lines(lines))
        except PrunerError as error:
            self._tell(str(error), wrong=True)
        else:
            self._tell(f"wrote {file}, for tui-pruner compress --recipe")

    def action_open(self) -> None:
        """Read the lines of the editable stages from the recipe's file."""
        from tui_pruner.storage.recipe import read_recipe

        try:
            recipe = read_recipe(self.query_one(f"#{FILE_ROW}", Input).value.strip())
        except PrunerError as error:
            self._tell(str(error), wrong=True)
            return
        for stage in self._lines:
            field = self.query_one(f"#{stage}", Input)
            if not field.disabled:
                field.value = recipe.line_of(stage)
        self._tell("the stages are those of the file")

    def action_leave(self) -> None:
        """Return nothing."""
        self.dismiss(None)

    def _row(self, label: str, text: str, name: str, fixed: bool = False) -> ComposeResult:
        with Horizontal(classes="item"):
            if name in self._lines:
                yield Static(markup=False, classes="state", id=f"state-{name}")
            yield Static(label, markup=False, classes="stage" if name in self._lines else "stage other")
            field = Input(text, id=name, compact=True, select_on_focus=name in self._lines, disabled=fixed)
            field.cursor_blink = False
            yield field
            if name in self._lines:
                yield Static(markup=False, classes="words", id=f"words-{name}")

    def _understood(self) -> dict[str, str] | None:
        try:
            return parsed_recipe({stage: self.query_one(f"#{stage}", Input).value for stage in self._lines}, self._steps)
        except PrunerError as error:
            self._tell(str(error), wrong=True)
            return None

    def _tell(self, text: str, wrong: bool = False) -> None:
        self.query_one("#what", Static).update(Text(legible(text), colours.BAD if wrong else colours.TEXT))

    def _scroll_to_ends(self) -> None:
        for name in (FOLDER, FILE_ROW):
            field = self.query_one(f"#{name}", Input)
            field.scroll_to_region(Region(cell_len(field.value), 0, 1, 1), force=True, animate=False)
