"""What can be cut of a model: the coupling map as plain data, and a trial that cuts and proves every group alone."""

from __future__ import annotations

import gc
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from copy import copy
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from torch import nn

from tui_pruner.core.model.analysis import Analysis
from tui_pruner.core.pruning.explain import status_of
from tui_pruner.core.pruning.proof import prove
from tui_pruner.core.pruning.removal import NOTHING, DemandSet, Removal, demand_share
from tui_pruner.core.pruning.resolve import choose
from tui_pruner.core.pruning.surgery import cut
from tui_pruner.core.pruning.twin import Original
from tui_pruner.core.tracing.coupling_map import ChannelGroup, CouplingMap
from tui_pruner.domain.errors import PrunerError


def coupling_report(analysis: Analysis) -> dict[str, Any]:
    """Groups with their members, links and locks; how many convolutions are free, coupled, linked, locked; operations without a rule."""
    coupling, names = analysis.coupling, analysis.short_names
    statuses = Counter(
        status_of(coupling, layer, names).status
        for layer in analysis.layers.values()
        if isinstance(analysis.skeleton.get_submodule(layer.path), nn.modules.conv._ConvNd)
    )
    return {
        "groups": [group_report(analysis, group, names) for group in coupling.groups],
        "droppable": [
            {"block": block.path, "type": block.type, "adds_to_its_input": bool(block.silenced)} for block in coupling.inner.values()
        ],
        "links": [
            {"id": link.number, "operation": link.operation, "module": link.module, "parts": [list(part) for part in link.parts]}
            for link in coupling.links
        ],
        "convolutions": {
            "total": sum(statuses.values()),
            **{status: statuses[status] for status in ("free", "coupled", "linked", "locked")},
        },
        "unknown_operations": dict(coupling.unknown_operations),
        "operations": coupling.operations,
        "seconds": coupling.seconds,
    }


def group_report(analysis: Analysis, group: ChannelGroup, names: dict[str, str]) -> dict[str, Any]:
    """One group as plain data: `channels` of a member are the indices on its dimension."""
    lock = group.lock
    return {
        "id": group.number,
        "channels": group.channels,
        "prunable": group.prunable,
        "reason": group.reason,
        "lock": {"reason": lock.reason, "operation": lock.operation, "module": lock.module, "dim": lock.dim} if lock else None,
        "linked": [other.number for other in analysis.coupling.linked_groups(group)],
        "members": [
            {
                "layer": layer_of(member.axis.module, names),
                "parameter": member.axis.parameter,
                "dim": member.axis.dim,
                "role": "out" if member.produces and member.role == "depthwise" else member.role or "unused",
                "channels": sorted(int(index) for index in member.indices.reshape(-1)),
            }
            for member in group.members
        ],
    }


def layer_of(module: str, names: dict[str, str]) -> str:
    """The layer that a parameter's module belongs to: the module itself, or the Conv block around a norm."""
    if module in names:
        return names[module]
    parent = module.rpartition(".")[0]
    return parent if parent in names.values() else module


RATIO = 0.25
LEAST, MOST = 0.05, 0.60
PLANS = 3


@dataclass(frozen=True)
class CoverageOutcome:
    """The result of a cut, "equal", "approximate", "failed" or "locked", with its figures or the reason."""

    outcome: str
    detail: str


@dataclass(frozen=True)
class CoverageTrial(CoverageOutcome):
    """One group cut alone."""

    group: ChannelGroup


@dataclass(frozen=True)
class PlanTrial(CoverageOutcome):
    """All groups cut at once, each by a ratio of its own: how many were cut, and how many prunable ones stayed whole."""

    seed: int
    cut: int
    whole: int


def removal_of_one(analysis: Analysis, group: ChannelGroup) -> Removal:
    """A share of a group's channels, the least important, and the same of every linked group."""
    demand_set = DemandSet()
    demand_share(analysis.coupling, group, RATIO, demand_set)
    groups = analysis.coupling.groups
    return Removal({number: choose(analysis, groups[number], demands[0], NOTHING) for number, demands in demand_set.demands.items()})


def random_removal(coupling: CouplingMap, seed: int) -> Removal:
    """Random channels of every group at once, each group by a random ratio.

    Where the links of a group leave no room for its own demand, it takes what the demands of others give it, or stays whole.
    """
    generator = np.random.default_rng(seed)
    demand_set = DemandSet()
    free = [group for group in coupling.groups if group.prunable]
    for place in generator.permutation(len(free)):
        if free[place].number not in demand_set.demands:
            wider = DemandSet(demands=copy(demand_set.demands))
            demand_share(coupling, free[place], generator.uniform(LEAST, MOST), wider)
            demand_set = demand_set if wider.contradictions else wider
    counts = {number: demands[0].count for number, demands in demand_set.demands.items()}
    return Removal(
        {n: np.sort(generator.choice(coupling.groups[n].channels, count, replace=False)) for n, count in counts.items() if count > 0}
    )


@dataclass
class Coverage:
    """The trials of one model; the original runs once for all of them."""

    analysis: Analysis
    original: Original = field(init=False)

    def __post_init__(self) -> None:
        self.original = Original(self.analysis.checkpoint.model)

    def trials(self) -> Iterator[CoverageTrial]:
        """Try every group that a layer produces."""
        for group in self.analysis.coupling.groups:
            if group.producers:
                found = self.alone(group) if group.prunable else CoverageOutcome("locked", group.reason)
                yield CoverageTrial(found.outcome, found.detail, group)

    def plans(self, count: int = PLANS) -> Iterator[PlanTrial]:
        """Cut all groups at once, `count` times, with seeds from 0."""
        free = sum(group.prunable for group in self.analysis.coupling.groups)
        for seed in range(count):
            removal = random_removal(self.analysis.coupling, seed)
            found = self.proved(removal)
            yield PlanTrial(found.outcome, found.detail, seed, len(removal.places), free - len(removal.places))

    def alone(self, group: ChannelGroup) -> CoverageOutcome:
        """Cut one group."""
        try:
            removal = removal_of_one(self.analysis, group)
        except (PrunerError, RuntimeError, ValueError, IndexError, TypeError) as error:
            return CoverageOutcome("failed", error_line(error))
        return self.proved(removal)

    def proved(self, removal: Removal) -> CoverageOutcome:
        """Cut and compare with the masked twin."""
        model, coupling = self.analysis.checkpoint.model, self.analysis.coupling
        try:
            proof = prove(model, cut(model, coupling, removal), coupling, removal, original=self.original)
        except (PrunerError, RuntimeError, ValueError, IndexError, TypeError, AttributeError) as error:
            return CoverageOutcome("failed", error_line(error))
        figure = f"relative difference {proof.relative_difference:.1e}, effect {proof.effect:.1e}"
        if not proof.holds:
            return CoverageOutcome("failed", proof.failure or figure)
        return CoverageOutcome("approximate" if proof.approximate else "equal", figure)


def error_line(error: Exception) -> str:
    """An error's kind and first line."""
    return f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"


@contextmanager
def garbage_collection_paused() -> Iterator[None]:
    """Keep the garbage collector from walking what exists already, which saves a third of the time with a thousand modules in memory."""
    spared = gc.get_freeze_count()
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        if not spared:  # else it would look through what the caller spares it, too
            gc.unfreeze()
