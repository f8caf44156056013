"""Which channels of which groups are gone: the state that a plan describes, always in the original checkpoint's numbering."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from tui_pruner.core.tracing.coupling_map import ChannelGroup, ChannelLink, CouplingMap, Indices, Member
from tui_pruner.core.tracing.inner_blocks import Dropped, after, inside, outermost
from tui_pruner.core.tracing.labels import Axis
from tui_pruner.domain.errors import PlanError


@dataclass(frozen=True)
class Removal:
    """The removed channels of each group, as sorted places within the group, and the inner blocks that are dropped.

    Groups that lose nothing are not in it, nor blocks that lie in a dropped one.
    """

    places: Mapping[int, Indices]
    dropped: Dropped = frozenset()

    def of(self, group: ChannelGroup) -> Indices:
        """The removed places of a group."""
        return self.places.get(group.number, np.zeros(0, dtype=np.int64))

    def left(self, group: ChannelGroup) -> int:
        """How many channels a group still has."""
        return group.channels - len(self.of(group))

    def remaining(self, group: ChannelGroup) -> Indices:
        """The places of a group that are still there."""
        return np.setdiff1d(np.arange(group.channels), self.of(group), assume_unique=True)

    def together(self, other: Removal) -> Removal:
        """Both at once."""
        merged = dict(self.places)
        for number, places in other.places.items():
            merged[number] = np.union1d(merged.get(number, places), places)
        return Removal(merged, outermost(self.dropped | other.dropped))

    def takes_all(self, coupling: CouplingMap, part: Iterable[int]) -> bool:
        """Whether groups lose all their channels."""
        return all(self.left(coupling.groups[number]) == 0 for number in part)

    def parts_left(self, coupling: CouplingMap, link: ChannelLink) -> list[tuple[int, ...]]:
        """The parts of a link that must stay equally wide: all, but for heads that go as a whole."""
        return [part for part in link.parts if not (link.heads and self.takes_all(coupling, part))]

    def counts(self, coupling: CouplingMap) -> Indices:
        """The number of removed channels by group number."""
        counts = np.zeros(len(coupling.groups), dtype=np.int64)
        for number, places in self.places.items():
            counts[number] = len(places)
        return counts

    def members(self, coupling: CouplingMap) -> Iterable[tuple[Member, Indices]]:
        """Every member that loses something and is not in a dropped block, with the positions on its axis."""
        for number, places in self.places.items():
            for member in coupling.groups[number].members:
                if self.dropped and inside(member.axis.module, self.dropped):
                    continue
                yield member, np.sort(member.indices[places].reshape(-1))

    def stays(self, coupling: CouplingMap) -> dict[Axis, Indices]:
        """For every axis that loses something: the original indices that it keeps."""
        there: dict[Axis, np.ndarray] = {}
        for member, positions in self.members(coupling):
            if member.axis not in there:
                there[member.axis] = np.ones(coupling.sizes[member.axis], dtype=bool)
            there[member.axis][positions] = False
        return {axis: np.flatnonzero(left) for axis, left in there.items()}

    def kept(self, coupling: CouplingMap) -> dict[str, dict[str, list[int]]]:
        """The same as plain data: parameter or buffer -> dimension -> the original indices that it keeps."""
        kept: dict[str, dict[str, list[int]]] = {}
        for axis, indices in self.stays(coupling).items():
            kept.setdefault(axis.parameter, {})[str(axis.dim)] = indices.tolist()
        return kept

    def check(self, coupling: CouplingMap) -> None:
        """Refuse a removal that the model cannot live with.

        Raises:
            PlanError: a locked group, a group that would be empty, linked parts that would differ, or a dropped block that is needed.
        """
        coupling = after(coupling, self.dropped)
        for number, places in self.places.items():
            group = coupling.groups[number]
            if number in coupling.gone:
                continue
            where = group.producers[0].axis.module if group.producers else group.members[0].axis.parameter
            if number == coupling.classes:
                if len(places) >= group.channels:
                    raise PlanError(f"the plan removes all {group.channels} classes; keep at least one")
                continue
            if not group.prunable:
                raise PlanError(f"the plan cuts {where}, which is locked: {group.reason}")
            heads = [link for link in coupling.links_of(group) if link.heads]
            part_goes = heads and all(self.takes_all(coupling, part) for link in heads for part in link.parts if number in part)
            if len(places) >= group.channels and not part_goes:
                raise PlanError(f"the plan removes all {group.channels} channels of {where}; leave at least one")
        for link in (link for link in coupling.links if link.parts):
            parts = self.parts_left(coupling, link)
            if not parts:
                raise PlanError(f"the plan removes all heads of {link.module}; leave at least one")
            totals = [sum(len(self.of(coupling.groups[n])) for n in part) for part in parts]
            if len(set(totals)) > 1:
                raise PlanError(f"the plan removes {totals} channels from parts of {link.module} that must stay equally wide")


NOTHING = Removal({})
