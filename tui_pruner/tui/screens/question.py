"""A question with a few answers, each on one key."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich.text import Text
from textual import events
from textual.app import ComposeResult
from textual.containers import Vertical
from textual.screen import ModalScreen
from textual.widgets import Static

from tui_pruner.printable import legible
from tui_pruner.tui import colours
from tui_pruner.tui.footer_text import CLICK
from tui_pruner.tui.widgets.lines import Lines


@dataclass(frozen=True)
class Answer:
    """A possible answer: its key, what it says, and the value that the question ends with."""

    key: str
    label: str
    value: str


class Question(ModalScreen[str]):
    """Asks once; escape is the empty answer."""

    def __init__(self, title: str, text: str, answers: Sequence[Answer]) -> None:
        super().__init__()
        self._title = title
        self._text = text
        self._answers = (*answers, Answer("escape", "back", ""))

    def compose(self) -> ComposeResult:
        """The question in a box."""
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
            if event.key == answer.key:
                self.dismiss(answer.value)

    def action_answer(self, value: str) -> None:
        """Answer by mouse."""
        self.dismiss(value)

    def _keys(self) -> Text:
        text = Text()
        for answer in self._answers:
            start = len(text)
            text.append(answer.key, f"bold {colours.WARNING}").append(f" {answer.label}")
            text.apply_meta({CLICK: f"answer('{answer.value}')"}, start, len(text))
            text.append("    ")
        return text
