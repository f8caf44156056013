"""The footer as text: the main keys, as many as fit."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace

from rich.style import Style
from rich.text import Text

from tui_pruner.tui import colours
from tui_pruner.tui.actions import ACTIONS, FOOTER_ORDER, Action
from tui_pruner.tui.actions.keymap import shown
from tui_pruner.tui.actions.panes import PANE_WORDS

CLICK = "action"


def footer_text(width: int, leading: str = "", pane: str = "") -> Text:
    """The keys in one line of at most `width` cells, those of the focused pane first, the most needed ones longest; all can be clicked."""
    words = PANE_WORDS.get(pane, {})
    own = [action for action in ACTIONS if action.footer and action.pane and action.pane == pane]
    own += [replace(action, footer=words[action.name]) for action in ACTIONS if action.name in words]
    taken = {key for action in own for key in action.keys.split(",")}
    rest = [action for action in ACTIONS if action.footer and not action.pane and not taken & set(action.keys.split(","))]
    return fitting(own + rest, width, leading, {action.name for action in own})


def fitting(actions: Sequence[Action], width: int, leading: str = "", needed: Collection[str] = ()) -> Text:
    """These actions in one line of at most `width` cells, without the least needed ones where it is too narrow."""
    shown_now = list(actions)
    text = _line(shown_now, leading)
    while text.cell_len > width and len(shown_now) > 1:
        shown_now.remove(max(reversed(shown_now), key=lambda action: _need(action, needed)))
        text = _line(shown_now, leading)
    return text


def _need(action: Action, needed: Collection[str]) -> int:
    """How early an action may leave the footer: the later ones first."""
    return 2 if action.pane or action.name in needed else FOOTER_ORDER.index(action.name)


def _line(actions: Sequence[Action], leading: str) -> Text:
    text = Text(" ", no_wrap=True)
    if leading:
        text.append(f"{leading}  ", f"bold {colours.GOOD}")
    for action in actions:
        click = Style(meta={CLICK: action.name})
        start = len(text)
        text.append(shown(action), f"bold {colours.WARNING}").append(f" {action.footer}", colours.TEXT)
        text.stylize(click, start, len(text))
        text.append("  ")
    text.rstrip()
    return text
