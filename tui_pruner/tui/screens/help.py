"""All keys, grouped: composed from the same table that binds them."""

from __future__ import annotations

from typing import ClassVar

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.screen import ModalScreen

from tui_pruner.tui import colours
from tui_pruner.tui.actions import ACTIONS, GROUPS, Action
from tui_pruner.tui.drawing import fit, wrapped
from tui_pruner.tui.widgets.lines import Lines

KEYS = 10
WIDTH = 100
BORDERS = 7
WORDS = (
    ("free", "is cut alone"),
    ("coupled", "is cut together with others: the detail pane lists them and why"),
    ("linked", "must keep as many channels as the other part of its split"),
    ("locked", "cannot be cut: the reason is in the detail pane"),
    ("goes along", "changes because of somebody else's cut"),
    ("reads less", "only gets fewer inputs"),
)


class HelpScreen(ModalScreen[None]):
    """The keys and the words of the tree."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape,q,question_mark,f1,enter", "leave", "Close", show=False)]

    def compose(self) -> ComposeResult:
        """The help in a box."""
        with VerticalScroll(classes="dialog help") as box:
            box.border_title = "Keys"
            box.border_subtitle = "escape closes"
            lines = Lines(expected=min(WIDTH, self.app.size.width * 96 // 100) - BORDERS)
            lines.draw(lambda width, _: help_lines(width))
            yield lines

    def action_leave(self) -> None:
        """Close the help."""
        self.dismiss(None)


def help_lines(width: int) -> list[Text]:
    """All actions by group, then what the words in the tree mean."""
    lines: list[Text] = []
    for group in GROUPS:
        lines.append(Text(group, colours.HEADING))
        for action in ACTIONS:
            if action.group == group:
                lines += _entry(_shown(action), f"bold {colours.WARNING}", action.help, width)
        lines.append(Text())
    lines.append(Text("Words in the tree", colours.HEADING))
    for word, meaning in WORDS:
        lines += _entry(word, colours.BLUE, meaning, width)
    return [*lines, Text(), Text("ctrl+p lists every action by name", colours.MUTED)]


def _entry(key: str, style: str, meaning: str, width: int) -> list[Text]:
    room = max(width - KEYS - 4, 20)
    return [
        Text.assemble("  ", (fit(key if number == 0 else "", KEYS), style), "  ", line)
        for number, line in enumerate(wrapped(meaning, room))
    ]


def _shown(action: Action) -> str:
    return "right" if action.name == "nudge(1)" else action.shown
