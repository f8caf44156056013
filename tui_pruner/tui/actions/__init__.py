"""Every action of the workbench, once: its keys, its name in the footer, and its sentence for the help, the tooltip and the palette."""

from __future__ import annotations

from textual.binding import Binding

from tui_pruner.tui.actions import jobs, ratio, steps, view
from tui_pruner.tui.actions.action import GROUPS, INTERACTIVE, Action
from tui_pruner.tui.actions.keymap import shown

__all__ = ["ACTIONS", "FOOTER_ORDER", "GROUPS", "INTERACTIVE", "Action", "bindings", "key_of", "pane_bindings"]

ACTIONS = (*ratio.ACTIONS, *steps.ACTIONS, *jobs.ACTIONS, *view.ACTIONS)
BY_ID = {action.id: action for action in ACTIONS}
FOOTER_ORDER = ("help", "quit", "next_pane", "mark", "nudge(1)", "apply", "write", "validate", "undo", "filter", "explain", "map")
DIGITS = tuple(Binding(str(digit), f"type_share('{digit}')", "Type a ratio", show=False) for digit in range(1, 10))


def key_of(id: str) -> str:
    """The first key that an action has now, to tell somebody to press it."""
    return shown(BY_ID[id]).split()[0]


def bindings() -> list[Binding]:
    """The key bindings of the whole workbench."""
    return [*(action.binding for action in ACTIONS if action.keys and not action.pane), *DIGITS]


def pane_bindings(pane: str) -> list[Binding]:
    """The key bindings that hold in one pane, by its id."""
    return [action.binding for action in ACTIONS if action.keys and action.pane == pane]
