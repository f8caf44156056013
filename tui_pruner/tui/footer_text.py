"""The footer as text: the main keys, as many as fit."""

from __future__ import annotations

from collections.abc import Sequence

from rich.style import Style
from rich.text import Text

from tui_pruner.tui import colours
from tui_pruner.tui.actions import ACTIONS, FOOTER_ORDER, Action

CLICK = "action"


def footer_text(width: int, leading: str = "") -> Text:
    """The keys in one line of at most `width` cells, the most needed ones staying longest. Each can be clicked."""
    shown = [action for action in ACTIONS if action.footer]
    text = _line(shown, leading)
    while text.cell_len > width and len(shown) > 1:
        shown.remove(max(shown, key=lambda action: FOOTER_ORDER.index(action.name)))
        text = _line(shown, leading)
    return text


def _line(actions: Sequence[Action], leading: str) -> Text:
    text = Text(" ", no_wrap=True)
    if leading:
        text.append(f"{leading}  ", f"bold {colours.GOOD}")
    for action in actions:
        click = Style(meta={CLICK: action.name})
        text.append_text(Text(action.shown, f"bold {colours.WARNING}").append(f" {action.footer}", colours.TEXT))
        text.stylize(click, len(text) - len(action.shown) - len(action.footer) - 1, len(text))
        text.append("  ")
    text.rstrip()
    return text
