"""Ladders: all permitted widths of groups that are cut together, widest first."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from tui_pruner.core.model.analysis import Analysis
from tui_pruner.core.pruning.removal import Demand, DemandSet, Removal, apply_links, unit_of
from tui_pruner.core.pruning.resolve import match_layers
from tui_pruner.core.tracing.coupling_map import ChannelGroup, CouplingMap, Indices
from tui_pruner.domain.cuts import Request
from tui_pruner.domain.errors import RequestError

FLOOR = 0.25
TOLERANCE = 0.01
"""How far below its goal a plan may end, as a share of the goal."""


@dataclass(frozen=True)
class Rules:
    """Rules for every plan: `floor` is the share of each group's channels that stays, `protected` are layers as cuts name them.

    `tolerance` is how far below its goal a plan may end, as a share of the goal.
    """

    floor: float = FLOOR
    round_to: int = 1
    protected: tuple[str, ...] = ()
    tolerance: float = TOLERANCE

    def __post_init__(self) -> None:
        if not 0 <= self.floor < 1:
            raise RequestError(f"the floor {self.floor:g} is not a share of a layer that can stay: give 0 to 0.99, such as 0.25")
        if self.round_to < 1:
            raise RequestError(f"--round-to {self.round_to} makes no sense: give 1 or more")


@dataclass(frozen=True)
class Ladder:
    """Groups that must be cut together; `rungs` is [rungs, groups], how many channels each group has lost there: none at the first."""

    groups: tuple[int, ...]
    rungs: Indices

    @property
    def last(self) -> int:
        """The number of the lowest rung."""
        return len(self.rungs) - 1


@dataclass(frozen=True)
class Ladders:
    """All ladders of a model with more than one rung, and how many groups cannot be cut, by the reason."""

    ladders: tuple[Ladder, ...]
    staying: dict[str, int]


def ladders_of(analysis: Analysis, base: Removal, rules: Rules) -> Ladders:
    """The ladders below what is removed already.

    Raises:
        RequestError: a protected layer that this model does not have.
    """
    coupling, shielded = analysis.coupling, protected_layers(analysis, rules)
    found: list[Ladder] = []
    staying = Counter({"locked": sum(not group.prunable for group in coupling.groups)})
    for system in systems_of(coupling, base):
        if any(producer.axis.module in shielded for group in system for producer in group.producers):
            staying["protected"] += len(system)
            continue
        ladder = ladder_of(coupling, system, base, rules)
        if ladder.last:
            found.append(ladder)
        else:
            staying["at their least width"] += len(system)
    return Ladders(tuple(found), {reason: count for reason, count in staying.items() if count})


def protected_layers(analysis: Analysis, rules: Rules) -> set[str]:
    """The paths of the protected layers."""
    return {layer.path for name in rules.protected for layer in match_layers(name, analysis.layers, analysis.sections).layers}


def systems_of(coupling: CouplingMap, base: Removal) -> Iterator[list[ChannelGroup]]:
    """Groups that are linked, directly or through others, and still have channels to lose."""
    seen: set[int] = set()
    for group in coupling.groups:
        if group.prunable and group.number not in seen:
            system = coupling.linked_system(group)
            seen |= system
            alive = [coupling.groups[n] for n in sorted(system) if coupling.groups[n].prunable and base.left(coupling.groups[n]) > 1]
            if alive:
                yield alive


def ladder_of(coupling: CouplingMap, system: Sequence[ChannelGroup], base: Removal, rules: Rules) -> Ladder:
    """The widths that linked groups may have under the rules."""

    def fits(group: ChannelGroup, lost: int) -> bool:
        left = base.left(group) - lost
        return lost == 0 or (left % rules.round_to == 0 and left >= max(1, rules.floor * group.channels))

    numbers = tuple(group.number for group in system)
    rungs = [np.zeros(len(system), dtype=np.int64)]
    for counts in descending(coupling, system, base):
        rung = np.array([counts.get(number, 0) for number in numbers], dtype=np.int64)
        lower = bool((rung >= rungs[-1]).all() and (rung > rungs[-1]).any())
        if lower and all(fits(group, int(lost)) for group, lost in zip(system, rung, strict=True)):
            rungs.append(rung)
    return Ladder(numbers, np.stack(rungs))


def descending(coupling: CouplingMap, system: Sequence[ChannelGroup], base: Removal) -> Iterator[dict[int, int]]:
    """How many channels each group of a system loses, for increasing shares."""
    if {group.number for group in system} <= coupling.bundle_of(system[0]):  # all lose the same
        for count in range(1, base.left(system[0])):
            yield {group.number: count for group in system}
        return
    widest = max(base.left(group) for group in system)
    for place in range(1, widest):
        counts = same_share(coupling, system, place / widest, base)
        if counts:
            yield counts


def same_share(coupling: CouplingMap, system: Sequence[ChannelGroup], share: float, base: Removal) -> dict[int, int]:
    """The channels that the groups of a system lose at one common share, as their links allow; empty where they do not."""
    demand_set, request = DemandSet(), Request("", f"{share:.9f}")
    for group in system:
        unit, left = unit_of(coupling, group), base.left(group)
        count = min(round(left * share / unit), (left - 1) // unit) * unit
        if count:
            demand_set.add(group, Demand(count, "", request))
    apply_links(coupling, base, demand_set)
    if demand_set.contradictions or any(len({demand.count for demand in demands}) > 1 for demands in demand_set.demands.values()):
        return {}
    return {number: demands[0].count for number, demands in demand_set.demands.items()}
