"""Why channels are cut together: the status of each layer, and the path that its channels take through the network."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from tui_pruner.core.model.analysis import Analysis
from tui_pruner.core.model.layers import Block, ModelLayer
from tui_pruner.core.pruning.resolve import match_layers
from tui_pruner.core.tracing.coupling_map import ChannelGroup, ChannelLink, CouplingMap, Indices, Member
from tui_pruner.core.tracing.labels import Operation

Status = Literal["free", "coupled", "linked", "locked"]
JOINS = {
    "add": "added",
    "add_": "added",
    "sub": "subtracted",
    "mul": "multiplied",
    "mul_": "multiplied",
    "bmm": "matched in a matrix product",
}
MOST_RANGES = 3


@dataclass(frozen=True)
class LayerStatus:
    """A layer's status and the reason for it; the reason of a free layer is empty."""

    status: Status
    reason: str


def status_of(coupling: CouplingMap, layer: ModelLayer, names: dict[str, str]) -> LayerStatus:
    """The status of a layer's output channels; `names` gives short names by module path."""
    groups = coupling.output_groups(layer.path)
    if not any(group.prunable for group in groups):
        return LayerStatus("locked", groups[0].reason if groups else reason_unknown(coupling, layer))
    link = link_within(coupling, groups)
    if link is not None:
        return LayerStatus("linked", f"{link.operation} into {len(link.parts)} equal parts{f' in {link.module}' if link.module else ''}")
    others = [p for group in groups for p in group.producers if p.axis.module != layer.path]
    if others:
        group = next(group for group in groups if any(p.axis.module != layer.path for p in group.producers))
        with_whom = ", ".join(dict.fromkeys(names.get(p.axis.module, p.axis.module) for p in others))
        return LayerStatus("coupled", f"with {with_whom}: {joined(group, layer.path)}")
    linked = [link for group in groups for link in coupling.links_of(group)]
    if linked:
        return LayerStatus("coupled", f"must match the other parts of the {linked[0].operation} in {linked[0].module}")
    return LayerStatus("free", "")


def reason_unknown(coupling: CouplingMap, layer: ModelLayer) -> str:
    """Why no output channels of a layer are known: what was done to its weight, if anything."""
    weights = (axis for axis in coupling.sizes if axis.module == layer.path and axis.is_weight)
    groups = (coupling.groups[number] for axis in weights for number in coupling.groups_of_axis.get(axis, ()))
    return next((group.reason for group in groups if group.lock is not None), "the forward never runs it")


def link_within(coupling: CouplingMap, groups: tuple[ChannelGroup, ...]) -> ChannelLink | None:
    """The link between parts of a layer's own output."""
    own = {group.number for group in groups}
    for number in sorted({number for group in groups for number in group.links}):
        link = coupling.links[number]
        if sum(bool(own.intersection(part)) for part in link.parts) > 1:
            return link
    return None


def joined(group: ChannelGroup, path: str) -> str:
    """The operation that ties a group together; of several the one nearest to a layer."""
    if not group.joined_by:
        return "the same channels"
    nearest = max(group.joined_by, key=lambda operation: common_prefix(operation, path))
    return f"{JOINS.get(nearest.name, nearest.name)} in {nearest.module}"


def common_prefix(operation: Operation, path: str) -> int:
    """How many parts of the path an operation's module shares with a layer; 0 unless the module contains the layer."""
    parts = operation.module.split(".")
    return len(parts) if path.split(".")[: len(parts)] == parts else 0


def why_read(member: Member, size: int) -> str:
    """Why a layer's input is cut with a group."""
    times = member.indices.shape[1]
    if times > 1:
        return f"reads it {times} times in a concat"
    if member.indices.size < size:
        return f"reads it in a concat, from channel {int(member.indices.min())}"
    return "reads it"


