"""Targets as messages: what can be reached, and the amounts that reach one."""

from __future__ import annotations

from collections.abc import Sequence

from tui_pruner.core.budget.costs import Sensitivity, by_sensitivity
from tui_pruner.core.budget.descent import Pricing
from tui_pruner.core.budget.planning import Planner
from tui_pruner.core.budget.targets import Target
from tui_pruner.engine.protocol import ScanDrops, TargetPlan, TargetReach


def reach_view(planner: Planner) -> TargetReach:
    """The range of every measure."""
    reach = planner.range
    return TargetReach(least=reach.least, most=reach.most)


def target_view(planner: Planner, targets: Sequence[Target], criterion: str, scan: ScanDrops | None) -> TargetPlan:
    """The amounts that meet targets, or what stopped the search.

    Raises:
        RequestError: the checkpoint has no more than that already, or no such criterion.
    """
    pricing = pricing_of(planner, criterion, scan)
    found = planner.plan(targets, criterion, pricing)
    amounts = {cut.layer: cut.amount for cut in found.step.cuts} if found.step else {}
    return TargetPlan(amounts=amounts, shares=found.shares, scanned=pricing is not None, stopped=found.stopped)


def pricing_of(planner: Planner, criterion: str, scan: ScanDrops | None) -> Pricing | None:
    """Prices by a scan, where it says something of everything that can be cut."""
    if scan is None:
        return None
    groups = planner.analysis.coupling.groups
    drops: dict[int, dict[float, float]] = {}
    for trial in scan.trials:
        if 0 <= trial.group < len(groups):
            drops.setdefault(trial.group, {})[trial.channels / groups[trial.group].channels] = trial.drop
    measured = Sensitivity(scan.baseline, drops)
    if not measured.covers(planner.ladders.ladders):
        return None
    return by_sensitivity(planner.analysis, planner.base, criterion, measured)
