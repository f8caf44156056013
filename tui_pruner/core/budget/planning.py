"""From targets to a plan: the reachable range, the cuts, and what stopped them where a target is out of reach."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from tui_pruner.core.analysis import Analysis
from tui_pruner.core.budget.costs import Sensitivity, by_importance, by_sensitivity
from tui_pruner.core.budget.descent import Descent, Landing, Pricing
from tui_pruner.core.budget.ladders import Ladder, Ladders, Rules, ladders_of
from tui_pruner.core.budget.targets import Goal, Target, goals_of, shares_left
from tui_pruner.core.groups import ChannelGroup
from tui_pruner.core.linking import Demand
from tui_pruner.core.plan import Cut, Step, removes_of
from tui_pruner.core.preview import Arithmetic, Size, Widths
from tui_pruner.core.removal import NOTHING, Removal
from tui_pruner.core.requests import Request
from tui_pruner.core.resolve import choose
from tui_pruner.core.sensitivity import layer_of


@dataclass(frozen=True)
class Range:
    """The least and the most that can be left, as shares of the checkpoint by measure."""

    least: dict[str, float]
    most: dict[str, float]

    def text(self, measure: str) -> str:
        """For people: "34 % to 100 %"."""
        return f"{100 * self.least[measure]:.1f} % to {100 * self.most[measure]:.1f} %"


@dataclass(frozen=True)
class Budget:
    """What targets come to. `step` is None where they cannot be met, and `stopped` then says why; `size` is how far it went."""

    step: Step | None
    size: Size
    shares: dict[str, float]
    stopped: str = ""


class Search(Protocol):
    """A way to find widths that meet goals, on top of what a planner has gone already."""

    def __call__(self, planner: Planner, goals: Sequence[Goal]) -> Landing:
        """Where the search ends."""


class Planner:
    """Finds steps on top of what is gone already, under given rules. The ladders are made once, for all targets and criteria."""

    def __init__(self, analysis: Analysis, base: Removal = NOTHING, rules: Rules | None = None) -> None:
        self.analysis, self.base, self.rules = analysis.after(base.dropped), base, rules or Rules()
        self.arithmetic = Arithmetic(self.analysis)
        self.ladders: Ladders = ladders_of(self.analysis, base, self.rules)
        self.original = self.arithmetic.whole.size

    @property
    def range(self) -> Range:
        """What is left with every ladder at its end, and with none begun."""
        counts = self.base.counts(self.analysis.coupling)
        for ladder in self.ladders.ladders:
            counts[list(ladder.groups)] += ladder.rungs[-1]
        lowest = Widths(self.arithmetic, counts, self.arithmetic.sizes - self.arithmetic.shares @ counts, self.base.dropped).size
        highest = self.arithmetic.widths(self.base).size
        return Range(shares_left(lowest, self.original), shares_left(highest, self.original))

    def plan(
        self, targets: Sequence[Target], criterion: str = "l2", pricing: Pricing | None = None, search: Search | None = None
    ) -> Budget:
        """The step that meets targets, by what the lost channels cost: their importance by the criterion, unless `pricing` says else.

        `search` finds the widths in place of a descent by these prices.

        Raises:
            RequestError: the checkpoint has no more than that already, or no such criterion.
        """
        self.analysis.ranking.check(criterion)
        goals = goals_of(targets, self.original)
        landing = search(self, goals) if search else self.descend(goals, pricing or by_importance(self.analysis, self.base, criterion))
        shares = shares_left(landing.widths.size, self.original)
        if not landing.met:
            return Budget(None, landing.widths.size, shares, self._why(goals, landing))
        step = Step(name=name_of(goals), cuts=self._cuts(landing, criterion))
        return Budget(step, landing.widths.size, shares)

    def descend(self, goals: Sequence[Goal], pricing: Pricing) -> Landing:
        """Go down the ladders by prices until the goals are met."""
        return Descent(self.arithmetic, self.base, self.ladders.ladders, pricing, goals, self.rules.tolerance).run()

    def priced_by(self, scan: Sensitivity | None, criterion: str) -> Pricing | None:
        """Prices by a scan, where it says something of everything that can be cut."""
        if scan is None or not scan.covers(self.ladders.ladders):
            return None
        return by_sensitivity(self.analysis, self.base, criterion, scan)

    def _why(self, goals: Sequence[Goal], landing: Landing) -> str:
        """Why a search ended too early."""
        reach, shares = self.range, shares_left(landing.widths.size, self.original)
        least, goal = min((reach.least[goal.measure] <= goal.share, goal) for goal in goals if shares[goal.measure] > goal.share)
        wanted = f"{goal.measure}={100 * goal.share:.4g}%"
        if least:
            nearest = f"{100 * shares[goal.measure]:.1f} %"
            return f"{wanted} falls between two widths: the nearest above is {nearest}; use a smaller --round-to than {self.rules.round_to}"
        kept = ", ".join(f"{count} {reason}" for reason, count in self.ladders.staying.items()) or "nothing is locked"
        rules = f"with a floor of {self.rules.floor:.0%} and multiples of {self.rules.round_to}"
        return f"{wanted} is out of reach: satisfiable is {reach.text(goal.measure)} {rules} ({kept})"

    def _cuts(self, landing: Landing, criterion: str) -> list[Cut]:
        return [cut for ladder in self.ladders.ladders if (cut := self._cut(ladder, landing, criterion)) is not None]

    def _cut(self, ladder: Ladder, landing: Landing, criterion: str) -> Cut | None:
        """One ladder's cut, named by the first layer that produces its channels."""
        coupling = self.analysis.coupling
        first = coupling.groups[ladder.groups[0]]
        request = Request(layer_of(self.analysis, first), self._keeps(first, landing), criterion, self.rules.round_to)
        places = {}
        for number in ladder.groups:
            lost = int(landing.widths.counts[number]) - len(self.base.of(coupling.groups[number]))
            if lost:
                places[number] = choose(self.analysis, coupling.groups[number], Demand(lost, request.layer, request), self.base)
        if not places:
            return None
        return Cut(
            layer=request.layer,
            amount=request.amount,
            criterion=criterion,
            round_to=request.round_to,
            removes=removes_of(Removal(places), coupling),
        )

    def _keeps(self, group: ChannelGroup, landing: Landing) -> str:
        return f"keep:{landing.widths.axis(group.producers[0].axis)}"


def name_of(goals: Sequence[Goal]) -> str:
    """What a step is called: "flops 70 %"."""
    return ", ".join(f"{goal.measure} {100 * goal.share:.4g} %" for goal in goals)