def in_words(indices: Indices, size: int) -> str:
    """A set of indices in words: "all 64", "64..127", "0..31, 96..127"."""
    ordered = np.sort(indices.reshape(-1))
    if len(ordered) == size:
        return f"all {size}"
    starts = np.flatnonzero(np.diff(ordered, prepend=ordered[0] - 2) != 1)
    ends = np.append(starts[1:], len(ordered)) - 1
    ranges = [f"{ordered[a]}..{ordered[b]}" if b > a else f"{ordered[a]}" for a, b in zip(starts, ends, strict=True)]
    return ", ".join(ranges[:MOST_RANGES]) + (f" and {len(ranges) - MOST_RANGES} more" if len(ranges) > MOST_RANGES else "")


@dataclass(frozen=True)
class PathPlace:
    """What a name means: layers, or a block without layers (a Concat, an Upsample) by its output."""

    name: str
    layers: tuple[ModelLayer, ...]
    block: Block | None


@dataclass(frozen=True)
class PathStep:
    """One hop of the channels: a module path, the operation there, and the positions of the channels."""

    at: str
    operation: str
    detail: str


def place_of(analysis: Analysis, name: str) -> PathPlace:
    """The layers or the block that a name means."""
    block = next((block for block in analysis.blocks if name in (str(block.index), block.path)), None)
    if block is not None and not block.layers:
        return PathPlace(name, (), block)
    return PathPlace(name, match_layers(name, analysis.layers, analysis.sections).layers, None)


def groups_of(analysis: Analysis, place: PathPlace) -> list[ChannelGroup]:
    """The groups of a place's outputs."""
    groups = analysis.coupling.groups
    if place.block is not None:
        numbers = analysis.coupling.block_outputs.get(place.block.path, np.zeros(0, np.int64))
        return [groups[n] for n in dict.fromkeys(numbers.tolist()) if n >= 0]
    return [groups[n] for n in dict.fromkeys(g.number for layer in place.layers for g in analysis.coupling.output_groups(layer.path))]


def channel_path(analysis: Analysis, source: PathPlace, target: PathPlace) -> list[PathStep]:
    """The hops from a place's outputs to another place; empty where its channels do not reach it."""
    for group in groups_of(analysis, source):
        end = target_hop(analysis, group, target) if passes_through_source(analysis, source, group, target) else ()
        if end:
            return [*source_hop(analysis, source, group), *passed(analysis, group, source, target), *end]
    for group in groups_of(analysis, source):
        for link in analysis.coupling.links_of(group):
            for other in analysis.coupling.linked_groups(group):
                end = target_hop(analysis, other, target)
                if end:
                    return [*source_hop(analysis, source, group), linking(link), *end]
    return []


def passes_through_source(analysis: Analysis, source: PathPlace, group: ChannelGroup, target: PathPlace) -> bool:
    """Whether channels reach the target through the source; a block without layers may only share them with it."""
    return source.block is None or source.block.index in carried(analysis, group, block_index(analysis, target))


def source_hop(analysis: Analysis, source: PathPlace, group: ChannelGroup) -> Iterator[PathStep]:
    """Where the channels are produced: in the place itself, or for a block without layers before it."""
    own = {layer.path for layer in source.layers} or {member.axis.module for member in group.producers}
    names = {layer.path: layer.name for layer in analysis.layers.values()}
    for member in group.producers:
        if member.axis.module in own:
            size = analysis.coupling.sizes[member.axis]
            yield PathStep(names[member.axis.module], "writes", f"output channels {in_words(member.indices, size)}")
            break
    if source.block is not None:
        yield from through(analysis, group, source.block)


def passed(analysis: Analysis, group: ChannelGroup, source: PathPlace, target: PathPlace) -> Iterator[PathStep]:
    """The blocks without layers (Concat, Upsample) between two places that pass the channels on, with the channels' positions there."""
    low, high = sorted((block_index(analysis, source), block_index(analysis, target)))
    carriers = carried(analysis, group, high)
    for block in analysis.blocks[low + 1 : high]:
        if not block.layers and block.index in carriers:
            yield from through(analysis, group, block)


def carried(analysis: Analysis, group: ChannelGroup, last: int) -> set[int]:
    """The blocks by which a group's channels reach a block: those of its sources that contain the channels, and so on back."""
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
    """Whether a block's output contains channels of a group."""
    numbers = analysis.coupling.block_outputs.get(block.path)
    return numbers is not None and bool((numbers == group.number).any())


