"""A latency as the target: what arithmetic cannot know is measured, at ever better guesses of the operations that may be left."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from tui_pruner.core.budget.descent import Pricing
from tui_pruner.core.budget.ladders import TOLERANCE
from tui_pruner.core.budget.planning import Budget, Planner, Search
from tui_pruner.core.budget.targets import Target
from tui_pruner.core.latency import Interval
from tui_pruner.core.plan import removal_of_step
from tui_pruner.core.removal import Removal

Measure = Callable[[Removal], Interval]
"""How long the model without these channels takes, as a share of the checkpoint."""
TRIES = 10
CLOSE = 0.004
"""Shares of the operations that are as good as one: between them lies a layer or two of one channel."""


@dataclass(frozen=True)
class Quickened:
    """What a latency target comes to: the budget, its measured latency, and that of the most that can be cut, as shares."""

    budget: Budget
    latency: Interval
    least: Interval
    tries: int


@dataclass(frozen=True)
class Point:
    """A budget, which has so many of the operations left, and its latency as a share."""

    flops: float
    budget: Budget | None
    latency: Interval


@dataclass
class Quickening:
    """One search between the most that can be cut and nothing more; the bounds move together, guess by guess."""

    planner: Planner
    share: float
    measure: Measure
    targets: Sequence[Target] = ()
    criterion: str = "l2"
    pricing: Pricing | None = None
    search: Search | None = None
    tries: int = field(default=0, init=False)

    def run(self) -> Quickened:
        """The slowest plan that is fast enough; a budget without a step where even the smallest is not.

        Raises:
            RequestError: the checkpoint has no more than another target's amount already, or no such criterion.
        """
        reach = self.planner.range
        least = self._at(reach.least["flops"] * (1 + TOLERANCE))
        if least.budget is None or least.budget.step is None or not self._fast_enough(least):
            return Quickened(self._out_of_reach(least), least.latency, least.latency, self.tries)
        found = self._between(least, Point(reach.most["flops"], None, self._measured(self.planner.base)))
        assert found.budget is not None
        return Quickened(found.budget, found.latency, least.latency, self.tries)

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
        """The plan for a share of the operations, measured."""
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
