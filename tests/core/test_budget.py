"""Plans for a target: the reachable range, an accuracy of one percent, and all rules."""

from __future__ import annotations

import numpy as np
import pytest

from tui_pruner.core.model.analysis import Analysis, analyse
from tui_pruner.core.pruning.removal import NOTHING
from tui_pruner.core.pruning.session import PruningSession
from tui_pruner.core.search.ladders import Rules
from tui_pruner.core.search.planner import Budget, Planner
from tui_pruner.core.search.sensitivity import Sensitivity, by_sensitivity, drop_curve
from tui_pruner.core.search.targets import Pricing, Target, parse_target
from tui_pruner.domain.cuts import Request
from tui_pruner.domain.errors import RequestError
from tui_pruner.frameworks.ultralytics import build_from_yaml


def planned(analysis: Analysis, *targets: str, rules: Rules | None = None, criterion: str = "l2") -> Budget:
    return Planner(analysis, rules=rules).plan([parse_target(text) for text in targets], criterion)


def session_with(analysis: Analysis, found: Budget) -> PruningSession:
    """The session that opens a found step as a plan."""
    session = PruningSession(analysis)
    assert found.step is not None
    session.load(session.plan.model_copy(update={"steps": [found.step]}).plain())
    return session


@pytest.mark.parametrize(
    ("text", "target"),
    [
        ("flops=70%", Target("flops", share=0.7)),
        ("params = 0.5", Target("params", share=0.5)),
        ("bytes=4M", Target("bytes", amount=4e6)),
        ("params=1500000", Target("params", amount=1.5e6)),
    ],
)
def test_target_is_parsed_as_a_share_or_an_amount_to_keep(text: str, target: Target):
    assert parse_target(text) == target


@pytest.mark.parametrize("text", ["flops", "speed=70%", "flops=many", "flops=0%", "flops=100%", "flops=170%", "flops=-5%", "params=1"])
def test_invalid_target_is_refused_with_its_text(text: str):
    with pytest.raises(RequestError, match=text):
        parse_target(text)


def test_percentage_without_percent_sign_gets_a_suggestion():
    with pytest.raises(RequestError, match="did you mean flops=70%"):
        parse_target("flops=70")


@pytest.mark.parametrize("text", ["flops=70%", "params=40%", "bytes=60%", "params=2M"])
def test_target_is_met_within_one_percent_and_the_plan_has_the_predicted_size(nano: Analysis, text: str):
    found = planned(nano, text)
    target = parse_target(text)
    session = session_with(nano, found)
    share = target.share_of(session.arithmetic.whole.size)
    assert 0.99 * share <= found.shares[target.measure] <= share
    assert session.widths.size == found.size


def test_planned_step_is_proved(nano: Analysis):
    session = session_with(nano, planned(nano, "flops=50%"))
    assert session.steps[0].step.name == "flops 50 %"
    assert session.prove(session.steps[0]).equal


def test_same_target_gives_the_same_plan(nano: Analysis):
    assert planned(nano, "flops=70%", criterion="random") == planned(nano, "flops=70%", criterion="random")


def test_two_targets_are_both_met_and_the_harder_one_within_one_percent(nano: Analysis):
    found = planned(nano, "flops=90%", "params=50%")
    assert found.shares["flops"] <= 0.9
    assert 0.495 <= found.shares["params"] <= 0.5


def test_linked_halves_and_attention_heads_lose_equally_many():
    attention = analyse(build_from_yaml("yolo11n.yaml", classes=2), imgsz=64)
    session = session_with(attention, planned(attention, "params=45%"))  # opening it checks every link
    heads = next(link for link in attention.coupling.links if link.heads)
    lost = [sum(len(session.removal.of(attention.coupling.groups[n])) for n in part) for part in heads.parts]
    assert len(set(lost)) == 1 and lost[0] > 0


def test_every_changed_width_is_a_multiple_and_not_below_its_floor(nano: Analysis):
    session = session_with(nano, planned(nano, "flops=60%", rules=Rules(floor=0.5, round_to=8)))
    cut = [group for group in nano.coupling.groups if len(session.removal.of(group))]
    assert len(cut) > 5
    assert all(session.removal.left(group) % 8 == 0 for group in cut)
    assert all(session.removal.left(group) >= 0.5 * group.channels for group in cut)


