"""Targets (the share of FLOPs, parameters or bytes that may remain), and two ways to reach them: greedy, and one share."""

from __future__ import annotations

import copy
import heapq
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from tui_pruner.core.pruning.preview import Arithmetic, Size, Widths
from tui_pruner.core.pruning.removal import Removal
from tui_pruner.core.search.ladders import TOLERANCE, Ladder
from tui_pruner.domain.cuts import LATENCY, MEASURES, read_target
from tui_pruner.domain.errors import RequestError


@dataclass(frozen=True)
class Target:
    """What remains by one measure: a share of what the checkpoint has (above 0, below 1), or an amount."""

    measure: str
    share: float | None = None
    amount: float | None = None

    def share_of(self, original: Size) -> float:
        """The share of the checkpoint that may remain.

        Raises:
            RequestError: it has no more than that already.
        """
        whole = size_by(original, self.measure)
        share = self.share if self.share is not None else (self.amount or 0.0) / whole
        if share >= 1:
            raise RequestError(f"the target {self.measure}={self.amount:,.0f} is not below the checkpoint's {whole:,.0f}: ask for less")
        return share


@dataclass(frozen=True, order=True)
class Goal:
    """A target on one checkpoint: the share that may be left, above 0 and below 1."""

    measure: str
    share: float


def goals_of(targets: Iterable[Target], original: Size) -> list[Goal]:
    """The goals of targets for a checkpoint of this size; of two by one measure the smaller counts.

    Raises:
        RequestError: the checkpoint has no more than that already.
    """
    shares: dict[str, float] = {}
    for target in targets:
        shares[target.measure] = min(target.share_of(original), shares.get(target.measure, 1.0))
    return [Goal(measure, share) for measure, share in shares.items()]


def latency_apart(targets: Iterable[Target]) -> tuple[list[Target], float | None]:
    """The targets that arithmetic can answer, and the share of the latency that may remain, the smallest of several."""
    apart: dict[bool, list[Target]] = {True: [], False: []}
    for target in targets:
        apart[target.measure == LATENCY].append(target)
    shares = [target.share for target in apart[True] if target.share is not None]
    return apart[False], min(shares, default=None)


def size_by(size: Size, measure: str) -> float:
    """A size by the name of a measure."""
    return float(getattr(size, MEASURES[measure]))


def shares_left(size: Size, original: Size) -> dict[str, float]:
    """A size as a share of the checkpoint's, by every measure."""
    return {measure: size_by(size, measure) / size_by(original, measure) for measure in MEASURES}


@dataclass(frozen=True)
class GoalCheck:
    """Checks of goals for every search: which are not met yet, and whether a step would overshoot them."""

    goals: Sequence[Goal]
    original: Size
    tolerance: float = TOLERANCE

    def unmet(self, widths: Widths) -> list[Goal]:
        """The goals that a model of these widths does not meet."""
        left = shares_left(widths.size, self.original)
        return [goal for goal in self.goals if left[goal.measure] > goal.share]

    def overshoots(self, widths: Widths, unmet: Sequence[Goal]) -> bool:
        """Whether all goals would be met, and each that was unmet by more than the tolerance."""
        left = shares_left(widths.size, self.original)
        return all(left[goal.measure] < goal.share * (1 - self.tolerance) for goal in unmet)

    def saved(self, widths: Widths, below: Widths) -> float:
        """The share that a step saves, summed over the measures whose goals are not met; over all where all are met."""
        now, then = shares_left(widths.size, self.original), shares_left(below.size, self.original)
        return sum(now[goal.measure] - then[goal.measure] for goal in self.unmet(widths) or self.goals)


def parse_target(text: str) -> Target:
    """MEASURE=WHAT IS LEFT: "flops=70%", "flops=0.7", "params=2.1M", "bytes=4000k".

    Raises:
        RequestError: another measure, no number, or a share that is not between 0 and 100 %.
    """
    return Target(*read_target(text))


Costs = NDArray[np.float64]
NOTHING_SAVED = 1e-12


@dataclass(frozen=True)
class Pricing:
    """The cost of rungs: `costs_of` gives the cost of every rung of a ladder; a price is cost / saving ** `savings_exponent`."""

    costs_of: Callable[[Ladder], Costs]
    savings_exponent: float = 0.0


@dataclass(frozen=True)
class DescentEnd:
    """The end of a descent: the widths, whether every goal is met, and whether it ended because every remaining rung is too large."""

    widths: Widths
    met: bool
    too_large: bool


