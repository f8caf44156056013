"""Whole plans that compete for a target, each cut and refitted on images: no way of pricing is right on all models.

Measured on a COCO-trained and on a digits model, the ways to price that shine on one are far behind on the other. So several ways plan, the
uniform cut always among them, and the plan whose refitted network is closest to the original on held-out images is taken.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import nn

from tui_pruner.core.budget.costs import Sensitivity, by_importance
from tui_pruner.core.budget.damages import DamageCurves
from tui_pruner.core.budget.descent import Landing, Pricing
from tui_pruner.core.budget.knapsack import Knapsack
from tui_pruner.core.budget.planning import Budget, Planner, Search
from tui_pruner.core.budget.quickening import Measure, Quickening
from tui_pruner.core.budget.targets import LATENCY, Goal, Target, latency_apart
from tui_pruner.core.budget.uniform import uniform
from tui_pruner.core.classes import without_classes
from tui_pruner.core.inputs import Given
from tui_pruner.core.plan import removal_of_step
from tui_pruner.core.recovery.disagreement import Original
from tui_pruner.core.recovery.reconstruction import Settings, reconstruct
from tui_pruner.core.removal import Removal
from tui_pruner.core.surgery import by_tensor, cut

UNIFORM, IMPORTANCE, SCAN, DAMAGE, KNAPSACK, DEPTH = "uniform", "importance", "scan", "damage", "knapsack", "depth"
NO_OTHERS: Mapping[str, Budget] = {}


@dataclass(frozen=True)
class Rival:
    """A whole plan for a target, by the name of the way that found it."""

    name: str
    budget: Budget
    removal: Removal


@dataclass(frozen=True)
class Tried:
    """A rival that was cut and refitted: its distance from the original's outputs on held-out images, as cut and refitted.

    `outputs` has the latter for each output of the task; `model` is the refitted network.
    """

    rival: Rival
    distance_cut: float
    distance: float
    outputs: Mapping[str, float]
    model: nn.Module


def ways(planner: Planner, criterion: str, damage: DamageCurves | None, scan: Sensitivity | None) -> dict[str, Search]:
    """The ways to plan, by name: those by measured damage where all that can be cut was measured."""
    found: dict[str, Search] = {UNIFORM: evenly, IMPORTANCE: descending(by_importance(planner.analysis, planner.base, criterion))}
    scanned = planner.priced_by(scan, criterion)
    if scanned is not None:
        found[SCAN] = descending(scanned)
    if damage is not None and damage.covers(planner.ladders.ladders):
        found[DAMAGE] = descending(damage.pricing)
        found[KNAPSACK] = packing(damage)
    return found


def evenly(planner: Planner, goals: Sequence[Goal]) -> Landing:
    """One share of everything."""
    return uniform(planner.arithmetic, planner.base, planner.ladders.ladders, goals)


def descending(pricing: Pricing) -> Search:
    """Always the cheapest rung."""
    return lambda planner, goals: planner.descend(goals, pricing)


def packing(damage: DamageCurves) -> Search:
    """All ladders at once, from where the cheapest rungs lead."""

    def search(planner: Planner, goals: Sequence[Goal]) -> Landing:
        start = planner.descend(goals, damage.pricing)
        return Knapsack(planner.arithmetic, planner.base, planner.ladders.ladders, damage, goals, start).run() if start.met else start

    return search


def rivals(
    planner: Planner,
    targets: Sequence[Target],
    criterion: str,
    searches: Mapping[str, Search],
    others: Mapping[str, Budget] = NO_OTHERS,
    clock: Measure | None = None,
) -> tuple[list[Rival], Budget]:
    """The different plans that meet targets, `others` that were made elsewhere among them, and the budget that says why there is none.

    A latency among the targets needs a `clock`.

    Raises:
        RequestError: the checkpoint has no more than that already, or no such criterion.
    """
    found: list[Rival] = []
    best: Budget | None = None
    budgets = ((name, planned(planner, targets, criterion, search, clock)) for name, search in searches.items())
    for name, budget in (*budgets, *others.items()):
        if budget.step is None:
            best = best or budget
            continue
        removal = planner.base.together(removal_of_step(budget.step, planner.analysis.coupling))
        if all(not same(removal, rival.removal) for rival in found):
            found.append(Rival(name, budget, removal))
    return found, found[0].budget if found else best or Budget(None, planner.original, {})


def planned(planner: Planner, targets: Sequence[Target], criterion: str, search: Search, clock: Measure | None) -> Budget:
    """One way's plan: by arithmetic, or by timing networks where one of the targets is a latency, whose share is among the others then."""
    others, share = latency_apart(targets)
    if share is None or clock is None:
        return planner.plan(targets, criterion, search=search)
    found = Quickening(planner, share, clock, others, criterion, search=search).run()
    return replace(found.budget, shares={**found.budget.shares, LATENCY: found.latency.median})


def same(left: Removal, right: Removal) -> bool:
    """Whether two removals take the same channels and blocks."""
    return (
        left.dropped == right.dropped
        and left.places.keys() == right.places.keys()
        and all(
            len(places) == len(right.places[number]) and bool((places == right.places[number]).all())
            for number, places in left.places.items()
        )
    )


@dataclass(frozen=True)
class Ring:
    """Where rivals meet: the original, with the classes that are left, on its device, the images to refit on and to judge by."""

    planner: Planner
    original: nn.Module
    batches: Sequence[Given]
    held_out: Sequence[Given]
    judge: Original
    frozen: frozenset[str] = frozenset()
    settings: Settings | None = None

    def tried(self, rivals: Sequence[Rival], on_rival: Callable[[Rival], None] = lambda rival: None) -> Iterator[Tried]:
        """Cut and refit each rival, one after the other."""
        coupling = self.planner.analysis.coupling
        device = next(self.original.parameters()).device
        for rival in rivals:
            on_rival(rival)
            with torch.no_grad():
                pruned = cut(self.original, coupling, removal := without_classes(coupling, rival.removal)).to(device)
            kept = by_tensor(removal.stays(coupling))
            fitted = reconstruct(
                self.original, pruned, kept, self.batches, self.held_out, frozen=self.frozen, settings=self.settings
            ).model  # fmt: skip
            outputs = self.judge.distance(fitted)
            yield Tried(rival, mean(self.judge.distance(pruned)), mean(outputs), outputs, fitted)


def mean(outputs: Mapping[str, float]) -> float:
    """One figure of several outputs' distances."""
    return sum(outputs.values()) / max(len(outputs), 1)
