"""Plans that compete for a target, each cut and refitted on images; one of them chooses rungs as a knapsack problem."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import Bounds, LinearConstraint, milp
from scipy.sparse import coo_array, csr_array, hstack, vstack
from torch import nn

from tui_pruner.core.model.inputs import Given
from tui_pruner.core.pruning.classes import without_classes
from tui_pruner.core.pruning.plan import removal_of_step
from tui_pruner.core.pruning.preview import Arithmetic, Widths
from tui_pruner.core.pruning.removal import Removal
from tui_pruner.core.pruning.surgery import by_tensor, cut
from tui_pruner.core.recovery.disagreement import OriginalPredictions, mean
from tui_pruner.core.recovery.reconstruction import RefitSettings, reconstruct
from tui_pruner.core.search.ladders import Ladder
from tui_pruner.core.search.measured_damage import DamageCurves
from tui_pruner.core.search.planner import Budget, LatencySearch, Measure, Planner, Search
from tui_pruner.core.search.sensitivity import Sensitivity, by_importance
from tui_pruner.core.search.targets import DescentEnd, Goal, Pricing, Target, latency_apart, shares_left, uniform
from tui_pruner.domain.cuts import LATENCY

ROUNDS = 4
RUNGS = 10
"""How many rungs of each ladder are considered, at most."""
NODES = 200
"""Nodes of the search tree, at most: with a time limit the plan would depend on how busy the machine is."""
GAP = 1e-2
SUM = 1e-3
"""Weight of the sum of all damages beside the worst output's, so that outputs which do not decide are spared too."""


class Knapsack:
    """The search over all ladders at once, starting from a solution that meets the goals."""

    def __init__(
        self,
        arithmetic: Arithmetic,
        base: Removal,
        ladders: Sequence[Ladder],
        damage: DamageCurves,
        goals: Sequence[Goal],
        start: DescentEnd,
    ) -> None:
        self._arithmetic, self._ladders, self._goals, self._start = arithmetic, ladders, goals, start
        self._base = base.counts(arithmetic.analysis.coupling)
        lost = start.widths.counts - self._base
        self._choices = [considered(ladder, int(lost[list(ladder.groups)].sum())) for ladder in ladders]
        self._outputs = sorted(damage.curves[ladders[0].groups])
        self._costs = np.array(
            [
                np.concatenate([damage.curves[ladder.groups][name][rungs] for ladder, rungs in zip(ladders, self._choices, strict=True)])
                for name in self._outputs
            ]
        )
        self._owner = np.repeat(np.arange(len(ladders)), [len(rungs) for rungs in self._choices])

    def run(self) -> DescentEnd:
        """Return the best solution that meets the goals; the start, if none is better."""
        at = self._nearest(self._start.widths)
        best, least = self._start, self._worst(at) if self._start.met else np.inf
        slack = np.zeros(len(self._goals))
        for _ in range(ROUNDS):
            found = self._solved(at, slack)
            if found is None:
                break
            widths, worst = self._widths(found), self._worst(found)
            over = np.array([self._share(widths, goal) - goal.share for goal in self._goals])
            if (over <= 0).all() and worst < least:
                best, least = DescentEnd(widths, True, False), worst
            if (found == at).all() and (over <= 0).all():
                break
            slack = slack + over  # the error of the sums around the last solution
            at = found
        return best

    def _solved(self, at: NDArray[np.int64], slack: NDArray[np.float64]) -> NDArray[np.int64] | None:
        """The choice for each ladder with sizes linearised around `at`; None where HiGHS finds none."""
        count = len(self._owner)
        one_each = csr_array((np.ones(count), (self._owner, np.arange(count))), shape=(len(self._ladders), count))
        here = self._widths(at)
        savings = self._savings(at, here)
        limits = [goal.share - self._share(here, goal) - extra for goal, extra in zip(self._goals, slack, strict=True)]
        scale = max(float(self._costs.max()), 1e-12)
        damages = hstack([csr_array(self._costs / scale), coo_array(-np.ones((len(self._outputs), 1)))])
        rows = vstack(
            [hstack([one_each, csr_array((len(self._ladders), 1))]), hstack([csr_array(savings), csr_array((len(limits), 1))]), damages]
        )
        low = np.concatenate([np.ones(len(self._ladders)), np.full(len(limits) + len(self._outputs), -np.inf)])
        high = np.concatenate([np.ones(len(self._ladders)), limits, np.zeros(len(self._outputs))])
        result = milp(
            np.append(SUM * self._costs.sum(0) / scale, 1.0),
            constraints=LinearConstraint(rows.tocsr(), low, high),
            integrality=np.append(np.ones(count), 0),
            bounds=Bounds(np.zeros(count + 1), np.append(np.ones(count), np.inf)),
            options={"node_limit": NODES, "mip_rel_gap": GAP},
        )
        if result.x is None:
            return None
        chosen = np.zeros(len(self._ladders), dtype=np.int64)
        firsts = np.searchsorted(self._owner, np.arange(len(self._ladders)))
        for number, first in enumerate(firsts):
            chosen[number] = int(np.argmax(result.x[first : first + len(self._choices[number])]))
        return chosen

    def _savings(self, at: NDArray[np.int64], here: Widths) -> NDArray[np.float64]:
        """[goals, choices]: how the remaining shares change where one ladder takes another rung than in `at`."""
        found = np.zeros((len(self._goals), len(self._owner)))
        column = 0
        for number, rungs in enumerate(self._choices):
            for choice in range(len(rungs)):
                other = at.copy()
                other[number] = choice
                widths = here if choice == at[number] else self._changed(here, number, at[number], choice)
                found[:, column] = [self._share(widths, goal) - self._share(here, goal) for goal in self._goals]
                column += 1
        return found

    def _changed(self, here: Widths, number: int, old: int, new: int) -> Widths:
        ladder = self._ladders[number]
        return here.losing(ladder.groups, ladder.rungs[self._choices[number][new]] - ladder.rungs[self._choices[number][old]])

    def _widths(self, chosen: NDArray[np.int64]) -> Widths:
        counts = self._base.copy()
        for ladder, rungs, choice in zip(self._ladders, self._choices, chosen, strict=True):
            counts[list(ladder.groups)] += ladder.rungs[rungs[choice]]
        return self._arithmetic.widths_at(counts, self._start.widths.dropped)

    def _nearest(self, widths: Widths) -> NDArray[np.int64]:
        """The considered rung of each ladder that is nearest to these widths."""
        lost = widths.counts - self._base
        return np.array(
            [
                int(np.argmin(np.abs(ladder.rungs[rungs].sum(1) - lost[list(ladder.groups)].sum())))
                for ladder, rungs in zip(self._ladders, self._choices, strict=True)
            ]
        )

    def _worst(self, chosen: NDArray[np.int64]) -> float:
        """The objective: the worst output's damage, plus a small multiple of the sum over outputs."""
        firsts = np.searchsorted(self._owner, np.arange(len(self._ladders)))
        totals = self._costs[:, firsts + chosen].sum(1)
        return float(totals.max() + SUM * totals.sum())

    def _share(self, widths: Widths, goal: Goal) -> float:
        return shares_left(widths.size, self._arithmetic.whole.size)[goal.measure]


