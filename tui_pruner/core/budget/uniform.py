"""The plan that every other one must beat: one share of every ladder."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tui_pruner.core.budget.descent import Landing
from tui_pruner.core.budget.ladders import Ladder
from tui_pruner.core.budget.targets import Goal, shares_left
from tui_pruner.core.preview import Arithmetic, Widths
from tui_pruner.core.removal import Removal

HALVINGS = 24


def uniform(arithmetic: Arithmetic, base: Removal, ladders: Sequence[Ladder], goals: Sequence[Goal]) -> Landing:
    """The least share, taken of every ladder alike, that meets the goals; each ladder goes to the rung that is nearest to it."""
    gone = base.counts(arithmetic.analysis.coupling)
    channels = [sum(base.left(arithmetic.analysis.coupling.groups[number]) for number in ladder.groups) for ladder in ladders]

    def at(share: float) -> Widths:
        counts = gone.copy()
        for ladder, whole in zip(ladders, channels, strict=True):
            counts[list(ladder.groups)] += ladder.rungs[int(np.argmin(np.abs(ladder.rungs.sum(1) - share * whole)))]
        return Widths(arithmetic, counts, arithmetic.sizes - arithmetic.shares @ counts, base.dropped)

    def met(widths: Widths) -> bool:
        left = shares_left(widths.size, arithmetic.whole.size)
        return all(left[goal.measure] <= goal.share for goal in goals)

    low, high = 0.0, 1.0
    if not met(at(high)):
        return Landing(at(high), False, False)
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        low, high = (low, middle) if met(at(middle)) else (middle, high)
    return Landing(at(high), True, False)
