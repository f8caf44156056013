"""The coupling map: which channels are removed together, which widths are tied, which channels are locked, and why."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tui_pruner.core.tracing.labels import Axis, Operation, Role

Indices = NDArray[np.int64]
PRODUCERS: frozenset[Role | None] = frozenset({"out", "depthwise"})


@dataclass(frozen=True)
class Member:
    """A group's share of one parameter dimension. `indices` is [channels, n]: the n positions there of each of the group's channels."""

    axis: Axis
    role: Role | None
    indices: Indices

    @property
    def produces(self) -> bool:
        """Whether these are the layer's output channels."""
        return self.role in PRODUCERS


@dataclass(frozen=True)
class Lock:
    """Why channels are locked: the reason in words, the operation, its module, and the tensor dimension."""

    reason: str
    operation: str
    module: str
    dim: int


@dataclass(frozen=True)
class ChannelLink:
    """Parts of one axis that must lose equally many channels; each part is a tuple of group numbers.

    Where the parts are attention `heads`, a whole head may also lose all its channels: the module then has one head less.
    """

    number: int
    operation: str
    module: str
    parts: tuple[tuple[int, ...], ...]
    heads: bool = False


@dataclass(frozen=True)
class ChannelGroup:
    """Channels with the same members: any of them can be removed, everywhere at once, as long as the links of the group agree."""

    number: int
    channels: int
    members: tuple[Member, ...]
    lock: Lock | None
    links: tuple[int, ...]
    joined_by: tuple[Operation, ...]

    @cached_property
    def producers(self) -> tuple[Member, ...]:
        """The layers whose outputs these channels are."""
        return tuple(member for member in self.members if member.produces)

    @property
    def prunable(self) -> bool:
        """Whether channels may be removed at all."""
        return self.lock is None and bool(self.producers) and self.channels > 1

    @property
    def reason(self) -> str:
        """Why it is not prunable, or an empty string."""
        if self.lock is not None:
            where = f" ({self.lock.operation} in {self.lock.module})" if self.lock.module else ""
            return self.lock.reason + where
        if not self.producers:
            return "no layer produces these channels"
        if self.channels > 1:
            return ""
        tied = any(member.indices.size > 1 for member in self.producers)
        return "is tied to the other channels of its layer: only all of them could go" if tied else "has a single channel"

    def member(self, axis: Axis) -> Member:
        """The member of an axis."""
        return next(member for member in self.members if member.axis == axis)


@dataclass(frozen=True)
class InnerBlock:
    """A repeat within a block that returns as many channels as it reads, so that the forward can do without it.

    `inputs` and `outputs` have the group of each channel (-1 where there is none). `tied`: the outputs are the same channels as the inputs,
    as with a residual addition. `silenced` names the parameters that, where they are zero, make it return its input; empty where none do.
    """

    path: str
    type: str
    inputs: Indices
    outputs: Indices
    tied: bool
    silenced: tuple[str, ...]


@dataclass(frozen=True)
class Product:
    """A product of two activations, as in attention, or a convolution with a computed weight: the module that runs it, its place among all
    products and convolutions, and for each factor of its work the group of each channel (-1 where there is none).
    """

    module: str
    place: int
    factors: tuple[Indices, ...]


@dataclass(frozen=True)
class WidthName:
    """An attribute of a module that holds a width, or holds it at a position of a tuple or list."""

    path: str
    attribute: str
    position: int | None = None

    def __str__(self) -> str:
        place = "" if self.position is None else f"[{self.position}]"
        return f"{self.path}.{self.attribute}{place}" if self.path else f"{self.attribute}{place}"

    @staticmethod
    def fits(attribute: str) -> bool:
        """Whether a plan can name an attribute of this name."""
        return not any(sign in attribute for sign in ".[")

    @classmethod
    def parsed(cls, text: str) -> WidthName:
        """Parse the text by which a plan names an attribute."""
        whole, bracket, position = text.partition("[")
        path, _, attribute = whole.rpartition(".")
        return cls(path, attribute, int(position.rstrip("]")) if bracket and position.rstrip("]").isdigit() else None)


@dataclass(frozen=True)
class NamedWidth:
    """An attribute that holds a width: for each channel that it counts the group and the place in the group, -1 for no channel."""

    name: WidthName
    groups: Indices
    places: Indices


class Normalised(NamedTuple):
    """A normalisation across channels: its parameter with a value for each, and for one by a mean alone the rank of what the mean is of,
    and the dimension that it is along.
    """

    parameter: str
    rank: int = 0
    dim: int = 0


@dataclass(frozen=True)
class ScaledRows:
    """Rows of some parameters, by index, that a cut scales by the root of the share that is left of a width; for each channel of the
    width its group and its place in the group.
    """

    parameters: tuple[str, ...]
    rows: Indices
    groups: Indices
    places: Indices


