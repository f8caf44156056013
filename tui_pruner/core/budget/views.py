"""Targets as messages: what can be reached, and the amounts that reach one."""

from __future__ import annotations

from collections.abc import Sequence

from tui_pruner.core.budget.costs import Sensitivity
from tui_pruner.core.budget.planning import Budget, Planner
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
    pricing = planner.priced_by(measured(planner, scan) if scan else None, criterion)
    return plan_view(planner.plan(targets, criterion, pricing), pricing is not None)


def plan_view(found: Budget, scanned: bool) -> TargetPlan:
    """The amounts of a budget's cuts, by layer."""
    amounts = {cut.layer: cut.amount for cut in found.step.cuts} if found.step else {}
    return TargetPlan(amounts=amounts, shares=found.shares, scanned=scanned, stopped=found.stopped)


def measured(planner: Planner, scan: ScanDrops) -> Sensitivity:
    """A scan's message by groups and the shares of their channels that were gone."""
    groups = planner.analysis.coupling.groups
    drops: dict[int, dict[float, float]] = {}
    for trial in scan.trials:
        if 0 <= trial.group < len(groups):
            drops.setdefault(trial.group, {})[trial.channels / groups[trial.group].channels] = trial.drop
    return Sensitivity(scan.baseline, drops)
