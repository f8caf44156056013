"""Which channels of which groups are removed, in the original checkpoint's numbering, and the links that a removal must obey.

What one part of an axis loses, the others must lose too; where two demands differ, neither is applied.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import cycle

import numpy as np

from tui_pruner.core.tracing.coupling_map import ChannelGroup, ChannelLink, CouplingMap, Indices, Member
from tui_pruner.core.tracing.inner_blocks import Dropped, after, inside, outermost
from tui_pruner.core.tracing.labels import Axis
from tui_pruner.domain.cuts import Request, parse_amount
from tui_pruner.domain.errors import PlanError


@dataclass(frozen=True)
class Removal:
    """The removed channels of each group, as sorted places within the group, and the inner blocks that are dropped.

    Groups that lose nothing are left out, and so are blocks inside a dropped one.
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
        """The places of a group that are left."""
        return np.setdiff1d(np.arange(group.channels), self.of(group), assume_unique=True)

    def together(self, other: Removal) -> Removal:
        """The union of two removals."""
        merged = dict(self.places)
        for number, places in other.places.items():
            merged[number] = np.union1d(merged.get(number, places), places)
        return Removal(merged, outermost(self.dropped | other.dropped))

    def takes_all(self, coupling: CouplingMap, part: Iterable[int]) -> bool:
        """Whether groups lose all their channels."""
        return all(self.left(coupling.groups[number]) == 0 for number in part)

    def parts_left(self, coupling: CouplingMap, link: ChannelLink) -> list[tuple[int, ...]]:
        """The parts of a link that must stay equally wide: all, except heads that are removed as a whole."""
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
        for number, places in self.places.items():
            for member in coupling.groups[number].members:
                if self.dropped and inside(member.axis.module, self.dropped):
                    continue
                left = there.get(member.axis)
                if left is None:
                    left = there[member.axis] = np.ones(coupling.sizes[member.axis], dtype=bool)
                left[member.indices[places].reshape(-1)] = False
        return {axis: np.flatnonzero(left) for axis, left in there.items()}

    def kept(self, coupling: CouplingMap) -> dict[str, dict[str, list[int]]]:
        """The same as plain data: parameter or buffer -> dimension -> the original indices that it keeps."""
        kept: dict[str, dict[str, list[int]]] = {}
        for axis, indices in self.stays(coupling).items():
            kept.setdefault(axis.parameter, {})[str(axis.dim)] = indices.tolist()
        return kept

    def check(self, coupling: CouplingMap) -> None:
        """Refuse a removal that the model does not allow.

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


@dataclass(frozen=True)
class Demand:
    """What one request wants of one group: remove this many more channels."""

    count: int
    layer: str
    request: Request


@dataclass(frozen=True)
class Contradiction:
    """Requests that ask one group, or linked groups, for different widths."""

    group: int
    layers: tuple[str, ...]
    amounts: tuple[str, ...]
    message: str


@dataclass
class DemandSet:
    """The demands collected so far, by group."""

    demands: dict[int, list[Demand]] = field(default_factory=dict)
    contradictions: dict[int, Contradiction] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)

    def add(self, group: ChannelGroup, demand: Demand) -> None:
        """Add a demand."""
        self.demands.setdefault(group.number, []).append(demand)

    def count(self, group: ChannelGroup) -> int:
        """How many channels a group is asked to lose so far."""
        return self.demands[group.number][0].count if group.number in self.demands else 0


def apply_links(coupling: CouplingMap, base: Removal, demand_set: DemandSet, some: Iterable[ChannelLink] | None = None) -> None:
    """Extend demands to linked parts until every link, or each of `some`, is satisfied; links between single groups come first."""
    links = sorted(coupling.links if some is None else some, key=lambda link: max((len(part) for part in link.parts), default=0))
    while any(balance(coupling, link, base, demand_set) for link in links):
        pass


def balance(coupling: CouplingMap, link: ChannelLink, base: Removal, demand_set: DemandSet) -> bool:
    """Demand from each part of a link what the most demanded part loses; whether that added a demand."""
    parts = [[coupling.groups[n] for n in part] for part in link.parts]
    parts = [part for part in parts if not (link.heads and all(demand_set.count(group) >= base.left(group) for group in part))]
    totals = [sum(demand_set.count(group) for group in part) for part in parts]
    if len(set(totals)) < 2 or any(group.number in demand_set.contradictions for part in parts for group in part):
        return False
    source = max(range(len(parts)), key=totals.__getitem__)
    origin = next(demand_set.demands[group.number][0] for group in parts[source] if group.number in demand_set.demands)
    reached = False
    for part, total in zip(parts, totals, strict=True):
        waiting = [group for group in part if group.prunable and group.number not in demand_set.demands and base.left(group)]
        counts = spread(coupling, totals[source] - total, waiting, [base.left(group) for group in waiting])
        others = [demand_set.demands[group.number][0] for group in part if group.number in demand_set.demands]
        if counts is None and same_share([origin, *others]) and raise_part(coupling, part, totals[source], origin, base, demand_set):
            reached = True
            continue
        if counts is None:
            contradict(coupling, demand_set, parts[source][0].number, [origin, *others])
            return False
        if totals[source] > total:
            for group, count in zip(waiting, counts, strict=True):
                demand_set.add(group, Demand(count, origin.layer, origin.request))
                reached = True
    return reached


def same_share(demands: Sequence[Demand]) -> bool:
    """Whether demands ask for the same share, so that they differ only by rounding to whole channels."""
    shares = {parse_amount(demand.request.amount).remove for demand in demands}
    return len(shares) == 1 and None not in shares


def raise_part(
    coupling: CouplingMap, part: Sequence[ChannelGroup], total: int, origin: Demand, base: Removal, demand_set: DemandSet
) -> bool:
    """Let a part lose as many channels in all as another one does; False where its groups cannot share them."""
    groups = [group for group in part if group.prunable and base.left(group)]
    counts = spread(coupling, total, groups, [base.left(group) for group in groups])
    if counts is None:
        return False
    for group, count in zip(groups, counts, strict=True):
        demands = demand_set.demands.get(group.number, [origin])
        demand_set.notes += [
            f"{demand.layer}: removes {count} instead of {demand.count} channels, as many as what is linked to it"
            for demand in demands
            if demand.count != count
        ]
        demand_set.demands[group.number] = [replace(demand, count=count) for demand in demands]
    return True


def spread(coupling: CouplingMap, total: int, groups: Sequence[ChannelGroup], widths: Sequence[int]) -> list[int] | None:
    """Divide a number among groups in proportion to their widths, equally within a bundle; None where that is impossible."""
    bundles: dict[frozenset[int], list[int]] = {}
    for place, group in enumerate(groups):
        bundles.setdefault(coupling.bundle_of(group), []).append(place)
    counts = [0] * len(groups)
    exact = {bundle: total * sum(widths[p] for p in places) / max(1, sum(widths)) / len(places) for bundle, places in bundles.items()}
    left = total
    for bundle, places in bundles.items():
        for place in places:
            counts[place] = int(exact[bundle])
        left -= len(places) * int(exact[bundle])
    for bundle in sorted(bundles, key=lambda bundle: int(exact[bundle]) - exact[bundle]):
        if len(bundles[bundle]) <= left:
            for place in bundles[bundle]:
                counts[place] += 1
            left -= len(bundles[bundle])
    fits = all(count < width for count, width in zip(counts, widths, strict=True))
    return counts if left == 0 and fits else None


def unit_of(coupling: CouplingMap, group: ChannelGroup) -> int:
    """What a group's count must be a multiple of, so that the equal groups of a linked part (attention heads) can share it."""
    mine, unit = coupling.bundle_of(group), 1
    for link in {link.number: link for n in mine for link in coupling.links_of(coupling.groups[n])}.values():
        own = max(len(mine.intersection(part)) for part in link.parts)
        for part in link.parts:
            if not mine.intersection(part) and len({coupling.bundle_of(coupling.groups[n]) for n in part}) == 1:
                unit = math.lcm(unit, len(part) // math.gcd(len(part), own))
    return unit


def demand_share(coupling: CouplingMap, group: ChannelGroup, ratio: float, demand_set: DemandSet) -> None:
    """Demand a share of a group's channels, at least one unit of what its links require, and extend it over the links."""
    name, unit = group.producers[0].axis.module, unit_of(coupling, group)
    count = min(max(1, round(group.channels * ratio / unit)), (group.channels - 1) // unit) * unit
    if count:
        demand_set.add(group, Demand(count, name, Request(name, f"{ratio:.0%}")))
        mine = {link for member in coupling.linked_system(group) for link in coupling.groups[member].links}
        apply_links(coupling, NOTHING, demand_set, [coupling.links[number] for number in sorted(mine)])


def counts(coupling: CouplingMap, groups: Sequence[ChannelGroup], shares: Sequence[float]) -> dict[int, int]:
    """How many channels each of these groups, and each group linked to it, can lose at these shares by turns, or at less where links ask
    for it."""
    demand_set, turns = DemandSet(), cycle(shares)
    for group in groups:
        if group.number not in demand_set.demands:
            demand_share(coupling, group, next(turns), demand_set)
    found = possible(coupling, demand_set)
    for group in groups:
        share = shares[0]
        while group.number in demand_set.contradictions and group.number not in found and share * group.channels > 1:
            share /= 2  # of a larger group it may be more than a smaller one has that is linked to it
            fewer = DemandSet()
            demand_share(coupling, group, share, fewer)
            found |= possible(coupling, fewer)
    return found


def possible(coupling: CouplingMap, demand_set: DemandSet) -> dict[int, int]:
    """How many channels groups lose by the demands on them that can be met."""
    free = {n: demands[0].count for n, demands in demand_set.demands.items() if n not in demand_set.contradictions}
    return {n: count for n, count in free.items() if 0 < count < coupling.groups[n].channels}


def contradict(coupling: CouplingMap, demand_set: DemandSet, number: int, demands: Sequence[Demand]) -> None:
    """Record that demands on a group differ, for the group and everything linked to it."""
    named = {demand.layer: demand for demand in demands}
    amounts = dict.fromkeys(demand.request.amount for demand in demands)
    words = " and ".join(f"{layer} ({demand.request.amount})" for layer, demand in named.items())
    if len(named) > 1:
        message = f"{words} share coupled channels but ask for different widths: give them the same amount, or cut only one"
    elif len(amounts) > 1:
        message = f"{demands[0].layer} is asked for {' and for '.join(amounts)}: give one amount"
    else:
        message = f"{words} cannot be shared out evenly among the layers that are linked to it: ask for another amount"
    found = Contradiction(number, tuple(named), tuple(d.request.amount for d in named.values()), message)
    for member in coupling.linked_system(coupling.groups[number]):
        demand_set.contradictions.setdefault(member, found)