@dataclass(frozen=True)
class CouplingMap:
    """All groups and links of a model, which groups each block's outputs are from, and the products in the order in which they run.

    `spared`: axes that the forward divides by, which the masked twin leaves as they are. `remarks`: what could not be followed, in words.
    `classes`: the group that has a channel for each class, which only requests for classes may cut.
    `inner` has the blocks that can be dropped, by path, `dropped` those that are, and `gone` the groups that were dropped with them.
    `approximate` has the modules that normalise over the channels that are left, which changes what these compute: by request only.
    `named` has the attributes that hold widths (`width_search.py`), `scaled` the weights that attention divides by the root of a width;
    only modules given by the user have any.
    """

    groups: tuple[ChannelGroup, ...]
    links: tuple[ChannelLink, ...]
    sizes: Mapping[Axis, int]
    roles: Mapping[Axis, Role]
    block_outputs: Mapping[str, Indices]
    products: tuple[Product, ...]
    unknown_operations: Mapping[str, int]
    operations: int
    seconds: float
    spared: frozenset[Axis] = frozenset()
    remarks: tuple[str, ...] = ()
    classes: int | None = None
    inner: Mapping[str, InnerBlock] = field(default_factory=dict)
    dropped: frozenset[str] = frozenset()
    gone: frozenset[int] = frozenset()
    named: tuple[NamedWidth, ...] = ()
    scaled: tuple[ScaledRows, ...] = ()
    approximate: Mapping[str, Normalised] = field(default_factory=dict)

    @cached_property
    def without(self) -> dict[frozenset[str], CouplingMap]:
        """This map without some inner blocks, for each choice that was computed so far (`inner_blocks.after`)."""
        return {}

    @cached_property
    def groups_of_axis(self) -> dict[Axis, tuple[int, ...]]:
        """The numbers of the groups that share an axis, in the order of their first channel there."""
        found: dict[Axis, list[tuple[int, int]]] = {}
        for group in self.groups:
            for member in group.members:
                found.setdefault(member.axis, []).append((int(member.indices[0, 0]), group.number))
        return {axis: tuple(number for _, number in sorted(pairs)) for axis, pairs in found.items()}

    @cached_property
    def output_axes(self) -> dict[str, Axis]:
        """The output axis of every layer, by the path of its module."""
        found = {axis.module: axis for axis, role in self.roles.items() if role in PRODUCERS}
        return found | {axis.module: axis for axis, role in self.roles.items() if role in PRODUCERS and axis.is_weight}

    @cached_property
    def input_axes(self) -> dict[str, Axis]:
        """The input axis of every layer that has one of its own, by the path of its module."""
        return {axis.module: axis for axis, role in self.roles.items() if role == "in"}

    def timed(self, seconds: float) -> CouplingMap:
        """The same map with the seconds that the trace took."""
        return replace(self, seconds=seconds)

    def output_groups(self, layer: str) -> tuple[ChannelGroup, ...]:
        """The groups that a layer's output channels belong to."""
        axis = self.output_axes.get(layer)
        return tuple(self.groups[number] for number in self.groups_of_axis.get(axis, ())) if axis else ()

    def links_of(self, group: ChannelGroup) -> tuple[ChannelLink, ...]:
        """The links that a group takes part in."""
        return tuple(self.links[number] for number in group.links)

    @cached_property
    def _bundles(self) -> dict[int, frozenset[int]]:
        """By group: the groups that must lose exactly as many channels, through links whose parts are single groups."""
        bundles = {group.number: frozenset({group.number}) for group in self.groups}
        for link in self.links:
            if all(len(part) == 1 for part in link.parts):
                merged = frozenset().union(*(bundles[part[0]] for part in link.parts))
                bundles.update(dict.fromkeys(merged, merged))
        return bundles

    def bundle_of(self, group: ChannelGroup) -> frozenset[int]:
        """The groups that must lose exactly as many channels as this one, itself included."""
        return self._bundles[group.number]

    def linked_system(self, group: ChannelGroup) -> set[int]:
        """All groups that links reach from a group, directly or through others, itself included."""
        system, waiting = {group.number}, [group]
        while waiting:
            for other in self.linked_groups(waiting.pop()):
                if other.number not in system:
                    system.add(other.number)
                    waiting.append(other)
        return system

    def linked_groups(self, group: ChannelGroup) -> Sequence[ChannelGroup]:
        """The other groups that must lose as many channels as this one."""
        numbers = {n for link in self.links_of(group) for part in link.parts for n in part}
        return [self.groups[n] for n in sorted(numbers - {group.number})]


def locked_by_links(groups: list[ChannelGroup], links: Sequence[ChannelLink]) -> list[ChannelGroup]:
    """Lock groups that are linked to a part where nothing can be removed, until no group changes."""
    changed = True
    while changed:
        changed = False
        for link in links:
            if all(any(groups[n].prunable for n in part) for part in link.parts):
                continue
            reason = "must stay as wide as another part, which is locked"
            for number in {n for part in link.parts for n in part if groups[n].prunable}:
                groups[number] = replace(groups[number], lock=Lock(reason, link.operation, link.module, 1))
                changed = True
    return groups
