"""A plan by the response of the predictions to every single channel, updated after each removal: greedy elimination along the ladders."""

from __future__ import annotations

import copy
import heapq
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from tui_pruner.core.pruning.plan import Cut, Step, removes_of
from tui_pruner.core.pruning.preview import Widths
from tui_pruner.core.pruning.removal import Removal
from tui_pruner.core.recovery.response import Elimination, Response
from tui_pruner.core.search.ladders import Ladder
from tui_pruner.core.search.planner import Budget, Planner, name_of
from tui_pruner.core.search.sensitivity import layer_of
from tui_pruner.core.search.targets import NOTHING_SAVED, Goal, GoalCheck, Target, goals_of, shares_left
from tui_pruner.core.tracing.coupling_map import Indices

STRIDE = 32
"""A wide layer loses several channels at a time: its number of rungs divided by this."""


@dataclass(frozen=True)
class Move:
    """A ladder's next rung, the channels that are removed there, and what they cost by the predictions."""

    rung: int
    places: dict[int, Indices]
    cost: float


class Descending:
    """A greedy search: remove the channels with the lowest cost per saving until the goals are met."""

    def __init__(self, planner: Planner, response: Response, goals: Sequence[Goal]) -> None:
        self._check = GoalCheck(goals, planner.original, planner.rules.tolerance)
        self._elimination = Elimination(response)
        self._elimination.begin(planner.base)
        self._ladders = planner.ladders.ladders
        self._rungs = [0] * len(self._ladders)
        self._strides = [max(1, ladder.last // STRIDE) if len(ladder.groups) == 1 else 1 for ladder in self._ladders]
        self._moves: dict[int, Move] = {}
        self._waiting: list[tuple[float, int]] = []
        self._begun = False
        self._of_group: dict[int, set[int]] = {}
        for number, ladder in enumerate(self._ladders):
            for group in ladder.groups:
                self._of_group.setdefault(group, set()).add(number)
        self.widths = planner.arithmetic.widths(planner.base)
        self.gone: dict[int, dict[int, list[Indices]]] = {}
        """By ladder and group the channels that were removed."""

    def run(self) -> bool:
        """Run the search; whether the goals were met."""
        self._descend()
        return not self._check.unmet(self.widths)

    @property
    def goals(self) -> Sequence[Goal]:
        """The goals of the search."""
        return self._check.goals

    def toward(self, goals: Sequence[Goal]) -> Descending:
        """Descend until a step would overshoot these goals, and return a copy of the search that can continue to them."""
        self._check = replace(self._check, goals=goals)
        self._descend(overshooting=False)
        found = copy.copy(self)
        found._elimination = self._elimination.copied()
        found._rungs, found._strides, found._waiting = [*self._rungs], [*self._strides], [*self._waiting]
        found._moves = {**self._moves}
        found.gone = {number: {group: [*places] for group, places in groups.items()} for number, groups in self.gone.items()}
        return found

    def _descend(self, overshooting: bool = True) -> None:
        """Descend until the goals are met, or without `overshooting` until a step would overshoot them."""
        if not self._begun:
            self._begun = True
            self._waiting = [(self._price(number), number) for number in range(len(self._ladders))]
            heapq.heapify(self._waiting)
        while self._waiting and (unmet := self._check.unmet(self.widths)):
            known, number = heapq.heappop(self._waiting)
            price = self._price(number)
            if self._waiting and price > self._waiting[0][0]:
                heapq.heappush(self._waiting, (price, number))
                continue
            below = self._below(number)
            if self._check.overshoots(below, unmet):
                if not overshooting:
                    heapq.heappush(self._waiting, (known, number))
                    return
                if self._strides[number] > 1:
                    self._strides[number] = 1
                    self._moves.pop(number, None)
                    heapq.heappush(self._waiting, (self._price(number), number))
                continue
            fresh = self._take(number, below)
            self._waiting = [(self._price(other) if other in fresh else price_then, other) for price_then, other in self._waiting]
            if self._rungs[number] < self._ladders[number].last:
                self._waiting.append((self._price(number), number))
            heapq.heapify(self._waiting)

    def _take(self, number: int, below: Widths) -> set[int]:
        """Take a ladder's next rung; return the ladders whose costs changed."""
        move = self._move(number)
        for group, places in move.places.items():
            self.gone.setdefault(number, {}).setdefault(group, []).append(places)
        changed = self._elimination.remove(move.places)
        self.widths, self._rungs[number] = below, move.rung
        fresh = {other for group in changed for other in self._of_group.get(group, ())}
        for other in (number, *fresh):
            self._moves.pop(other, None)
        return fresh

    def _move(self, number: int) -> Move:
        if number not in self._moves:
            ladder, rung = self._ladders[number], self._rungs[number]
            then = min(ladder.last, rung + self._strides[number])
            places, cost = {}, 0.0
            for group, count in zip(ladder.groups, self._change(ladder, rung, then), strict=True):
                if count:
                    costs = self._elimination.costs(group)
                    places[group] = np.sort(np.argsort(costs, kind="stable")[:count])
                    cost += float(costs[places[group]].sum())
            self._moves[number] = Move(then, places, cost)
        return self._moves[number]

    def _change(self, ladder: Ladder, rung: int, then: int) -> Indices:
        change: Indices = ladder.rungs[then] - ladder.rungs[rung]
        return change

    def _price(self, number: int) -> float:
        """The cost of a ladder's next rung, divided by what it saves of the measures whose goals are not met."""
        if self._rungs[number] >= self._ladders[number].last:
            return float("inf")
        saved = self._check.saved(self.widths, self._below(number))
        return self._move(number).cost / max(saved, NOTHING_SAVED)

    def _below(self, number: int) -> Widths:
        """The widths after taking the next rung of a ladder."""
        ladder = self._ladders[number]
        return self.widths.losing(ladder.groups, self._change(ladder, self._rungs[number], self._move(number).rung))


@dataclass
class Eliminations:
    """The plans that elimination finds for several targets, one after the other.

    Where each target asks for less of the same measure than the one before, they share one descent; each plan is the one that its target
    alone would get.
    """

    planner: Planner
    response: Response
    _begun: Descending | None = None

    def plan(self, targets: Sequence[Target], criterion: str) -> Budget | None:
        """One target's plan; None where elimination does not reach it.

        Raises:
            RequestError: the checkpoint has no more than that already.
        """
        goals = goals_of(targets, self.planner.original)
        search = self._sharing(goals) if len(goals) == 1 else Descending(self.planner, self.response, goals)
        if not search.run():
            return None
        shares = shares_left(search.widths.size, self.planner.original)
        cuts = [cut_of(self.planner, search, number, criterion) for number in sorted(search.gone)]
        return Budget(Step(name=name_of(goals), cuts=cuts), search.widths.size, shares)

    def _sharing(self, goals: Sequence[Goal]) -> Descending:
        begun = self._begun
        if begun is None or begun.goals[0].measure != goals[0].measure or begun.goals[0].share <= goals[0].share:
            begun = self._begun = Descending(self.planner, self.response, goals)
        return begun.toward(goals)


def cut_of(planner: Planner, search: Descending, number: int, criterion: str) -> Cut:
    """One ladder's cut, named by the first layer that produces its channels."""
    coupling, gone = planner.analysis.coupling, search.gone[number]
    first = coupling.groups[planner.ladders.ladders[number].groups[0]]
    removal = Removal({group: np.sort(np.concatenate(places)) for group, places in gone.items()})
    return Cut(
        layer=layer_of(planner.analysis, first),
        amount=f"keep:{search.widths.axis(first.producers[0].axis)}",
        criterion=criterion,
        round_to=planner.rules.round_to,
        removes=removes_of(removal, coupling),
    )
