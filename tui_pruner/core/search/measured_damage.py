"""Prices by measured damage, for widths and for whole inner blocks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from tui_pruner.core.model.analysis import Analysis
from tui_pruner.core.pruning.plan import Cut
from tui_pruner.core.pruning.removal import Removal
from tui_pruner.core.recovery.damage import Damage, DamageTrial
from tui_pruner.core.search.ladders import TOLERANCE, Ladder, protected_layers
from tui_pruner.core.search.planner import Budget, Planner
from tui_pruner.core.search.targets import Costs, DescentEnd, Goal, Pricing, Target, goals_of, shares_left
from tui_pruner.core.tracing.coupling_map import ChannelGroup, Indices
from tui_pruner.core.tracing.inner_blocks import inside

SHARES = (0.1, 0.25, 0.5, 0.75)
"""The shares of a ladder's channels that trials remove; a fast plan uses fewer of them."""
FEW_SHARES = (0.2, 0.6)
STEEP = 4.0
"""The cost of a ladder's last rung beyond the last trial, as a multiple of the last trial's cost."""


def trials_of(
    analysis: Analysis, ladders: Sequence[Ladder], base: Removal, criterion: str, shares: Sequence[float]
) -> Iterator[DamageTrial]:
    """For each ladder the rungs nearest to these shares of its channels, with the least important channels of each group removed."""
    coupling = analysis.coupling
    for ladder in ladders:
        left = sum(base.left(coupling.groups[number]) for number in ladder.groups)
        wanted = {int(np.argmin(np.abs(ladder.rungs.sum(1)[1:] / left - share))) + 1 for share in shares}
        for rung in sorted(wanted):
            yield trial_of(analysis, ladder, rung, base, criterion)


def trial_of(analysis: Analysis, ladder: Ladder, rung: int, base: Removal, criterion: str) -> DamageTrial:
    """A trial of one rung of a ladder, in addition to what is removed already."""
    lost = tuple(int(count) for count in ladder.rungs[rung])
    places = {
        number: weakest(analysis, analysis.coupling.groups[number], count, base, criterion)
        for number, count in zip(ladder.groups, lost, strict=True)
        if count
    }
    return DamageTrial(ladder.groups, lost, base.together(Removal(places)))


def weakest(analysis: Analysis, group: ChannelGroup, count: int, base: Removal, criterion: str) -> Indices:
    """The indices of a group's least important remaining channels, sorted; of equal ones the earlier."""
    remaining = base.remaining(group)
    scores = analysis.ranked(base).scores(group, criterion)[remaining]
    found: Indices = np.sort(remaining[np.argsort(scores, kind="stable")[:count]])
    return found


@dataclass(frozen=True)
class DamageCurves:
    """For each ladder and output of the task the squared distance that every rung adds; squares of small damages add up."""

    curves: Mapping[tuple[int, ...], Mapping[str, Costs]]

    def covers(self, ladders: Sequence[Ladder]) -> bool:
        """Whether every ladder was measured."""
        return bool(ladders) and all(ladder.groups in self.curves for ladder in ladders)

    @property
    def pricing(self) -> Pricing:
        """Prices by the worst output's cost of each rung, over what the rung saves."""
        return Pricing(lambda ladder: np.max(list(self.curves[ladder.groups].values()), axis=0), savings_exponent=1.0)


def curves_of(ladders: Sequence[Ladder], damage: Damage) -> DamageCurves:
    """Squared distances at every rung: monotone, linear between the trials, and steep after the last one."""
    by_ladder: dict[tuple[int, ...], dict[int, Mapping[str, float]]] = {}
    for trial, outputs in damage.trials:
        by_ladder.setdefault(trial.groups, {})[sum(trial.lost)] = outputs
    curves = {}
    for ladder in ladders:
        found = by_ladder.get(ladder.groups)
        if found:
            totals = ladder.rungs.sum(1)
            curves[ladder.groups] = {name: curve(totals, found, damage.base, name) for name in damage.base}
    return DamageCurves(curves)


def curve(totals: Indices, found: Mapping[int, Mapping[str, float]], base: Mapping[str, float], name: str) -> Costs:
    """One output's cost at each rung, by how many channels are lost in all."""
    measured = sorted(found)
    heights = [max(0.0, found[count][name] ** 2 - base[name] ** 2) for count in measured]
    places = [0, *measured]
    costs = np.maximum.accumulate([0.0, *heights])
    if totals[-1] > measured[-1]:
        places.append(int(totals[-1]))
        costs = np.append(costs, STEEP * costs[-1] + 1e-12)
    result: Costs = np.interp(totals, places, costs)
    return result


