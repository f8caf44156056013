"""Cut every group of a model alone and prove each cut: what the program can promise for an architecture."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from tui_pruner.core.analysis import Analysis
from tui_pruner.core.groups import ChannelGroup
from tui_pruner.core.linking import Demand, Wishes, obey_links, unit_of
from tui_pruner.core.proof import Original, prove
from tui_pruner.core.removal import NOTHING, Removal
from tui_pruner.core.requests import Request
from tui_pruner.core.resolve import choose
from tui_pruner.core.surgery import cut
from tui_pruner.errors import PrunerError

RATIO = 0.25


@dataclass(frozen=True)
class Trial:
    """One group cut alone: "equal", "approximate", "failed" or "locked", and what is to be said about it."""

    group: ChannelGroup
    outcome: str
    detail: str


def removal_of_one(analysis: Analysis, group: ChannelGroup, ratio: float = RATIO) -> Removal:
    """A share of a group's channels, the least important, and of every group that is linked to it."""
    wishes = Wishes()
    name = group.producers[0].axis.module
    unit = unit_of(analysis.coupling, group)
    wishes.add(group, Demand(max(1, round(group.channels * ratio / unit)) * unit, name, Request(name, f"{ratio:.0%}")))
    obey_links(analysis.coupling, NOTHING, wishes)
    groups = analysis.coupling.groups
    return Removal({number: choose(analysis, groups[number], demands[0], NOTHING) for number, demands in wishes.demands.items()})


def cover(analysis: Analysis) -> Iterator[Trial]:
    """Try every group that some layer produces."""
    original = Original(analysis.checkpoint.model)
    for group in analysis.coupling.groups:
        if not group.producers:
            continue
        if not group.prunable:
            yield Trial(group, "locked", group.reason)
            continue
        try:
            yield attempt(analysis, group, original)
        except (PrunerError, RuntimeError, ValueError, IndexError, TypeError, AttributeError) as error:
            yield Trial(group, "failed", f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}")


def attempt(analysis: Analysis, group: ChannelGroup, original: Original | None = None) -> Trial:
    """Cut one group and compare with the masked twin."""
    removal = removal_of_one(analysis, group)
    model = analysis.checkpoint.model
    proof = prove(model, cut(model, analysis.coupling, removal), analysis.coupling, removal, original=original)
    figure = f"relative difference {proof.relative_difference:.1e}, effect {proof.effect:.1e}"
    if not proof.equal:
        return Trial(group, "failed", proof.failure or figure)
    return Trial(group, "approximate" if proof.approximate else "equal", figure)
