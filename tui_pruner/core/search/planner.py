"""From targets to a plan: the reachable range, the cuts, or the reason why there are none; latency targets are searched by timing."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from tui_pruner.core.model.analysis import Analysis
from tui_pruner.core.model.latency import Interval
from tui_pruner.core.pruning.plan import Cut, Step, removal_of_step, removes_of
from tui_pruner.core.pruning.preview import Arithmetic, Size
from tui_pruner.core.pruning.removal import NOTHING, Demand, Removal
from tui_pruner.core.pruning.resolve import choose
from tui_pruner.core.search.ladders import TOLERANCE, Ladder, Ladders, Rules, ladders_of
from tui_pruner.core.search.sensitivity import Sensitivity, by_importance, by_sensitivity, layer_of
from tui_pruner.core.search.targets import Descent, DescentEnd, Goal, Pricing, Target, goals_of, shares_left
from tui_pruner.core.tracing.coupling_map import ChannelGroup
from tui_pruner.domain.cuts import Request


@dataclass(frozen=True)
class Range:
    """The least and the most that can remain, as shares of the checkpoint by measure."""

    least: dict[str, float]
    most: dict[str, float]

    def text(self, measure: str) -> str:
        """As text for display: "34 % to 100 %"."""
        return f"{100 * self.least[measure]:.1f} % to {100 * self.most[measure]:.1f} %"


@dataclass(frozen=True)
class Budget:
    """The result for targets. `step` is None where they cannot be met, and `stopped` then says why; `size` is where the search ended."""

    step: Step | None
    size: Size
    shares: dict[str, float]
    stopped: str = ""


class Search(Protocol):
    """A function that finds widths that meet goals, in addition to what is gone by a planner."""

    def __call__(self, planner: Planner, goals: Sequence[Goal]) -> DescentEnd:
        """Return where the search ends."""


class Planner:
    """Finds steps in addition to what is gone already, under given rules. The ladders are made once, for all targets and criteria."""

    def __init__(self, analysis: Analysis, base: Removal = NOTHING, rules: Rules | None = None) -> None:
        self.analysis, self.base, self.rules = analysis.after(base.dropped), base, rules or Rules()
        self.arithmetic = Arithmetic(self.analysis)
        self.ladders: Ladders = ladders_of(self.analysis, base, self.rules)
        self.original = self.arithmetic.whole.size

    @property
    def range(self) -> Range:
        """The shares that remain with every ladder at its end, and with all at their start."""
        counts = self.base.counts(self.analysis.coupling)
        for ladder in self.ladders.ladders:
            counts[list(ladder.groups)] += ladder.rungs[-1]
        lowest = self.arithmetic.widths_at(counts, self.base.dropped).size
        highest = self.arithmetic.widths(self.base).size
        return Range(shares_left(lowest, self.original), shares_left(highest, self.original))

    def plan(
        self, targets: Sequence[Target], criterion: str = "l2", pricing: Pricing | None = None, search: Search | None = None
    ) -> Budget:
        """The step that meets targets at the least cost of the lost channels: their importance by the criterion, or as `pricing` says.

        `search` finds the widths in place of a descent by these prices.

        Raises:
            RequestError: the checkpoint has no more than that already, or no such criterion.
        """
        self.analysis.ranking.check(criterion)
        goals = goals_of(targets, self.original)
        descent_end = search(self, goals) if search else self.descend(goals, pricing or by_importance(self.analysis, self.base, criterion))
        return self._budget(goals, descent_end, criterion)

    def plans(self, measure: str, shares: Sequence[float], criterion: str = "l2", pricing: Pricing | None = None) -> Iterator[Budget]:
        """What `plan` finds for each of these falling shares, in the time that the last one alone takes.

        Raises:
            RequestError: no such criterion.
        """
        self.analysis.ranking.check(criterion)
        goals = [Goal(measure, share) for share in shares]
        priced = pricing or by_importance(self.analysis, self.base, criterion)
        descent = Descent(self.arithmetic, self.base, self.ladders.ladders, priced, goals[:1], self.rules.tolerance)
        for goal, descent_end in zip(goals, descent.ends_for(goals), strict=True):
            yield self._budget([goal], descent_end, criterion)

    def _budget(self, goals: Sequence[Goal], descent_end: DescentEnd, criterion: str) -> Budget:
        """The budget of goals, for a search that ended here."""
        shares = shares_left(descent_end.widths.size, self.original)
        if not descent_end.met:
            return Budget(None, descent_end.widths.size, shares, self._why(goals, descent_end))
        return Budget(Step(name=name_of(goals), cuts=self._cuts(descent_end, criterion)), descent_end.widths.size, shares)

    def descend(self, goals: Sequence[Goal], pricing: Pricing) -> DescentEnd:
        """Descend the ladders by prices until the goals are met."""
        return Descent(self.arithmetic, self.base, self.ladders.ladders, pricing, goals, self.rules.tolerance).run()

    def priced_by(self, scan: Sensitivity | None, criterion: str) -> Pricing | None:
        """Prices by a scan, where it covers everything that can be cut; for a scan that was stopped, anything suffices."""
        if scan is None or not scan.covers(self.ladders.ladders):
            return None
        return by_sensitivity(self.analysis, self.base, criterion, scan)

    def _why(self, goals: Sequence[Goal], descent_end: DescentEnd) -> str:
        """Why a search ended before its goals."""
        reach, shares = self.range, shares_left(descent_end.widths.size, self.original)
        least, goal = min((reach.least[goal.measure] <= goal.share, goal) for goal in goals if shares[goal.measure] > goal.share)
        wanted = f"{goal.measure}={100 * goal.share:.4g}%"
        if least:
            nearest = f"{100 * shares[goal.measure]:.1f} %"
            return f"{wanted} falls between two widths: the nearest above is {nearest}; use a smaller --round-to than {self.rules.round_to}"
        kept = ", ".join(f"{count} {reason}" for reason, count in self.ladders.staying.items()) or "nothing is locked"
        rules = f"with a floor of {self.rules.floor:.0%} and multiples of {self.rules.round_to}"
        return f"{wanted} is out of reach: reachable is {reach.text(goal.measure)} {rules} ({kept})"

    def _cuts(self, descent_end: DescentEnd, criterion: str) -> list[Cut]:
        return [cut for ladder in self.ladders.ladders if (cut := self._cut(ladder, descent_end, criterion)) is not None]

    def _cut(self, ladder: Ladder, descent_end: DescentEnd, criterion: str) -> Cut | None:
        """One ladder's cut, named by the first layer that produces its channels."""
        coupling = self.analysis.coupling
        first = coupling.groups[ladder.groups[0]]
        request = Request(layer_of(self.analysis, first), self._keeps(first, descent_end), criterion, self.rules.round_to)
        places = {}
        for number in ladder.groups:
            lost = int(descent_end.widths.counts[number]) - len(self.base.of(coupling.groups[number]))
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

    def _keeps(self, group: ChannelGroup, descent_end: DescentEnd) -> str:
        return f"keep:{descent_end.widths.axis(group.producers[0].axis)}"


