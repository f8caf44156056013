"""The user's keymap: which actions get other keys, and which overrides are refused because two actions would share a key."""

from __future__ import annotations

import difflib
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from textual.binding import Binding
from textual.keys import Keys, format_key

from tui_pruner.tui.actions.action import Action

PALETTE_KEY = "ctrl+p"
MOTIONS = ("up", "down", "home", "end", "j", "k", "g", "G", "ctrl+d", "ctrl+u")
TAKEN = dict.fromkeys(MOTIONS, "moving about") | {
    PALETTE_KEY: "the palette",
    "ctrl+q": "quitting",
    **{str(digit): "typing a ratio" for digit in range(1, 10)},
}
NAMED = frozenset(key.value for key in Keys)
MODIFIERS = ("ctrl+", "alt+", "shift+")

FORMER_IDS = {"station-1": "hop-1", "station-minus-1": "hop-minus-1"}
"""Actions that had another id once: a user's file may still say it."""


@dataclass(frozen=True)
class Keymap:
    """The actions with the keys that they have now, the overrides as Textual takes them, and what was refused."""

    actions: tuple[Action, ...]
    overrides: Mapping[str, str]
    problems: tuple[str, ...] = ()


def keymap_of(actions: Sequence[Action], wanted: Mapping[str, Any]) -> Keymap:
    """Give actions other keys by their ids; an unknown id or key, or a key that two actions would share, leaves the default."""
    problems: list[str] = []
    overrides = _known(actions, wanted, problems)
    while clash := _clash(actions, overrides):
        problems.append(clash.message)
        for id in clash.losers:
            del overrides[id]
    return Keymap(tuple(_with_keys(action, overrides.get(action.id)) for action in actions), overrides, tuple(problems))


_shown: dict[str, str] = {}


def use(keymap: Keymap) -> None:
    """Show these keys from now on, wherever keys are shown."""
    _shown.clear()
    _shown.update({action.id: shown_keys(action) for action in keymap.actions})


def shown(action: Action) -> str:
    """The keys that an action has now, as people read them."""
    return _shown.get(action.id) or shown_keys(action)


def key_of(id: str) -> str:
    """The first key that an action has now, to tell the user to press it."""
    return _shown[id].split()[0]


def shown_keys(action: Action) -> str:
    """An action's keys as people read them; where it has none, the palette's."""
    return action.shown or action.keys or PALETTE_KEY


@dataclass(frozen=True)
class _Clash:
    message: str
    losers: tuple[str, ...]


def _known(actions: Sequence[Action], wanted: Mapping[str, Any], problems: list[str]) -> dict[str, str]:
    ids = {action.id for action in actions}
    overrides = {}
    for given, written in wanted.items():
        id = FORMER_IDS.get(given, given)
        words = " ".join(map(str, written)) if isinstance(written, list) else str(written)
        keys = list(dict.fromkeys(_name_of(key) for key in words.replace(",", " ").split()))
        bad = [key for key in keys if not _exists(key)]
        if id not in ids:
            near = difflib.get_close_matches(id, ids, n=1)
            problems.append(f"keymap: no action {id!r}{f', did you mean {near[0]}?' if near else ''} (see tui-pruner keys)")
        elif bad or not keys:
            problems.append(f"keymap: {id}: no key {bad[0] if bad else ''!r}: its default is used")
        else:
            overrides[id] = ",".join(keys)
    return overrides


def _clash(actions: Iterable[Action], overrides: Mapping[str, str]) -> _Clash | None:
    """The first key that two actions of one pane, or of no pane, would share, or that is taken everywhere."""
    owners: dict[tuple[str, str], list[str]] = defaultdict(list)
    for action in actions:
        for key in overrides.get(action.id, action.keys).split(","):
            owners[action.pane, key].append(action.id)
    for (pane, key), ids in owners.items():
        losers = tuple(id for id in ids if id in overrides)
        taken = [TAKEN[key]] if key in TAKEN and not pane else []
        others = [*taken, *(id for id in ids if id not in losers[:1])]
        if losers and others:
            return _Clash(f"keymap: {key} of {losers[0]} is also for {', '.join(others)}: {_defaults(losers)}", losers)
    return None


def _defaults(losers: Sequence[str]) -> str:
    return f"the default{'s are' if len(losers) > 1 else ' is'} used"


def _with_keys(action: Action, keys: str | None) -> Action:
    return action if keys is None else replace(action, keys=keys, shown=" ".join(format_key(key) for key in keys.split(",")))


def _name_of(key: str) -> str:
    """How Textual calls a key: / is slash."""
    return next(iter(Binding.make_bindings([(key, "", "")]))).key


def _exists(key: str) -> bool:
    while key.startswith(MODIFIERS):
        key = key.partition("+")[2]
    return key in NAMED or len(key) == 1 or format_key(key) != key
