"""The way down the ladders: always the rung that costs the least for what it saves, until the goals are met."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tui_pruner.core.budget.ladders import TOLERANCE, Ladder
from tui_pruner.core.budget.targets import Goal, shares_left
from tui_pruner.core.preview import Arithmetic, Widths
from tui_pruner.core.removal import Removal

Costs = NDArray[np.float64]
NOTHING_SAVED = 1e-12


@dataclass(frozen=True)
class Pricing:
    """What rungs cost: `costs_of` gives it for every rung of a ladder; a price is the cost over what it saves, to the power `thrift`."""

    costs_of: Callable[[Ladder], Costs]
    thrift: float = 0.0


@dataclass(frozen=True)
class Landing:
    """Where a descent ended: the widths, whether every goal is met, and whether it ended since every rung that is left is too large."""

    widths: Widths
    met: bool
    too_large: bool


class Descent:
    """The state of one search. Its prices only rise: what a rung saves shrinks with every other rung that is taken.

    So the cheapest of the known prices, once it is computed again and still the cheapest, is the cheapest of all (accelerated greedy
    search: M. Minoux, 1978).
    """

    def __init__(
        self,
        arithmetic: Arithmetic,
        base: Removal,
        ladders: Sequence[Ladder],
        pricing: Pricing,
        goals: Sequence[Goal],
        tolerance: float = TOLERANCE,
    ) -> None:
        self._tolerance = tolerance
        self._arithmetic, self._original = arithmetic, arithmetic.whole.size
        self._ladders, self._goals, self._thrift = ladders, goals, pricing.thrift
        self._costs = [pricing.costs_of(ladder) for ladder in ladders]
        self._rungs = [0] * len(ladders)
        self.widths = arithmetic.widths(base)

    def run(self) -> Landing:
        """Go down until the goals are met or nothing is left to take."""
        waiting = [(self._price(number), number) for number in range(len(self._ladders))]
        heapq.heapify(waiting)
        too_large = False
        while waiting and (unmet := self._unmet(self.widths)):
            _, number = heapq.heappop(waiting)
            price = self._price(number)
            if waiting and price > waiting[0][0]:
                heapq.heappush(waiting, (price, number))
                continue
            below = self._below(number)
            if self._overshoots(below, unmet):
                too_large = True
                continue
            self.widths = below
            self._rungs[number] += 1
            if len(self._unmet(below)) < len(unmet):  # other savings count from here on
                waiting = [(self._price(other), other) for _, other in waiting]
                heapq.heapify(waiting)
            if self._rungs[number] < self._ladders[number].last:
                heapq.heappush(waiting, (self._price(number), number))
        met = not self._unmet(self.widths)
        return Landing(self.widths, met, too_large and not met)

    def _price(self, number: int) -> float:
        """What the next rung of a ladder costs for what it saves of the measures whose goals are not met."""
        rung, costs = self._rungs[number], self._costs[number]
        now, then = self._shares(self.widths), self._shares(self._below(number))
        saved = sum(now[goal.measure] - then[goal.measure] for goal in self._unmet(self.widths) or self._goals)
        return float((costs[rung + 1] - costs[rung]) / max(saved, NOTHING_SAVED) ** self._thrift)

    def _shares(self, widths: Widths) -> dict[str, float]:
        return shares_left(widths.size, self._original)

    def _unmet(self, widths: Widths) -> list[Goal]:
        left = self._shares(widths)
        return [goal for goal in self._goals if left[goal.measure] > goal.share]

    def _overshoots(self, widths: Widths, unmet: Sequence[Goal]) -> bool:
        """Whether all goals would be met, but each that is newly met by more than it may be."""
        left = self._shares(widths)
        return all(left[goal.measure] < goal.share * (1 - self._tolerance) for goal in unmet)

    def _below(self, number: int) -> Widths:
        """The widths with the next rung of a ladder taken."""
        ladder, rung = self._ladders[number], self._rungs[number]
        change, groups = ladder.rungs[rung + 1] - ladder.rungs[rung], list(ladder.groups)
        counts = self.widths.counts.copy()
        counts[groups] += change
        return Widths(self._arithmetic, counts, self.widths.of_axis - self._arithmetic.shares[:, groups] @ change, self.widths.dropped)