def name_of(goals: Sequence[Goal]) -> str:
    """The name of a step: "flops 70 %"."""
    return ", ".join(f"{goal.measure} {100 * goal.share:.4g} %" for goal in goals)


Measure = Callable[[Removal], Interval]
"""The latency of the model without these channels, as a share of the checkpoint's."""
TRIES = 10
CLOSE = 0.004
"""Shares of the FLOPs this close count as equal: they differ by a channel in one or two layers."""


@dataclass(frozen=True)
class LatencyFound:
    """The result for a latency target: the budget, its measured latency, and that of the largest possible cut, as shares."""

    budget: Budget
    latency: Interval
    least: Interval
    tries: int


@dataclass(frozen=True)
class Point:
    """A budget with this share of the FLOPs left, and its latency as a share."""

    flops: float
    budget: Budget | None
    latency: Interval


@dataclass
class LatencySearch:
    """One search between the largest possible cut and no further cut; the bounds move together with each guess."""

    planner: Planner
    share: float
    measure: Measure
    targets: Sequence[Target] = ()
    criterion: str = "l2"
    pricing: Pricing | None = None
    search: Search | None = None
    tries: int = field(default=0, init=False)

    def run(self) -> LatencyFound:
        """The slowest plan that is fast enough; a budget without a step where even the smallest is not.

        Raises:
            RequestError: the checkpoint has no more than another target's amount already, or no such criterion.
        """
        reach = self.planner.range
        least = self._at(reach.least["flops"] * (1 + TOLERANCE))
        if least.budget is None or least.budget.step is None or not self._fast_enough(least):
            return LatencyFound(self._out_of_reach(least), least.latency, least.latency, self.tries)
        found = self._between(least, Point(reach.most["flops"], None, self._measured(self.planner.base)))
        assert found.budget is not None
        return LatencyFound(found.budget, found.latency, least.latency, self.tries)

    def _between(self, fast: Point, slow: Point) -> Point:
        """The slowest plan that is fast enough between one that is and one that is not."""
        while self.tries < TRIES and slow.flops - fast.flops > CLOSE and not self._close_enough(fast):
            tried = self._at(self._guess(fast, slow))
            if tried.budget is None or tried.budget.step is None:
                return fast
            fast, slow = (tried, slow) if self._fast_enough(tried) else (fast, tried)
        return fast

    def _guess(self, fast: Point, slow: Point) -> float:
        """Where a straight line between two points meets the target, but not too near to either."""
        rise = slow.latency.median - fast.latency.median
        place = (self.share - fast.latency.median) / rise if rise > 0 else 0.5
        return fast.flops + (slow.flops - fast.flops) * min(0.9, max(0.1, place))

    def _at(self, flops: float) -> Point:
        """The plan for a share of the FLOPs, measured."""
        found = self.planner.plan([*self.targets, Target("flops", share=flops)], self.criterion, self.pricing, self.search)
        if found.step is None:
            return Point(flops, found, Interval(1.0, 1.0, 1.0))
        removal = self.planner.base.together(removal_of_step(found.step, self.planner.analysis.coupling))
        return Point(found.shares["flops"], found, self._measured(removal))

    def _measured(self, removal: Removal) -> Interval:
        self.tries += 1
        return self.measure(removal)

    def _fast_enough(self, point: Point) -> bool:
        return point.latency.median <= self.share * (1 + TOLERANCE)

    def _close_enough(self, point: Point) -> bool:
        return self._fast_enough(point) and point.latency.median >= self.share * (1 - TOLERANCE)

    def _out_of_reach(self, least: Point) -> Budget:
        assert least.budget is not None
        if least.budget.step is None:
            return least.budget
        measured, flops = least.latency.as_share, f"{100 * least.flops:.1f} %"
        stopped = (
            f"latency={100 * self.share:.4g}% is out of reach: the smallest plan was measured at {measured} of the checkpoint's latency"
            f" with {flops} of its FLOPs left"
        )
        return Budget(None, least.budget.size, least.budget.shares, stopped)
