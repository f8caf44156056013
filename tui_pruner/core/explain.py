"""Why cutting A touches B: the way of A's output channels, operation by operation, until B reads, joins or must match them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from tui_pruner.core.analysis import Analysis
from tui_pruner.core.blocks import Block, Layer
from tui_pruner.core.groups import ChannelGroup, Link
from tui_pruner.core.requests import match_layers
from tui_pruner.core.standing import JOINS, in_words, why_read


@dataclass(frozen=True)
class Place:
    """What a name means: layers, or a block without layers (a Concat, an Upsample) by its output."""

    name: str
    layers: tuple[Layer, ...]
    block: Block | None


@dataclass(frozen=True)
class PathStep:
    """One station of the channels: a module path, the operation there, and which channels they are."""

    at: str
    operation: str
    detail: str


@dataclass(frozen=True)
class Touch:
    """A layer that loses channels when A does: as output, as input, or because it must stay equally wide."""

    layer: str
    role: str
    channels: str
    because: str


@dataclass(frozen=True)
class Explanation:
    """Everything that a cut of A touches, and the path to B where one was asked for; no path means that B is left alone."""

    coupled: bool
    path: tuple[PathStep, ...]
    touches: tuple[Touch, ...]


def explain(analysis: Analysis, a: str, b: str | None = None) -> Explanation:
    """What cutting A's outputs touches, and how it reaches B; where it does not, how a cut of B would reach A.

    Raises:
        RequestError: a name that the model does not have.
    """
    source = place_of(analysis, a)
    touches = tuple(touched(analysis, source))
    if b is None:
        return Explanation(bool(touches), (), touches)
    target = place_of(analysis, b)
    path = way(analysis, source, target) or way(analysis, target, source)
    return Explanation(bool(path), tuple(path), touches)


def place_of(analysis: Analysis, name: str) -> Place:
    """The layers or the block that a name means."""
    block = next((block for block in analysis.blocks if name in (str(block.index), block.path)), None)
    if block is not None and not block.layers:
        return Place(name, (), block)
    return Place(name, match_layers(name, analysis.layers).layers, None)


def groups_of(analysis: Analysis, place: Place) -> list[ChannelGroup]:
    """The groups that a place hands out."""
    groups = analysis.coupling.groups
    if place.block is not None:
        numbers = analysis.coupling.block_outputs.get(place.block.path, np.zeros(0, np.int64))
        return [groups[n] for n in dict.fromkeys(numbers.tolist()) if n >= 0]
    return [groups[n] for n in dict.fromkeys(g.number for layer in place.layers for g in analysis.coupling.output_groups(layer.path))]


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
            role = "in" if member.role == "in" else "linked" if group.number not in numbers else "out"
            if path in own or path not in names or not (member.produces or member.role == "in") or (path, role) in seen:
                continue
            if not member.axis.parameter.endswith(".weight"):
                continue
            seen.add((path, role))
            size = coupling.sizes[member.axis]
            why = why_read(member, size) if role == "in" else "must keep as many" if role == "linked" else joined_words(group)
            yield Touch(names[path], role, in_words(member.indices, size), why)


def joined_words(group: ChannelGroup) -> str:
    """The operations that tie a group's producers together."""
    return ", ".join(f"{JOINS.get(o.name, o.name)} in {o.module}" for o in group.joined_by) or "the same channels"


def way(analysis: Analysis, source: Place, target: Place) -> list[PathStep]:
    """The stations from a place's outputs to another place; empty where its channels never get there."""
    for group in groups_of(analysis, source):
        end = arrival(analysis, group, target)
        if end:
            return [departure(analysis, source, group), *passed(analysis, group, source, target), *end]
    for group in groups_of(analysis, source):
        for link in analysis.coupling.links_of(group):
            for other in analysis.coupling.linked_groups(group):
                end = arrival(analysis, other, target)
                if end:
                    return [departure(analysis, source, group), linking(link), *end]
    return []


def departure(analysis: Analysis, source: Place, group: ChannelGroup) -> PathStep:
    """Where the channels are written."""
    own = {layer.path: layer.name for layer in source.layers}
    for member in group.producers:
        if member.axis.module in own:
            size = analysis.coupling.sizes[member.axis]
            return PathStep(own[member.axis.module], "writes", f"output channels {in_words(member.indices, size)}")
    return PathStep(source.name, source.block.type if source.block else "hands out", f"{group.channels} channels")


def passed(analysis: Analysis, group: ChannelGroup, source: Place, target: Place) -> Iterator[PathStep]:
    """The blocks without layers (Concat, Upsample) between two places that hand the channels on, with their places there."""
    low, high = sorted((block_index(analysis, source), block_index(analysis, target)))
    for block in analysis.blocks[low + 1 : high]:
        if not block.layers:
            yield from through(analysis, group, block)


def through(analysis: Analysis, group: ChannelGroup, block: Block) -> Iterator[PathStep]:
    """A block's output as a station, where it contains the group's channels."""
    numbers = analysis.coupling.block_outputs.get(block.path)
    if numbers is not None and (numbers == group.number).any():
        yield PathStep(block.path, block.type, f"at channel {in_words(np.flatnonzero(numbers == group.number), len(numbers))}")


def block_index(analysis: Analysis, place: Place) -> int:
    """The block that a place is in; of several the first."""
    if place.block is not None:
        return place.block.index
    first = place.layers[0]
    return next(block.index for block in analysis.blocks if first in block.layers)


def arrival(analysis: Analysis, group: ChannelGroup, target: Place) -> Sequence[PathStep]:
    """How a place meets a group's channels: it reads them, writes them too, or hands them on."""
    if target.block is not None:
        return list(through(analysis, group, target.block))
    wanted = {layer.path: layer.name for layer in target.layers}
    for member in group.members:
        if member.axis.module not in wanted or not member.axis.parameter.endswith(".weight"):
            continue
        name, where = wanted[member.axis.module], in_words(member.indices, analysis.coupling.sizes[member.axis])
        if member.role == "in":
            return [PathStep(name, "reads", f"input channels {where}")]
        if member.produces:
            joins = [PathStep(o.module, o.name, "makes the channels of both one") for o in group.joined_by]
            return [*joins, PathStep(name, "writes", f"output channels {where}")]
    return []


def linking(link: Link) -> PathStep:
    """A link as a station."""
    return PathStep(link.module, link.operation, f"cuts into {len(link.parts)} parts that must stay equally wide")