def test_protected_layers_keep_all_channels_and_unknown_ones_are_refused(nano: Analysis):
    session = session_with(nano, planned(nano, "flops=80%", rules=Rules(protected=("8", "model.9.*", "model.7"))))
    for name, layer in nano.layers.items():
        if name.split(".")[1] in ("7", "8", "9"):
            assert all(len(session.removal.of(group)) == 0 for group in nano.coupling.output_groups(layer.path)), name
    with pytest.raises(RequestError, match="no layer 'model99'"):
        planned(nano, "flops=80%", rules=Rules(protected=("model99",)))


def test_unreachable_target_reports_the_reachable_range(nano: Analysis):
    planner = Planner(nano, rules=Rules(floor=0.75))
    found = planner.plan([parse_target("flops=30%")])
    least = planner.range.least["flops"]
    assert found.step is None and 0.5 < least < 0.7
    assert found.shares["flops"] == pytest.approx(least, abs=1e-12)
    assert f"reachable is {100 * least:.1f} % to 100.0 %" in found.stopped and "floor of 75%" in found.stopped
    reached = planner.plan([Target("flops", share=least)])
    assert reached.step is not None and reached.shares["flops"] == pytest.approx(least, abs=1e-12)


def test_target_between_two_rounded_widths_reports_the_nearest(nano: Analysis):
    others = tuple(name for name in nano.layers if name != "model.7")
    found = planned(nano, "params=97%", rules=Rules(round_to=128, protected=others))
    assert found.step is None
    assert "falls between two widths: the nearest above is 100.0 %" in found.stopped and "--round-to than 128" in found.stopped


def test_target_above_the_current_size_is_refused(nano: Analysis):
    with pytest.raises(RequestError, match="not below the checkpoint's"):
        planned(nano, "params=300M")


def test_channels_removed_earlier_stay_removed_and_count_towards_the_target(nano: Analysis):
    session = PruningSession(nano)
    session.apply([Request("8", "50%")])
    planner = Planner(nano, session.removal)
    assert planner.range.most["params"] == pytest.approx(session.widths.size.parameters / session.arithmetic.whole.size.parameters)
    found = planner.plan([parse_target("params=70%")])
    assert found.step is not None
    session.load(session.plan.model_copy(update={"steps": [*session.plan.steps, found.step]}).plain())
    assert session.widths.size == found.size
    assert 0.693 <= found.shares["params"] <= 0.7


@pytest.mark.parametrize("savings_exponent", [0.0, 1.0])
def test_groups_without_cost_are_cut_first_down_to_their_floor(nano: Analysis, savings_exponent: float):
    free = nano.coupling.output_groups("model.7.conv")[0]
    planner = Planner(nano)

    def costs(ladder):
        return np.arange(len(ladder.rungs)) * (0.0 if free.number in ladder.groups else 1.0)

    found = planner.plan([parse_target("params=85%")], pricing=Pricing(costs, savings_exponent))
    assert found.step is not None
    assert [cut.amount for cut in found.step.cuts if cut.layer == "model.7"] == ["keep:64"]
    removed = sum(len(indices) for cut in found.step.cuts for dims in cut.removes.values() for indices in dims.values())
    assert removed >= 192
    few = planner.plan([parse_target("params=97%")], pricing=Pricing(costs, savings_exponent))
    assert few.step is not None and [cut.layer for cut in few.step.cuts] == ["model.7"]


def test_drop_curve_is_monotonic_and_ends_with_the_whole_metric():
    curve = drop_curve({0.5: 0.1, 0.25: -0.02, 0.75: 0.05}, 0.9, np.array([0.0, 0.25, 0.375, 0.5, 0.75, 0.875, 1.0]))
    assert curve == pytest.approx([0.0, 0.0, 0.05, 0.1, 0.1, 0.5, 0.9])


def test_groups_that_a_scan_found_sensitive_are_cut_less(nano: Analysis):
    planner = Planner(nano)
    layer = nano.coupling.output_groups("model.7.conv")[0].number
    drops = {group.number: {0.5: 0.8 if group.number == layer else 0.01} for group in nano.coupling.groups if group.prunable}
    scan = Sensitivity(0.9, drops)
    assert scan.covers(planner.ladders.ladders)
    assert not Sensitivity(0.9, {layer: {0.5: 0.1}}).covers(planner.ladders.ladders)
    by_scan = planner.plan([parse_target("params=70%")], pricing=by_sensitivity(nano, NOTHING, "l2", scan))
    by_importance = planner.plan([parse_target("params=70%")])
    assert by_scan.step is not None and by_importance.step is not None
    assert "model.7" in {cut.layer for cut in by_importance.step.cuts}
    assert "model.7" not in {cut.layer for cut in by_scan.step.cuts}
