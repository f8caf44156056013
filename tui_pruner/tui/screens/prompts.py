"""Questions to the user: a few answers on one key each, a line to type a path in, and whether a file is trusted."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar

from rich.cells import cell_len
from rich.text import Text
from textual import events, on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.geometry import Region
from textual.screen import ModalScreen
from textual.widgets import Input, Static

from tui_pruner.domain.formatting import legible
from tui_pruner.storage.trust import SHORTEST, begins, short
from tui_pruner.tui import colours
from tui_pruner.tui.panes.widgets import CLICK, Lines


@dataclass(frozen=True)
class Answer:
    """A possible answer: its keys, of which the first is shown, its words, and the value that the question returns."""

    key: str
    label: str
    value: str


class Question(ModalScreen[str]):
    """A question; escape gives the empty answer."""

    def __init__(self, title: str, text: str, answers: Sequence[Answer]) -> None:
        super().__init__()
        self._title = title
        self._text = text
        self._answers = (*answers, Answer("escape", "back", ""))

    def compose(self) -> ComposeResult:
        """Compose the question."""
        with Vertical(classes="dialog") as box:
            box.border_title = self._title
            yield Static(legible(self._text), markup=False)
            answers = Lines(expected=54)
            answers.add_class("answers")
            answers.draw(lambda *_: [self._keys()])
            yield answers

    def on_key(self, event: events.Key) -> None:
        """Answer by key."""
        event.stop()
        for answer in self._answers:
            if event.key in answer.key.split(","):
                self.dismiss(answer.value)

    def action_answer(self, value: str) -> None:
        """Answer by mouse."""
        self.dismiss(value)

    def _keys(self) -> Text:
        text = Text()
        for answer in self._answers:
            start = len(text)
            text.append(answer.key.partition(",")[0], f"bold {colours.WARNING}").append(f" {answer.label}")
            text.apply_meta({CLICK: f"answer('{answer.value}')"}, start, len(text))
            text.append("    ")
        return text


class PathPrompt(ModalScreen[str | None]):
    """Asks for a path or another short text; enter confirms, an empty text only where that has a meaning; escape gives None."""

    VERTICAL_BREAKPOINTS = [(0, "-dense"), (24, "-airy")]
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "leave", "Cancel", show=False),
        Binding("tab", "switch", "The other way", show=False),
    ]

    def __init__(
        self,
        title: str,
        text: str,
        path: str,
        hint: str = "",
        may_be_empty: bool = False,
        fault: Callable[[str], str] = lambda _: "",
        switch: Callable[[str], tuple[str, str]] | None = None,
        suggested: bool = False,
    ) -> None:
        """Ask; `switch`: the words and the line of the alternative question, which Tab opens. `suggested`: typing replaces the line."""
        super().__init__()
        self._suggested = suggested
        self._switch = switch
        self._fault = fault
        self._title = title
        self._text = text
        self._path = path
        self._hint = hint
        self._may_be_empty = may_be_empty

    def compose(self) -> ComposeResult:
        """Compose the prompt."""
        with Vertical(classes="dialog wide") as box:
            box.border_title = self._title
            box.border_subtitle = f"Enter confirm    {'Tab switch    ' if self._switch else ''}Esc cancel"
            yield Static(legible(self._text), markup=False, id="what")
            field = Input(self._path, placeholder=self._hint, select_on_focus=self._suggested)
            field.cursor_blink = False
            yield field
            wrong = Static(markup=False, id="wrong")
            wrong.display = False
            yield wrong

    def on_mount(self) -> None:
        """Scroll to the end of a long path, the file's name, after the layout."""
        self.call_after_refresh(self._scroll_to_cursor)

    def tell(self, text: str) -> None:
        """Replace the words above the line."""
        self.query_one("#what", Static).update(legible(text))

    def _scroll_to_cursor(self) -> None:
        field = self.query_one(Input)
        before = cell_len(field.value[: field.cursor_position])
        field.scroll_to_region(Region(before, 0, 1, 1), force=True, animate=False)

    @on(Input.Submitted)
    def submitted(self, event: Input.Submitted) -> None:
        """Submit the path."""
        event.stop()
        self.take(event.value.strip())

    def take(self, text: str) -> None:
        """Return the typed text, unless it is invalid: then show why and keep it."""
        wrong = self._fault(text) if text else ""
        if wrong:
            line = self.query_one("#wrong", Static)
            line.update(Text(legible(wrong), colours.BAD))
            line.display = True
            self.call_after_refresh(line.scroll_visible, animate=False)
        elif text or self._may_be_empty:
            self.dismiss(text)

    def action_switch(self) -> None:
        """Switch to the alternative question, if there is one."""
        if self._switch is not None:
            text, line = self._switch(self.query_one(Input).value)
            self.tell(text)
            field = self.query_one(Input)
            field.value = line
            if self._suggested:
                field.action_select_all()

    def action_leave(self) -> None:
        """Return no path."""
        self.dismiss(None)


ASKS = (
    "It can do everything that you can do, like a program that you start. If you trust its author, type the first {digits} digits of its "
    "SHA-256, {shown}; the app remembers the file."
)


class TrustPrompt(PathPrompt):
    """Accepts at least eight digits of the file's own SHA-256 and nothing else; escape gives None."""

    def __init__(self, reason: str, sha256: str) -> None:
        self._asks = ASKS.format(digits=SHORTEST, shown=short(sha256))
        super().__init__("Trust this file?", f"{reason}.\n\n{self._asks}", "")
        self._sha256 = sha256

    def take(self, text: str) -> None:
        """Return the digits if they are the file's."""
        if begins(text, self._sha256):
            self.dismiss(text)
        else:
            self.tell(f"{text!r} is not how its SHA-256 begins. {self._asks}")