def through(analysis: Analysis, group: ChannelGroup, block: Block) -> Iterator[PathStep]:
    """A block's output as a hop; None where it does not contain the group's channels."""
    if contains(analysis, group, block):
        numbers = analysis.coupling.block_outputs[block.path]
        yield PathStep(block.path, block.type, f"at channel {in_words(np.flatnonzero(numbers == group.number), len(numbers))}")


def block_index(analysis: Analysis, place: PathPlace) -> int:
    """The number of the block that a place is in; of several blocks the first."""
    if place.block is not None:
        return place.block.index
    first = place.layers[0]
    return next(block.index for block in analysis.blocks if first in block.layers)


def target_hop(analysis: Analysis, group: ChannelGroup, target: PathPlace) -> Sequence[PathStep]:
    """What a place does with a group's channels: it reads them, produces them too, or passes them on."""
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


def linking(link: ChannelLink) -> PathStep:
    """A link as a hop."""
    return PathStep(link.module, link.operation, f"cuts into {len(link.parts)} parts that must stay equally wide")


Side = Literal["out", "in", "linked"]
SIDES: dict[Side, str] = {"in": "input", "out": "output", "linked": "as wide"}
MOST_NAMED = 3


@dataclass(frozen=True)
class Touch:
    """A layer that loses channels when A does: outputs, inputs, or because it must stay equally wide."""

    layer: str
    role: Side
    channels: str
    because: str


@dataclass(frozen=True)
class Explanation:
    """Everything that a cut of A changes, and the path to B if asked for; without a path, B does not change."""

    coupled: bool
    path: tuple[PathStep, ...]
    touches: tuple[Touch, ...]
    summary: str = ""


def explain(analysis: Analysis, a: str, b: str | None = None) -> Explanation:
    """What cutting A's outputs changes, and how it reaches B; where it does not, how a cut of B would reach A.

    Raises:
        RequestError: a name that the model does not have.
    """
    source = place_of(analysis, a)
    touches = tuple(touched(analysis, source))
    if b is None:
        return Explanation(bool(touches), (), touches, summed_up(analysis, source, touches))
    target = place_of(analysis, b)
    first, last = (target, source) if source.block is not None else (source, target)
    path = channel_path(analysis, first, last) or channel_path(analysis, last, first)
    summary = summary_of_tie(source, target, path) if path else f"{summed_up(analysis, source, touches)}; no channel path to {short(b)}"
    return Explanation(bool(path), tuple(path), touches, summary)


def touched(analysis: Analysis, source: PathPlace) -> Iterator[Touch]:
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


def summed_up(analysis: Analysis, source: PathPlace, touches: Sequence[Touch]) -> str:
    """What a cut of a place changes, in one sentence: "5 touches 6.cv1 (input), nothing else"."""
    name, groups = short(source.name), groups_of(analysis, source)
    if groups and not any(group.prunable for group in groups):
        return f"{name} cannot be cut: {groups[0].reason}"
    if not touches:
        return f"{name} touches nothing else"
    sides: dict[str, list[str]] = {}
    for touch in touches:
        sides.setdefault(touch.layer, []).append(SIDES[touch.role])
    named = [f"{short(layer)} ({', '.join(of_layer)})" for layer, of_layer in list(sides.items())[:MOST_NAMED]]
    rest = len(sides) - len(named)
    return f"{name} touches {', '.join(named)}" + (f" and {rest} more" if rest else ", nothing else")


def summary_of_tie(source: PathPlace, target: PathPlace, path: Sequence[PathStep]) -> str:
    """What ties two places together, in one sentence: "4 and 14: Concat at channel 128..191"."""
    both = f"{short(source.name)} and {short(target.name)}"
    between = [step for step in path if step.operation not in ("writes", "reads")]
    if not between:
        return f"{both}: {short(path[-1].at)} {path[-1].operation} the channels of {short(path[0].at)}"
    said = [f"{step.operation} {step.detail if step.detail.startswith('at ') else f'in {short(step.at)}'}" for step in between]
    return f"{both}: {', '.join(dict.fromkeys(said))}"


def short(name: str) -> str:
    """A module path without the prefix that all paths share."""
    return name.removeprefix("model.")
