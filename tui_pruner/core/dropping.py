"""Whole inner blocks as a cut of their own: which ones a request names, and whether they can go."""

from __future__ import annotations

from collections.abc import Mapping
from fnmatch import fnmatchcase

from tui_pruner.core.analysis import Analysis
from tui_pruner.core.depth import Dropped, cut_already, droppable_in_words, inside, outermost
from tui_pruner.core.groups import InnerBlock
from tui_pruner.core.linking import Wishes
from tui_pruner.core.removal import Removal
from tui_pruner.core.requests import Request
from tui_pruner.errors import RequestError

MARKS = "*?["


def drops_of(analysis: Analysis, request: Request, base: Removal, wishes: Wishes) -> Dropped:
    """The inner blocks that a request drops: one by its path, or all that a glob matches and that can go.

    Raises:
        RequestError: no such block, or one that cannot go.
    """
    inner, counts = analysis.coupling.inner, base.counts(analysis.coupling)
    matching, exact = matched(request.layer, inner), not any(mark in request.layer for mark in MARKS)
    if not matching:
        raise RequestError(f"{request.layer} cannot be dropped: {why_not(analysis, request.layer)}")
    found, refused = [], []
    for path in matching:
        if around := inside(path, base.dropped):
            refused.append(f"{path} is gone already" + (f", with {around}" if around != path else ""))
        elif cut_already(analysis.coupling, inner[path], counts):
            refused.append(f"{path} cannot be dropped after a cut of the channels that it reads or writes: drop it first, then cut")
        else:
            found.append(path)
    if not found:
        raise RequestError(refused[0])
    if refused and not exact:
        wishes.notes.append(f"{request.layer}: skipped {len(refused)} of {len(matching)} blocks ({refused[0]})")
    dropped = outermost(found)
    wishes.asked += [layer.name for layer in analysis.layers.values() if inside(layer.path, dropped)]
    return dropped


def matched(name: str, inner: Mapping[str, InnerBlock]) -> list[str]:
    """The inner blocks that a name or a glob means."""
    if any(mark in name for mark in MARKS):
        return [path for path in inner if fnmatchcase(path, name)]
    return [path for path in (name, f"model.{name}") if path in inner][:1]


def why_not(analysis: Analysis, name: str) -> str:
    """Why something cannot be dropped, and what can."""
    inner = analysis.coupling.inner
    around = next((block for path in (name, f"model.{name}") if (block := inside(path, inner))), "")
    below = [path for path in inner if path.startswith((f"{name}.", f"model.{name}."))]
    if around:
        return f"it is a part of {around}, which can only go as a whole: ask for {around}=drop"
    if below:
        return f"it is the only path; what can go of it is {', '.join(below)}"
    known = {path for path, _ in analysis.skeleton.named_modules()} & {name, f"model.{name}"}
    return f"{'it is the only path' if known else 'no such block'}; {droppable_in_words(analysis.coupling)}"
