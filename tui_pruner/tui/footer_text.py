"""The footer as text: the main keys, as many as fit."""

from __future__ import annotations

from collections.abc import Sequence

from rich.style import Style
from rich.text import Text

from tui_pruner.tui import colours
from tui_pruner.tui.actions import ACTIONS, FOOTER_ORDER, Action

CLICK = "action"


def footer_text(width: int, leading: str = "", pane: str = "") -> Text:
    """The keys in one line of at most `width` cells, those of the focused pane first, the most needed ones longest; all can be clicked."""
    own = [action for action in ACTIONS if action.footer and action.pane and action.pane == pane]
    taken = {key for action in own for key in action.keys.split(",")}
    rest = [action for action in ACTIONS if action.footer and not action.pane and not taken & set(action.keys.split(","))]
    return fitting(own + rest, width, leading)


def fitting(actions: Sequence[Action], width: int, leading: str = "") -> Text:
    """These actions in one line of at most `width` cells, without the least needed ones where it is too narrow."""
    shown = list(actions)
    text = _line(shown, leading)
    while text.cell_len > width and len(shown) > 1:
        shown.remove(max(shown, key=_need))
        text = _line(shown, leading)
    return text


def _need(action: Action) -> int:
    """How early an action may leave the footer: the later ones first."""
    return 2 if action.pane else FOOTER_ORDER.index(action.name)


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
