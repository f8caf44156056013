"""All keys, grouped: composed from the same table that binds them."""

from __future__ import annotations

from typing import ClassVar

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.screen import ModalScreen
from textual.widgets import Static

from tui_pruner.tui import colours
from tui_pruner.tui.actions import ACTIONS, GROUPS
from tui_pruner.tui.drawing import fit

KEYS = 9
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
            yield Static(help_text())

    def action_leave(self) -> None:
        """Close the help."""
        self.dismiss(None)


def help_text() -> Text:
    """All actions by group, then what the words in the tree mean."""
    text = Text()
    for group in GROUPS:
        text.append(f"{group}\n", colours.HEADING)
        for action in ACTIONS:
            if action.group == group:
                text.append(f"  {fit(_shown(action.name, action.shown), KEYS)} ", f"bold {colours.WARNING}")
                text.append(f"{action.help}\n")
        text.append("\n")
    text.append("Words in the tree\n", colours.HEADING)
    for word, meaning in WORDS:
        text.append(f"  {fit(word, KEYS + 2)} ", colours.BLUE).append(f"{meaning}\n")
    text.append("\nctrl+p lists every action by name.", colours.MUTED)
    return text


def _shown(name: str, shown: str) -> str:
    return "right" if name == "nudge(1)" else shown
