"""Prices by measured damage: what a refit of the readers leaves of each rung's damage to the predictions, output by output of the task."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from tui_pruner.core.analysis import Analysis
from tui_pruner.core.budget.descent import Costs, Pricing
from tui_pruner.core.budget.ladders import Ladder
from tui_pruner.core.groups import ChannelGroup, Indices
from tui_pruner.core.recovery.damage import Damage, Trial
from tui_pruner.core.removal import Removal

SHARES = (0.1, 0.25, 0.5, 0.75)
"""How much of a ladder's channels the trials take; fewer of them for a plan in a hurry."""
FEW_SHARES = (0.2, 0.6)
STEEP = 4.0
"""What the last rung costs where no trial went so far, in the cost of the last trial."""


def trials_of(analysis: Analysis, ladders: Sequence[Ladder], base: Removal, criterion: str, shares: Sequence[float]) -> Iterator[Trial]:
    """For each ladder the rungs that are nearest to these shares of its channels, the least important channels of each group first."""
    coupling = analysis.coupling
    for ladder in ladders:
        left = sum(base.left(coupling.groups[number]) for number in ladder.groups)
        wanted = {int(np.argmin(np.abs(ladder.rungs.sum(1)[1:] / left - share))) + 1 for share in shares}
        for rung in sorted(wanted):
            yield trial_of(analysis, ladder, rung, base, criterion)


def trial_of(analysis: Analysis, ladder: Ladder, rung: int, base: Removal, criterion: str) -> Trial:
    """One rung of a ladder on top of what is gone."""
    lost = tuple(int(count) for count in ladder.rungs[rung])
    places = {
        number: weakest(analysis, analysis.coupling.groups[number], count, base, criterion)
        for number, count in zip(ladder.groups, lost, strict=True)
        if count
    }
    return Trial(ladder.groups, lost, base.together(Removal(places)))


def weakest(analysis: Analysis, group: ChannelGroup, count: int, base: Removal, criterion: str) -> Indices:
    """The least important of a group's remaining channels, as sorted places; ties go to the earlier channel."""
    remaining = base.remaining(group)
    scores = analysis.ranked(base).scores(group, criterion)[remaining]
    found: Indices = np.sort(remaining[np.argsort(scores, kind="stable")[:count]])
    return found


@dataclass(frozen=True)
class DamageCurves:
    """For each ladder and output of the task the squared distance that every rung adds; squares of small damages add up."""

    curves: Mapping[tuple[int, ...], Mapping[str, Costs]]

    def covers(self, ladders: Sequence[Ladder]) -> bool:
        """Whether every ladder was tried."""
        return bool(ladders) and all(ladder.groups in self.curves for ladder in ladders)

    @property
    def pricing(self) -> Pricing:
        """The worst output's cost of each rung, over what the rung saves."""
        return Pricing(lambda ladder: np.max(list(self.curves[ladder.groups].values()), axis=0), thrift=1.0)


def curves_of(ladders: Sequence[Ladder], damage: Damage) -> DamageCurves:
    """Squared distances at every rung: never falling, straight between the trials, and steep behind the last one."""
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
