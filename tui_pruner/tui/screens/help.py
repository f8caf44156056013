"""All keys, grouped: composed from the same table that binds them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.screen import ModalScreen

from tui_pruner.tui import colours
from tui_pruner.tui.actions import ACTIONS, GROUPS, Action, panes
from tui_pruner.tui.actions.keymap import PALETTE_KEY, shown
from tui_pruner.tui.drawing import fit, wrapped
from tui_pruner.tui.glyphs import GLYPHS
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
    """The keys, those of a pane first, and the words of the tree."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape,q,question_mark,f1,enter", "leave", "Close", show=False)]

    def __init__(self, pane: str = panes.TREE) -> None:
        super().__init__()
        self._pane = pane

    def compose(self) -> ComposeResult:
        """The help in a box."""
        with VerticalScroll(classes="dialog help") as box:
            box.border_title = "Keys"
            box.border_subtitle = "escape closes"
            lines = Lines(expected=min(WIDTH, self.app.size.width * 96 // 100) - BORDERS)
            lines.draw(lambda width, _: help_lines(width, self._pane))
            yield lines

    def action_leave(self) -> None:
        """Close the help."""
        self.dismiss(None)


def help_lines(width: int, pane: str = panes.TREE) -> list[Text]:
    """The keys of a pane, then all others by group and by pane, then what the words in the tree mean."""
    lines = _pane_lines(pane, width)
    for group in GROUPS:
        members = [action for action in ACTIONS if action.group == group and not action.pane]
        lines += _part(group, [(_shown(action), action.help) for action in members], width)
    for other in panes.TITLES:
        if other != pane:
            lines += _pane_lines(other, width)
    lines.append(Text("Words in the tree", colours.HEADING))
    for word, meaning in WORDS:
        lines += _entry(word, colours.BLUE, meaning, width)
    return [*lines, Text(), Text(f"{PALETTE_KEY} lists every action by name", colours.MUTED)]


def _pane_lines(pane: str, width: int) -> list[Text]:
    own = [(_shown(action), action.help) for action in ACTIONS if action.pane == pane]
    return _part(panes.TITLES.get(pane, pane), [*panes.MOVES.get(pane, ()), *own], width)


def _part(title: str, entries: Sequence[tuple[str, str]], width: int) -> list[Text]:
    lines = [Text(title, colours.HEADING)]
    for keys, meaning in entries:
        lines += _entry(keys, f"bold {colours.WARNING}", meaning, width)
    return [*lines, Text()]


def _entry(key: str, style: str, meaning: str, width: int) -> list[Text]:
    room = max(width - KEYS - 4, 20)
    return [
        Text.assemble("  ", (fit(key if number == 0 else "", KEYS), style), "  ", line)
        for number, line in enumerate(wrapped(meaning, room))
    ]


def _shown(action: Action) -> str:
    return shown(action).replace(GLYPHS.horizontal, "right")
