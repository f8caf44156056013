"""How one state of plain data differs from another: fields that are set, fields that are gone, and lists whose end is another."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

SET, GONE, ENDS = "set", "gone", "ends"


def changes_between(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, Any]:
    """What makes the one of the other; nothing where they are equal."""
    changes: dict[str, Any] = {}
    for name, value in after.items():
        if name not in before or before[name] != value:
            old = before.get(name)
            if isinstance(old, list) and isinstance(value, list) and (kept := alike(old, value)):
                changes.setdefault(ENDS, {})[name] = [kept, value[kept:]]
            else:
                changes.setdefault(SET, {})[name] = value
    gone = [name for name in before if name not in after]
    return {**changes, GONE: gone} if gone else changes


def changed(state: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """The state after changes that were made of it."""
    ends = {name: [*state[name][:kept], *rest] for name, (kept, rest) in changes.get(ENDS, {}).items()}
    gone = set(changes.get(GONE, ()))
    return {name: value for name, value in {**state, **changes.get(SET, {}), **ends}.items() if name not in gone}


def alike(left: list[Any], right: list[Any]) -> int:
    """How many entries two lists have in common at their beginning."""
    return next((place for place, (a, b) in enumerate(zip(left, right)) if a != b), min(len(left), len(right)))
