"""Whole inner blocks for a target: the least damaging ones go first, widths do the rest, and arithmetic finds how many are worth it.

What a block costs is measured as what a width costs is: the distance of the predictions with the block at zero. Blocks that add nothing to
their input are left alone, since the channels that they read and write would have to stay whole.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from tui_pruner.core.budget.damages import DamageCurves
from tui_pruner.core.budget.descent import Costs, Landing, Pricing
from tui_pruner.core.budget.ladders import TOLERANCE, Ladder, protected_layers
from tui_pruner.core.budget.planning import Budget, Planner
from tui_pruner.core.budget.targets import Goal, Target, goals_of, shares_left
from tui_pruner.core.depth import inside
from tui_pruner.core.plan import Cut
from tui_pruner.core.recovery.damage import Damage, Trial
from tui_pruner.core.removal import Removal

MOST_TRIED = 6
"""How many numbers of blocks are planned for, at most: 1, 2, 3, 4 and then ever more at once."""
Outputs = Mapping[str, float]


@dataclass(frozen=True)
class Drops:
    """By block: the squared distance of each output of the task that dropping it alone adds."""

    damages: Mapping[str, Outputs]

    def worst(self, paths: Sequence[str]) -> Outputs:
        """What some of them add together; squares of small damages add up."""
        names = dict.fromkeys(name for path in paths for name in self.damages[path])
        return {name: sum(self.damages[path][name] for path in paths) for name in names}


def droppable(planner: Planner) -> list[str]:
    """The blocks that add to their input, hold no other such block, and are neither gone nor protected."""
    analysis, gone = planner.analysis, planner.base.dropped
    shielded = protected_layers(analysis, planner.rules)
    adding = [path for path, block in analysis.coupling.inner.items() if block.tied and block.silenced and not inside(path, gone)]
    smallest = [path for path in adding if not any(other != path and inside(other, [path]) for other in adding)]
    return [path for path in smallest if not any(inside(layer, [path]) for layer in shielded)]


def drop_trials(planner: Planner) -> Iterator[Trial]:
    """Each block dropped alone on top of what is gone."""
    for path in droppable(planner):
        yield Trial((), (), planner.base.together(Removal({}, frozenset({path}))))


def drops_of(damage: Damage, base: Removal) -> Drops:
    """What the trials of single blocks came to."""
    found = {}
    for trial, outputs in damage.trials:
        new = trial.removal.dropped - base.dropped
        if not trial.groups and len(new) == 1:
            found[next(iter(new))] = {name: max(0.0, outputs[name] ** 2 - damage.base[name] ** 2) for name in damage.base}
    return Drops(found)


def with_drops(planner: Planner, targets: Sequence[Target], criterion: str, curves: DamageCurves, drops: Drops) -> Budget | None:
    """The plan of least expected damage among those that drop at least one block; None where none meets the targets."""
    goals = goals_of(targets, planner.original)
    order = sorted(drops.damages, key=lambda path: price(planner, path, drops, goals))
    best: tuple[float, Planner, list[str]] | None = None
    for count in numbers(len(order)):
        paths = order[:count]
        inner = Planner(planner.analysis, planner.base.together(Removal({}, frozenset(paths))), planner.rules)
        left = shares_left(inner.arithmetic.widths(inner.base).size, planner.original)
        if all(left[goal.measure] < goal.share * (1 - TOLERANCE) for goal in goals):
            break  # more than was asked for
        landing = inner.descend(goals, pricing(inner, curves))
        if landing.met:
            cost = expected(inner, landing, curves, drops.worst(paths))
            best = (cost, inner, paths) if best is None or cost < best[0] else best
    if best is None:
        return None
    _, inner, paths = best
    budget = inner.plan(targets, criterion, pricing(inner, curves))
    if budget.step is None:
        return None
    cuts = [Cut(layer=path, amount="drop", criterion=criterion, drops=[path]) for path in paths]
    return replace(budget, step=budget.step.model_copy(update={"cuts": [*cuts, *budget.step.cuts]}))


def numbers(most: int) -> list[int]:
    """How many blocks are dropped in each of the plans that are compared."""
    return sorted({round(count) for count in np.geomspace(1, most, MOST_TRIED)} | set(range(1, min(most, 3) + 1))) if most else []


def price(planner: Planner, path: str, drops: Drops, goals: Sequence[Goal]) -> float:
    """What a block costs for what dropping it saves."""
    now, then = (
        shares_left(planner.arithmetic.widths(removal).size, planner.original)
        for removal in (planner.base, planner.base.together(Removal({}, frozenset({path}))))
    )
    saved = sum(now[goal.measure] - then[goal.measure] for goal in goals)
    return max(drops.damages[path].values(), default=0.0) / max(saved, 1e-12)


def pricing(planner: Planner, curves: DamageCurves) -> Pricing:
    """The prices of what is left to cut."""
    return Pricing(lambda ladder: np.max(list(costs_of(ladder, planner, curves).values()), axis=0), thrift=1.0)


def costs_of(ladder: Ladder, planner: Planner, curves: DamageCurves) -> Mapping[str, Costs]:
    """One ladder's costs by output: as measured, or where a drop made it another one, those of the ladder that it was a part of."""
    if ladder.groups in curves.curves:
        return curves.curves[ladder.groups]
    known = next((groups for groups in curves.curves if ladder.groups[0] in groups), None)
    if known is None:  # no ladder before the drop
        return {name: np.full(len(ladder.rungs), np.inf) for name in next(iter(curves.curves.values()))}
    measured = curves.curves[known]
    groups, base = planner.analysis.coupling.groups, planner.base
    shares = ladder.rungs.sum(1) / max(1, sum(base.left(groups[number]) for number in ladder.groups))
    return {name: np.interp(shares, np.linspace(0, 1, len(costs)), costs) for name, costs in measured.items()}


def expected(planner: Planner, landing: Landing, curves: DamageCurves, drops: Outputs) -> float:
    """The worst output's damage of a landing with the blocks that were dropped before."""
    totals = dict(drops)
    gone = planner.base.counts(planner.analysis.coupling)
    for ladder in planner.ladders.ladders:
        lost = int((landing.widths.counts - gone)[list(ladder.groups)].sum())
        rung = int(np.argmin(np.abs(ladder.rungs.sum(1) - lost)))
        for name, costs in costs_of(ladder, planner, curves).items():
            totals[name] = totals.get(name, 0.0) + float(costs[rung])
    return max(totals.values(), default=0.0)