class Descent:
    """The state of one search. Its prices only rise: what a rung saves shrinks with every other rung that is taken.

    So if the cheapest known price is still the cheapest after it was computed again, it is the cheapest of all (accelerated greedy search:
    M. Minoux, 1978).
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
        self._check = GoalCheck(goals, arithmetic.whole.size, tolerance)
        self._ladders, self._savings_exponent = ladders, pricing.savings_exponent
        self._costs = [pricing.costs_of(ladder) for ladder in ladders]
        self._rungs = [0] * len(ladders)
        self.widths = arithmetic.widths(base)

    def run(self) -> DescentEnd:
        """Descend until the goals are met or no rung is left."""
        return self._landing(self._first())

    def ends_for(self, goals: Iterable[Goal]) -> Iterator[DescentEnd]:
        """Where `run` ends for each of these goals alone, all by one measure and decreasing, in one descent.

        Until the next rung is too large for a goal, the descent is the same for it and for all smaller goals.
        """
        waiting = self._first()
        for goal in goals:
            self._check = replace(self._check, goals=[goal])
            self._down(waiting, to_first_overshoot=True)
            branch = copy.copy(self)
            branch._rungs = list(self._rungs)
            yield branch._landing(list(waiting))

    def _first(self) -> list[tuple[float, int]]:
        waiting = [(self._price(number), number) for number in range(len(self._ladders))]
        heapq.heapify(waiting)
        return waiting

    def _landing(self, waiting: list[tuple[float, int]]) -> DescentEnd:
        too_large = self._down(waiting)
        met = not self._check.unmet(self.widths)
        return DescentEnd(self.widths, met, too_large and not met)

    def _down(self, waiting: list[tuple[float, int]], to_first_overshoot: bool = False) -> bool:
        """Take the cheapest rungs; whether any was too large, which ends its ladder, or with `to_first_overshoot` the descent."""
        too_large = False
        while waiting and (unmet := self._check.unmet(self.widths)):
            _, number = heapq.heappop(waiting)
            price = self._price(number)
            if waiting and price > waiting[0][0]:
                heapq.heappush(waiting, (price, number))
                continue
            below = self._below(number)
            if self._check.overshoots(below, unmet):
                if to_first_overshoot:
                    heapq.heappush(waiting, (price, number))
                    return True
                too_large = True
                continue
            self.widths = below
            self._rungs[number] += 1
            if len(self._check.unmet(below)) < len(unmet):  # the savings of other measures count from here on
                waiting[:] = [(self._price(other), other) for _, other in waiting]
                heapq.heapify(waiting)
            if self._rungs[number] < self._ladders[number].last:
                heapq.heappush(waiting, (self._price(number), number))
        return too_large

    def _price(self, number: int) -> float:
        """The cost of a ladder's next rung, divided by what it saves of the measures whose goals are not met."""
        rung, costs = self._rungs[number], self._costs[number]
        saved = self._check.saved(self.widths, self._below(number))
        return float((costs[rung + 1] - costs[rung]) / max(saved, NOTHING_SAVED) ** self._savings_exponent)

    def _below(self, number: int) -> Widths:
        """The widths after taking the next rung of a ladder."""
        ladder, rung = self._ladders[number], self._rungs[number]
        return self.widths.losing(ladder.groups, ladder.rungs[rung + 1] - ladder.rungs[rung])


HALVINGS = 24


def uniform(arithmetic: Arithmetic, base: Removal, ladders: Sequence[Ladder], goals: Sequence[Goal]) -> DescentEnd:
    """The least share of every ladder that meets the goals; each ladder goes to the nearest rung."""
    gone, check = base.counts(arithmetic.analysis.coupling), GoalCheck(goals, arithmetic.whole.size)
    channels = [sum(base.left(arithmetic.analysis.coupling.groups[number]) for number in ladder.groups) for ladder in ladders]

    def at(share: float) -> Widths:
        counts = gone.copy()
        for ladder, whole in zip(ladders, channels, strict=True):
            counts[list(ladder.groups)] += ladder.rungs[int(np.argmin(np.abs(ladder.rungs.sum(1) - share * whole)))]
        return arithmetic.widths_at(counts, base.dropped)

    def met(widths: Widths) -> bool:
        return not check.unmet(widths)

    low, high = 0.0, 1.0
    if not met(at(high)):
        return DescentEnd(at(high), False, False)
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        low, high = (low, middle) if met(at(middle)) else (middle, high)
    return DescentEnd(at(high), True, False)
