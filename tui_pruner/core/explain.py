"""Why cutting A touches B: everything that loses channels with A, and the way of A's channels to B."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from tui_pruner.core.analysis import Analysis
from tui_pruner.core.groups import ChannelGroup
from tui_pruner.core.standing import JOINS, in_words, why_read
from tui_pruner.core.way import PathStep, Place, groups_of, place_of, way

Side = Literal["out", "in", "linked"]
SIDES: dict[Side, str] = {"in": "input", "out": "output", "linked": "as wide"}
MOST_NAMED = 3


@dataclass(frozen=True)
class Touch:
    """A layer that loses channels when A does: as output, as input, or because it must stay equally wide."""

    layer: str
    role: Side
    channels: str
    because: str


@dataclass(frozen=True)
class Explanation:
    """Everything that a cut of A touches, and the path to B where one was asked for; no path means that B is left alone."""

    coupled: bool
    path: tuple[PathStep, ...]
    touches: tuple[Touch, ...]
    summary: str = ""


def explain(analysis: Analysis, a: str, b: str | None = None) -> Explanation:
    """What cutting A's outputs touches, and how it reaches B; where it does not, how a cut of B would reach A.

    Raises:
        RequestError: a name that the model does not have.
    """
    source = place_of(analysis, a)
    touches = tuple(touched(analysis, source))
    if b is None:
        return Explanation(bool(touches), (), touches, summed_up(analysis, source, touches))
    target = place_of(analysis, b)
    first, last = (target, source) if source.block is not None else (source, target)
    path = way(analysis, first, last) or way(analysis, last, first)
    summary = tie(source, target, path) if path else f"{summed_up(analysis, source, touches)}; no channel path to {short(b)}"
    return Explanation(bool(path), tuple(path), touches, summary)


def touched(analysis: Analysis, source: Place) -> Iterator[Touch]:
    """Every layer outside a place that loses channels when the place does."""
    coupling, own = analysis.coupling, {layer.path for layer in source.layers}
    names = {layer.path: layer.name for layer in analysis.layers.values()}
    groups = groups_of(analysis, source)
    numbers = {group.number for group in groups}
    linked = [coupling.groups[n] for group in groups for n in sorted(coupling.linked_system(group) - numbers)]
    seen: set[tuple[str, str]] = set()
    for group in (*groups, *linked):
        for member in group.members:
            path = member.axis.module
            role: Side = "in" if member.role == "in" else "linked" if group.number not in numbers else "out"
            if path in own or path not in names or not (member.produces or member.role == "in") or (path, role) in seen:
                continue
            if not member.axis.is_weight:
                continue
            seen.add((path, role))
            size = coupling.sizes[member.axis]
            why = why_read(member, size) if role == "in" else "must keep as many" if role == "linked" else joined_words(group)
            yield Touch(names[path], role, in_words(member.indices, size), why)


def joined_words(group: ChannelGroup) -> str:
    """The operations that tie a group's producers together."""
    return ", ".join(f"{JOINS.get(o.name, o.name)} in {o.module}" for o in group.joined_by) or "the same channels"


def summed_up(analysis: Analysis, source: Place, touches: Sequence[Touch]) -> str:
    """What a place touches in one sentence: "5 touches 6.cv1 (input), nothing else"."""
    name, groups = short(source.name), groups_of(analysis, source)
    if groups and not any(group.prunable for group in groups):
        return f"{name} cannot be cut: {groups[0].reason}"
    if not touches:
        return f"{name} touches nothing else"
    named = [f"{short(touch.layer)} ({SIDES[touch.role]})" for touch in touches[:MOST_NAMED]]
    rest = len(touches) - len(named)
    return f"{name} touches {', '.join(named)}" + (f" and {rest} more" if rest else ", nothing else")


def tie(source: Place, target: Place, path: Sequence[PathStep]) -> str:
    """What ties two places together in one sentence: "4 and 14: Concat at channel 128..191"."""
    both = f"{short(source.name)} and {short(target.name)}"
    between = [step for step in path if step.operation not in ("writes", "reads")]
    if not between:
        return f"{both}: {short(path[-1].at)} {path[-1].operation} the channels of {short(path[0].at)}"
    said = [f"{step.operation} {step.detail if step.detail.startswith('at ') else f'in {short(step.at)}'}" for step in between]
    return f"{both}: {', '.join(dict.fromkeys(said))}"


def short(name: str) -> str:
    """A module path without the prefix that all have."""
    return name.removeprefix("model.")
