"""How free each layer is, and why: the words that the tree, the detail pane and the command line show."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from tui_pruner.core.blocks import Layer
from tui_pruner.core.flow.record import Operation
from tui_pruner.core.groups import ChannelGroup, CouplingMap, Indices, Link, Member

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
class Standing:
    """A layer's status and the reason for it; a free layer has none."""

    status: Status
    reason: str


def standing(coupling: CouplingMap, layer: Layer, names: dict[str, str]) -> Standing:
    """The status of a layer's output channels; `names` gives short names by module path."""
    groups = coupling.output_groups(layer.path)
    if not any(group.prunable for group in groups):
        return Standing("locked", groups[0].reason if groups else why_unknown(coupling, layer))
    link = link_within(coupling, groups)
    if link is not None:
        return Standing("linked", f"{link.operation} into {len(link.parts)} equal parts in {link.module}")
    others = [p for group in groups for p in group.producers if p.axis.module != layer.path]
    if others:
        group = next(group for group in groups if any(p.axis.module != layer.path for p in group.producers))
        with_whom = ", ".join(dict.fromkeys(names.get(p.axis.module, p.axis.module) for p in others))
        return Standing("coupled", f"with {with_whom}: {joined(group, layer.path)}")
    linked = [link for group in groups for link in coupling.links_of(group)]
    if linked:
        return Standing("coupled", f"must match the other parts of the {linked[0].operation} in {linked[0].module}")
    return Standing("free", "")


def why_unknown(coupling: CouplingMap, layer: Layer) -> str:
    """Why no channels of a layer's output are known: what happened to its weight, if anything did."""
    weights = (axis for axis in coupling.sizes if axis.module == layer.path and axis.is_weight)
    groups = (coupling.groups[number] for axis in weights for number in coupling.groups_of_axis.get(axis, ()))
    return next((group.reason for group in groups if group.lock is not None), "the forward never runs it")


def link_within(coupling: CouplingMap, groups: tuple[ChannelGroup, ...]) -> Link | None:
    """The link that cuts a layer's own output into parts."""
    own = {group.number for group in groups}
    for number in sorted({number for group in groups for number in group.links}):
        link = coupling.links[number]
        if sum(bool(own.intersection(part)) for part in link.parts) > 1:
            return link
    return None


def joined(group: ChannelGroup, path: str) -> str:
    """The operation that ties a group together, the one nearest to a layer."""
    if not group.joined_by:
        return "the same layer's channels"
    nearest = max(group.joined_by, key=lambda operation: common_prefix(operation, path))
    return f"{JOINS.get(nearest.name, nearest.name)} in {nearest.module}"


def common_prefix(operation: Operation, path: str) -> int:
    """How many path parts an operation's module shares with a layer, all of them being the layer's ancestors."""
    parts = operation.module.split(".")
    return len(parts) if path.split(".")[: len(parts)] == parts else 0


def why_read(member: Member, size: int) -> str:
    """Why a layer's input goes along with a group."""
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
