"""The way of channels through a model, operation by operation: where they are written, what hands them on, where they arrive."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from tui_pruner.core.analysis import Analysis
from tui_pruner.core.blocks import Block, Layer
from tui_pruner.core.groups import ChannelGroup, Link
from tui_pruner.core.requests import match_layers
from tui_pruner.core.standing import in_words


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


def place_of(analysis: Analysis, name: str) -> Place:
    """The layers or the block that a name means."""
    block = next((block for block in analysis.blocks if name in (str(block.index), block.path)), None)
    if block is not None and not block.layers:
        return Place(name, (), block)
    return Place(name, match_layers(name, analysis.layers, analysis.sections).layers, None)


def groups_of(analysis: Analysis, place: Place) -> list[ChannelGroup]:
    """The groups that a place hands out."""
    groups = analysis.coupling.groups
    if place.block is not None:
        numbers = analysis.coupling.block_outputs.get(place.block.path, np.zeros(0, np.int64))
        return [groups[n] for n in dict.fromkeys(numbers.tolist()) if n >= 0]
    return [groups[n] for n in dict.fromkeys(g.number for layer in place.layers for g in analysis.coupling.output_groups(layer.path))]


def way(analysis: Analysis, source: Place, target: Place) -> list[PathStep]:
    """The stations from a place's outputs to another place; empty where its channels never get there."""
    for group in groups_of(analysis, source):
        end = arrival(analysis, group, target) if hands_on(analysis, source, group, target) else ()
        if end:
            return [*departure(analysis, source, group), *passed(analysis, group, source, target), *end]
    for group in groups_of(analysis, source):
        for link in analysis.coupling.links_of(group):
            for other in analysis.coupling.linked_groups(group):
                end = arrival(analysis, other, target)
                if end:
                    return [*departure(analysis, source, group), linking(link), *end]
    return []


def hands_on(analysis: Analysis, source: Place, group: ChannelGroup, target: Place) -> bool:
    """Whether channels get to the target through the source: a block without layers may only share them with it."""
    return source.block is None or source.block.index in carried(analysis, group, block_index(analysis, target))


def departure(analysis: Analysis, source: Place, group: ChannelGroup) -> Iterator[PathStep]:
    """Where the channels are written: in the place itself, or for a block without layers in front of it."""
    own = {layer.path for layer in source.layers} or {member.axis.module for member in group.producers}
    names = {layer.path: layer.name for layer in analysis.layers.values()}
    for member in group.producers:
        if member.axis.module in own:
            size = analysis.coupling.sizes[member.axis]
            yield PathStep(names[member.axis.module], "writes", f"output channels {in_words(member.indices, size)}")
            break
    if source.block is not None:
        yield from through(analysis, group, source.block)


def passed(analysis: Analysis, group: ChannelGroup, source: Place, target: Place) -> Iterator[PathStep]:
    """The blocks without layers (Concat, Upsample) between two places that hand the channels on, with their places there."""
    low, high = sorted((block_index(analysis, source), block_index(analysis, target)))
    carriers = carried(analysis, group, high)
    for block in analysis.blocks[low + 1 : high]:
        if not block.layers and block.index in carriers:
            yield from through(analysis, group, block)


def carried(analysis: Analysis, group: ChannelGroup, last: int) -> set[int]:
    """The blocks over which a group's channels come to a block: its sources that contain them, theirs, and so on."""
    carriers: set[int] = set()
    waiting = list(analysis.blocks[last].sources)
    while waiting:
        index = waiting.pop()
        if index < 0 or index in carriers or not contains(analysis, group, analysis.blocks[index]):
            continue
        carriers.add(index)
        waiting += analysis.blocks[index].sources
    return carriers


def contains(analysis: Analysis, group: ChannelGroup, block: Block) -> bool:
    """Whether a block's output has channels of a group."""
    numbers = analysis.coupling.block_outputs.get(block.path)
    return numbers is not None and bool((numbers == group.number).any())


def through(analysis: Analysis, group: ChannelGroup, block: Block) -> Iterator[PathStep]:
    """A block's output as a station, where it contains the group's channels."""
    if contains(analysis, group, block):
        numbers = analysis.coupling.block_outputs[block.path]
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
        if member.axis.module not in wanted or not member.axis.is_weight:
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