MOST_TRIED = 6
"""The most numbers of dropped blocks that are planned for: 1, 2, 3, 4, then larger steps."""
Outputs = Mapping[str, float]


@dataclass(frozen=True)
class Drops:
    """By block: the squared distance of each output of the task when only that block is dropped."""

    damages: Mapping[str, Outputs]

    def worst(self, paths: Sequence[str]) -> Outputs:
        """The sum for several blocks, of the worst output; squares of small damages add up."""
        names = dict.fromkeys(name for path in paths for name in self.damages[path])
        return {name: sum(self.damages[path][name] for path in paths) for name in names}


def droppable(planner: Planner) -> list[str]:
    """The blocks that add to their input, contain no other such block, and are neither gone nor protected."""
    analysis, gone = planner.analysis, planner.base.dropped
    shielded = protected_layers(analysis, planner.rules)
    adding = [path for path, block in analysis.coupling.inner.items() if block.tied and block.silenced and not inside(path, gone)]
    smallest = [path for path in adding if not any(other != path and inside(other, [path]) for other in adding)]
    return [path for path in smallest if not any(inside(layer, [path]) for layer in shielded)]


def drop_trials(planner: Planner) -> Iterator[DamageTrial]:
    """A trial for each block, dropped alone in addition to what is gone."""
    for path in droppable(planner):
        yield DamageTrial((), (), planner.base.together(Removal({}, frozenset({path}))))


def drops_of(damage: Damage, base: Removal) -> Drops:
    """The results of the trials of single blocks."""
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
            break  # the dropped blocks alone save more than was asked for
        descent_end = inner.descend(goals, pricing(inner, curves))
        if descent_end.met:
            cost = expected(inner, descent_end, curves, drops.worst(paths))
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
    """The numbers of dropped blocks of the plans that are compared."""
    return sorted({round(count) for count in np.geomspace(1, most, MOST_TRIED)} | set(range(1, min(most, 3) + 1))) if most else []


def price(planner: Planner, path: str, drops: Drops, goals: Sequence[Goal]) -> float:
    """A block's cost divided by what dropping it saves."""
    now, then = (
        shares_left(planner.arithmetic.widths(removal).size, planner.original)
        for removal in (planner.base, planner.base.together(Removal({}, frozenset({path}))))
    )
    saved = sum(now[goal.measure] - then[goal.measure] for goal in goals)
    return max(drops.damages[path].values(), default=0.0) / max(saved, 1e-12)


def pricing(planner: Planner, curves: DamageCurves) -> Pricing:
    """Prices of the channels that remain after the drops."""
    return Pricing(lambda ladder: np.max(list(costs_of(ladder, planner, curves).values()), axis=0), savings_exponent=1.0)


def costs_of(ladder: Ladder, planner: Planner, curves: DamageCurves) -> Mapping[str, Costs]:
    """One ladder's costs by output: as measured, or where a drop changed the ladder, those of the ladder that it was part of."""
    if ladder.groups in curves.curves:
        return curves.curves[ladder.groups]
    known = next((groups for groups in curves.curves if ladder.groups[0] in groups), None)
    if known is None:  # there was no ladder before the drop
        return {name: np.full(len(ladder.rungs), np.inf) for name in next(iter(curves.curves.values()))}
    measured = curves.curves[known]
    groups, base = planner.analysis.coupling.groups, planner.base
    shares = ladder.rungs.sum(1) / max(1, sum(base.left(groups[number]) for number in ladder.groups))
    return {name: np.interp(shares, np.linspace(0, 1, len(costs)), costs) for name, costs in measured.items()}


def expected(planner: Planner, descent_end: DescentEnd, curves: DamageCurves, drops: Outputs) -> float:
    """The worst output's damage at the end of a descent, together with that of the dropped blocks."""
    totals = dict(drops)
    gone = planner.base.counts(planner.analysis.coupling)
    for ladder in planner.ladders.ladders:
        lost = int((descent_end.widths.counts - gone)[list(ladder.groups)].sum())
        rung = int(np.argmin(np.abs(ladder.rungs.sum(1) - lost)))
        for name, costs in costs_of(ladder, planner, curves).items():
            totals[name] = totals.get(name, 0.0) + float(costs[rung])
    return max(totals.values(), default=0.0)
