"""Cut every group of a model alone, then all groups at once at random, and prove each cut: what can be promised for an architecture."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from copy import copy
from dataclasses import dataclass, field

import numpy as np

from tui_pruner.core.analysis import Analysis
from tui_pruner.core.groups import ChannelGroup, CouplingMap
from tui_pruner.core.linking import Wishes, ask_alone
from tui_pruner.core.original import Original
from tui_pruner.core.proof import prove
from tui_pruner.core.removal import NOTHING, Removal
from tui_pruner.core.resolve import choose
from tui_pruner.core.surgery import cut
from tui_pruner.errors import PrunerError

RATIO = 0.25
LEAST, MOST = 0.05, 0.60
PLANS = 3


@dataclass(frozen=True)
class Outcome:
    """What became of a cut: "equal", "approximate", "failed" or "locked", and what is to be said about it."""

    outcome: str
    detail: str


@dataclass(frozen=True)
class Trial(Outcome):
    """One group cut alone."""

    group: ChannelGroup


@dataclass(frozen=True)
class PlanTrial(Outcome):
    """All groups cut at once, each by a ratio of its own: how many were cut, and how many that could be stayed whole."""

    seed: int
    cut: int
    whole: int


def removal_of_one(analysis: Analysis, group: ChannelGroup, ratio: float = RATIO) -> Removal:
    """A share of a group's channels, the least important, and of every group that is linked to it."""
    wishes = Wishes()
    ask_alone(analysis.coupling, group, ratio, wishes)
    groups = analysis.coupling.groups
    return Removal({number: choose(analysis, groups[number], demands[0], NOTHING) for number, demands in wishes.demands.items()})


def random_removal(coupling: CouplingMap, seed: int) -> Removal:
    """Random channels of every group at once, each by a random ratio.

    Where a group's links leave no room for its own demand beside those already made, it takes what they give it, or stays whole.
    """
    generator = np.random.default_rng(seed)
    wishes = Wishes()
    free = [group for group in coupling.groups if group.prunable]
    for place in generator.permutation(len(free)):
        if free[place].number not in wishes.demands:
            wider = Wishes(demands=copy(wishes.demands))
            ask_alone(coupling, free[place], generator.uniform(LEAST, MOST), wider)
            wishes = wishes if wider.contradictions else wider
    counts = {number: demands[0].count for number, demands in wishes.demands.items()}
    return Removal(
        {n: np.sort(generator.choice(coupling.groups[n].channels, count, replace=False)) for n, count in counts.items() if count > 0}
    )


@dataclass
class Coverage:
    """The trials of one model; its original is run once for all of them."""

    analysis: Analysis
    original: Original = field(init=False)

    def __post_init__(self) -> None:
        self.original = Original(self.analysis.checkpoint.model)

    def trials(self) -> Iterator[Trial]:
        """Try every group that some layer produces."""
        for group in self.analysis.coupling.groups:
            if group.producers:
                found = self.alone(group) if group.prunable else Outcome("locked", group.reason)
                yield Trial(found.outcome, found.detail, group)

    def plans(self, count: int = PLANS) -> Iterator[PlanTrial]:
        """Cut everything at once, from seed 0 on."""
        free = sum(group.prunable for group in self.analysis.coupling.groups)
        for seed in range(count):
            removal = random_removal(self.analysis.coupling, seed)
            found = self.proved(removal)
            yield PlanTrial(found.outcome, found.detail, seed, len(removal.places), free - len(removal.places))

    def alone(self, group: ChannelGroup) -> Outcome:
        """Cut one group."""
        try:
            removal = removal_of_one(self.analysis, group)
        except (PrunerError, RuntimeError, ValueError, IndexError, TypeError) as error:
            return Outcome("failed", said(error))
        return self.proved(removal)

    def proved(self, removal: Removal) -> Outcome:
        """Cut and compare with the masked twin."""
        model, coupling = self.analysis.checkpoint.model, self.analysis.coupling
        try:
            proof = prove(model, cut(model, coupling, removal), coupling, removal, original=self.original)
        except (PrunerError, RuntimeError, ValueError, IndexError, TypeError, AttributeError) as error:
            return Outcome("failed", said(error))
        figure = f"relative difference {proof.relative_difference:.1e}, effect {proof.effect:.1e}"
        if not proof.equal:
            return Outcome("failed", proof.failure or figure)
        return Outcome("approximate" if proof.approximate else "equal", figure)


def said(error: Exception) -> str:
    """An error's kind and first line."""
    return f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"


def cover(analysis: Analysis) -> Iterator[Trial]:
    """Try every group of a model that some layer produces."""
    return Coverage(analysis).trials()


def attempt(analysis: Analysis, group: ChannelGroup) -> Outcome:
    """Cut one group alone."""
    return Coverage(analysis).alone(group)


@contextmanager
def undisturbed() -> Iterator[None]:
    """Spare the garbage collector what is there already: with a model's thousand modules in memory it takes a third of the time."""
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()