def considered(ladder: Ladder, lost: int) -> NDArray[np.int64]:
    """The rungs to choose from: all, or evenly spaced ones, with the one where this many channels are lost."""
    start = int(np.argmin(np.abs(ladder.rungs.sum(1) - lost)))
    return np.unique([*np.linspace(0, ladder.last, min(RUNGS, ladder.last + 1)).round().astype(np.int64), start])


UNIFORM, IMPORTANCE, SCAN, DAMAGE, KNAPSACK, DEPTH, RESPONSE = "uniform", "importance", "scan", "damage", "knapsack", "depth", "response"
NO_OTHERS: Mapping[str, Budget] = {}


@dataclass(frozen=True)
class Rival:
    """A plan for a target, with the name of the way that found it."""

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


def planning_methods(planner: Planner, criterion: str, damage: DamageCurves | None, scan: Sensitivity | None) -> dict[str, Search]:
    """The ways to plan, by name; those by measured damage only where everything that can be cut was measured."""
    found: dict[str, Search] = {UNIFORM: uniform_search, IMPORTANCE: descending(by_importance(planner.analysis, planner.base, criterion))}
    scanned = planner.priced_by(scan, criterion)
    if scanned is not None:
        found[SCAN] = descending(scanned)
    if damage is not None and damage.covers(planner.ladders.ladders):
        found[DAMAGE] = descending(damage.pricing)
        found[KNAPSACK] = knapsack_search(damage)
    return found


def uniform_search(planner: Planner, goals: Sequence[Goal]) -> DescentEnd:
    """Search with one share for all ladders."""
    return uniform(planner.arithmetic, planner.base, planner.ladders.ladders, goals)


def descending(pricing: Pricing) -> Search:
    """Search that always takes the cheapest rung."""
    return lambda planner, goals: planner.descend(goals, pricing)


def knapsack_search(damage: DamageCurves) -> Search:
    """Search over all ladders at once, starting where the cheapest rungs lead."""

    def search(planner: Planner, goals: Sequence[Goal]) -> DescentEnd:
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
    """The different plans that meet targets, `others` from elsewhere included, and the budget that says why there is none.

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
    """Return one way's plan: by arithmetic, or with a latency target by timing networks, with the latency's share."""
    others, share = latency_apart(targets)
    if share is None or clock is None:
        return planner.plan(targets, criterion, search=search)
    found = LatencySearch(planner, share, clock, others, criterion, search=search).run()
    return replace(found.budget, shares={**found.budget.shares, LATENCY: found.latency.median})


def same(left: Removal, right: Removal) -> bool:
    """Whether two removals have the same channels and blocks."""
    return (
        left.dropped == right.dropped
        and left.places.keys() == right.places.keys()
        and all(
            len(places) == len(right.places[number]) and bool((places == right.places[number]).all())
            for number, places in left.places.items()
        )
    )


@dataclass(frozen=True)
class RivalComparison:
    """The basis for comparing rivals: the original with the remaining classes, images to refit on, and held-out images."""

    planner: Planner
    original: nn.Module
    batches: Sequence[Given]
    held_out: Sequence[Given]
    judge: OriginalPredictions
    frozen: frozenset[str] = frozenset()
    settings: RefitSettings | None = None

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


AS_CLOSE = 0.05
"""Distances within this share of each other say little: on digits at 25 % of the FLOPs 0.084 (class 0.070, box 0.098) was mAP50-95 0.79 on
the training images, 0.085 (0.094, 0.075) was 0.83.
"""


def ranked(tried: Sequence[Tried]) -> list[Tried]:
    """Order the plans: the best first, the others by their distances.

    The first is the closest; of plans about as close, but no farther than the uniform plan, it is the one whose worst output is best.
    """
    found = sorted(tried, key=lambda one: one.distance)
    if not found:
        return []
    limit = min([(1 + AS_CLOSE) * found[0].distance, *(one.distance for one in found if one.rival.name == UNIFORM)])
    close = [one for one in found if one.distance <= limit]
    best = min(close, key=lambda one: max(one.outputs.values(), default=one.distance))
    return [best, *(other for other in found if other is not best)]
