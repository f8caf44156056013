"""A latency as the target: plans are measured until one is fast enough; a formula replaces the clock."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tui_pruner.core.model.analysis import Analysis
from tui_pruner.core.model.latency import Interval
from tui_pruner.core.pruning.plan import removal_of_step
from tui_pruner.core.pruning.removal import Removal
from tui_pruner.core.search.planner import TRIES, LatencyFound, LatencySearch, Planner
from tui_pruner.core.search.targets import latency_apart, parse_target
from tui_pruner.domain.errors import RequestError

Rule = Callable[[float], float]


def clock_of(planner: Planner, rule: Rule) -> Callable[[Removal], Interval]:
    """A clock that goes by the share of the operations that is left."""

    def measure(removal: Removal) -> Interval:
        taken = rule(planner.arithmetic.widths(removal).size.flops / planner.original.flops)
        return Interval(taken, taken * 0.99, taken * 1.01)

    return measure


def search_latency(nano: Analysis, share: float, rule: Rule, *targets: str) -> LatencyFound:
    planner = Planner(nano)
    return LatencySearch(planner, share, clock_of(planner, rule), [parse_target(text) for text in targets]).run()


@pytest.mark.parametrize(
    "rule",
    [lambda flops: flops, lambda flops: 0.3 + 0.7 * flops, lambda flops: flops**0.3, lambda flops: round(20 * flops) / 20],
    ids=["as the operations", "with a fixed part", "slowly", "in steps"],
)
def test_plan_is_as_fast_as_the_latency_target_within_one_percent(nano: Analysis, rule: Rule):
    found = search_latency(nano, 0.7, rule)
    assert found.budget.step is not None and found.tries <= TRIES
    assert 0.7 * 0.99 <= found.latency.median <= 0.7 * 1.01
    removal = removal_of_step(found.budget.step, nano.coupling)
    assert found.latency.median == rule(Planner(nano).arithmetic.widths(removal).size.flops / Planner(nano).original.flops)


def test_unreachable_latency_target_is_reported_with_the_latency_of_the_smallest_plan(nano: Analysis):
    found = search_latency(nano, 0.3, lambda flops: 0.5 + flops / 2)
    assert found.budget.step is None and found.tries == 1
    assert found.budget.stopped.startswith("latency=30% is out of reach: the smallest plan was measured at 5")
    assert found.least.median == found.latency.median > 0.5


def test_other_targets_hold_beside_a_latency_target(nano: Analysis):
    found = search_latency(nano, 0.9, lambda flops: flops, "params=40%")
    assert found.budget.step is not None
    assert found.budget.shares["params"] <= 0.4
    assert found.latency.median <= 0.9 * 1.01


def test_latency_target_is_separated_from_targets_on_size():
    others, share = latency_apart([parse_target(text) for text in ("latency=80%", "flops=70%", "latency=0.6")])
    assert [target.measure for target in others] == ["flops"] and share == 0.6
    assert latency_apart(others) == (others, None)
    with pytest.raises(RequestError, match="latency=5M' is an amount"):
        parse_target("latency=5M")
