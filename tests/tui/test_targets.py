"""Targets become pending cuts that can be changed; a scan measures each layer, and targets use it."""

import asyncio
from dataclasses import replace

import pytest
from textual.widgets import Input

from tests.tui.helpers import Desk, unwrapped
from tui_pruner.engine.processes import start_python
from tui_pruner.engine.search_messages import (
    LatencySearchResult,
    LatencyShare,
    PlanningResult,
    PlanPoint,
    RivalResult,
    ScanResult,
    ScanTrial,
    TargetPlan,
)
from tui_pruner.tui import colours
from tui_pruner.tui.drawing import drop
from tui_pruner.tui.job_specs.job import OpenCheckpoint
from tui_pruner.tui.job_specs.measurement import latency_search
from tui_pruner.tui.job_specs.search import Measured, Scanned, measured_plan, scanned, verdict
from tui_pruner.tui.opening import Opening
from tui_pruner.tui.panes.tree_row import heat_colour
from tui_pruner.tui.screens.prompts import PathPrompt

pytestmark = pytest.mark.asyncio(loop_scope="session")


def trial(number: int, layers: list[str], ratio: float, fall: float, channels: int = 8) -> ScanTrial:
    return ScanTrial(
        id=number, layer=layers[0], layers=layers, ratio=ratio, channels=channels, along=[], metric=0.9 - fall, drop=fall,
        parameters=1, flops=1,
    )  # fmt: skip


def result(trials: list[ScanTrial]) -> ScanResult:
    return ScanResult(name="metrics/mAP50-95(B)", baseline=0.9, metrics={}, images=16, parameters=1, flops=1, groups=trials)


async def ask_for_target(desk: Desk, text: str) -> None:
    await desk.press("t")
    await desk.until(lambda: isinstance(desk.app.screen, PathPrompt), "the question")
    await desk.press("ctrl+u", *text, "enter")


async def test_target_prompt_shows_the_reachable_range_and_its_cuts_become_pending(desk: Desk):
    await desk.press("t")
    await desk.until(lambda: "Reachable: flops" in desk.text, "the range")
    await desk.press(*"60%")
    assert desk.app.screen.query_one(Input).value == "60%", "what is typed replaces the example"
    await desk.press("escape")
    await ask_for_target(desk, "flops=70%")
    await desk.until(lambda: len(desk.state.pending.amounts) > 10, "the cuts")
    await desk.previewed()
    after, original = desk.state.preview.after, desk.state.session.original
    assert after.flops / original.flops == pytest.approx(0.7, abs=0.01)
    assert not desk.state.clash and not desk.state.session.steps
    assert any("by importance: flops 70" in said for said in desk.said)


async def test_two_targets_at_once_are_met_with_rounded_widths(desk: Desk):
    await desk.press("r", "r", "r")
    await ask_for_target(desk, "flops=80% params=2.2M")
    await desk.until(lambda: bool(desk.state.pending.amounts), "the cuts")
    await desk.previewed()
    after, original = desk.state.preview.after, desk.state.session.original
    assert after.flops <= 0.805 * original.flops and after.parameters <= 2.21e6
    assert all(amount.keep % 8 == 0 for amount in desk.state.pending.amounts.values())
    await desk.press("r", "r", "r")


@pytest.mark.parametrize(("text", "said"), [("flops=1%", "reachable is"), ("speed=2x", "cannot read the target 'speed=2x'")])
async def test_unreachable_or_invalid_target_is_reported_and_changes_nothing(desk: Desk, text: str, said: str):
    await desk.go("model.5")
    await desk.press("3", "0", "enter")
    asked = desk.state.pending
    await ask_for_target(desk, text)
    await desk.until(lambda: said in unwrapped(desk.app) or any(said in words for words in desk.said), "the reason")
    if isinstance(desk.app.screen, PathPrompt):
        await desk.press("escape")
    assert desk.state.pending == asked


async def test_layer_in_several_groups_has_the_worst_sensitivity():
    found = scanned(
        result([trial(0, ["a", "b"], 0.3, 0.01), trial(1, ["b"], 0.3, 0.2), trial(1, ["b"], 0.5, 0.4), trial(2, ["c"], 0.5, -0.01)]),
        "l2",
        "data.yaml",
    )
    assert found.heats == {"a": 0.01, "b": 0.2, "c": -0.01}
    assert found.layers["b"] == {0.3: 0.2, 0.5: 0.4} and found.heat("d") is None
    assert [(one.group, one.channels, one.drop) for one in found.drops.trials][:2] == [(0, 8, 0.01), (1, 8, 0.2)]


async def test_decrease_is_shown_with_its_sign_and_its_colour():
    assert [drop(fall) for fall in (0.0123, 0.0004, -0.003, 0.9)] == ["−.012", "0", "+.003", "−.900"]
    assert [heat_colour(fall, 0.5) for fall in (-0.1, 0.004, 0.006, 0.03)] == [
        colours.GOOD, colours.GOOD, colours.WARNING, colours.BAD,
    ]  # fmt: skip


async def show_scan(desk: Desk, found: Scanned | None) -> None:
    desk.controllers.target.take_scan(found)


async def test_scan_is_shown_in_the_tree_orders_it_and_weights_targets(desk: Desk):
    prunable = [layer.name for layer in desk.state.layers.values() if layer.status in ("free", "coupled", "linked")]
    await ask_for_target(desk, "flops=80%")
    await desk.until(lambda: bool(desk.state.pending.amounts), "the cuts by importance")
    by_importance = dict(desk.state.pending.amounts)
    await desk.press("c")
    try:
        trials = [trial(n, [prunable[n % len(prunable)]], 0.3, n % len(prunable) / 100) for n in range(300)]
        await show_scan(desk, scanned(result(trials), "l2", "data.yaml"))
        await desk.until(lambda: "@30%" in desk.text, "the column")
        await desk.go(prunable[1])
        assert "−.010" in desk.text and "alone, 16 images" in desk.text
        await desk.press("o", "o", "o")
        assert "by drop" in desk.text
        assert [row.layer.name for row in desk.tree.shown][: len(prunable)] == prunable
        await desk.press("escape")
        await ask_for_target(desk, "flops=80%")
        await desk.until(lambda: any("by the scan" in said for said in desk.said), "the cuts by the scan")
        assert dict(desk.state.pending.amounts) != by_importance
    finally:
        await show_scan(desk, None)


async def test_scan_runs_as_a_job_on_the_data_and_its_result_is_used(desk: Desk, demo_data):
    from tui_pruner.tui.job_specs.search import scan

    taken: list[Scanned] = []
    checkpoint = OpenCheckpoint(desk.state.checkpoint.opening, desk.state.opened.model, str(demo_data))
    wanted = scan(checkpoint, "l1", taken.append)
    parameters = wanted.parameters()
    assert (wanted.kind, parameters.criterion, parameters.data) == ("scan", "l1", str(demo_data))
    assert parameters.sha256 == desk.state.opened.model.sha256
    content = result([trial(0, ["model.0"], 0.1, 0.02), trial(1, ["model.1"], 0.1, 0.5)]).model_dump()
    outcome = await wanted.take(content)
    assert taken[0].criterion == "l1" and taken[0].heats == {"model.0": 0.02, "model.1": 0.5}
    assert outcome.figure.startswith("scanned by 2 trials on 16 images") and outcome.details[1] == ("−.500", "model.1 −10%")


async def test_latency_target_is_searched_in_a_job_and_its_cuts_become_pending(desk: Desk):
    taken: list[TargetPlan] = []
    asked = replace(desk.state.pending, round_to=8)
    checkpoint = OpenCheckpoint(Opening("digits.pt", device="cpu"), desk.state.opened.model, None)
    job = latency_search(checkpoint, desk.state.session, ["latency=70%", "params=2M"], asked, None, "", taken.append)
    parameters = job.parameters()
    assert (parameters.targets, parameters.round_to, parameters.plan) == (["latency=70%", "params=2M"], 8, None)
    plan = TargetPlan(amounts={"model.5": "keep:64"}, shares={"flops": 0.6}, scanned=False)
    share, least = LatencyShare(median=0.698, low=0.69, high=0.71), LatencyShare(median=0.4, low=0.39, high=0.41)
    result = LatencySearchResult(plan=plan, latency=share, least=least, tries=5, device="cpu", threads=2)
    outcome = await job.take(result.model_dump())
    assert taken == [plan]
    assert outcome.figure == "latency 69.8 % (69.0 to 71.0) of the checkpoint's, 5 plans timed on cpu"


async def test_unreachable_latency_is_reported_with_the_measured_time(desk: Desk):
    await ask_for_target(desk, "latency=1%")
    await desk.until(lambda: any("latency=1% is out of reach: the smallest plan was" in words for words in desk.said), "the reason")
    assert not desk.state.pending.amounts


def planned(stopped: str = "", cuts: str = "keep:64") -> PlanningResult:
    """What a search came to: two rivals, or out of reach."""
    rivals = [RivalResult(name=name, shares={"flops": 0.7}, distance_cut=cut, distance=far, outputs={})
              for name, cut, far in (("knapsack", 0.2, 0.024), ("uniform", 0.4, 0.105))]  # fmt: skip
    point = PlanPoint(targets=["flops=70%"], plan={"steps": []}, amounts={"model.5": cuts}, shares={"flops": 0.7}, chosen="knapsack",
                      rivals=rivals)  # fmt: skip
    if stopped:
        point = PlanPoint(targets=["flops=1%"], plan=None, shares={"flops": 0.2}, stopped=stopped)
    return PlanningResult(points=[point], scores="", original=None, images=48, held_out=16, trials=90, cached=False, seconds=12.0)


async def test_target_on_data_is_a_job_whose_plan_names_the_rivals_it_beat(desk: Desk, demo_data):
    taken: list[Measured] = []

    async def hand_over(found: Measured) -> None:
        taken.append(found)

    checkpoint = OpenCheckpoint(Opening("digits.pt", images=7), desk.state.opened.model, str(demo_data))
    job = measured_plan(checkpoint, desk.state.session, ["flops=70%", "params=2M"], "obs", 8, None, hand_over)
    parameters = job.parameters()
    assert (parameters.points, parameters.criterion, parameters.round_to, parameters.images) == ([["flops=70%", "params=2M"]], "obs", 8, 64)
    assert (job.kind, parameters.plan, parameters.scanned, parameters.validated) == ("plan", None, 7, 0)
    outcome = await job.take(planned().model_dump())
    assert outcome.figure == "knapsack plan, closest of 2 when refitted (0.024 from the original's outputs), 90 trials, 48 images"
    assert ("0.400→0.105", "uniform, flops 70.0 % left") in outcome.details
    assert taken[0].plan.amounts == {"model.5": "keep:64"} and taken[0].criterion == "obs"
    outcome = await job.take(planned("out of reach").model_dump())
    assert outcome.figure == "out of reach" and taken[1].plan.stopped == "out of reach"


async def test_plan_is_called_the_closest_only_if_it_is():
    point = planned().points[0]
    point.rivals[1].distance = 0.0235
    expected = (
        "knapsack plan, about as close as the closest of 2 when refitted, with the best worst output (0.024 from the original's outputs)"
    )
    assert verdict(point) == expected


async def test_prompt_with_data_announces_measured_plans_and_their_cuts_become_pending(desk: Desk, demo_data):
    results = [planned(), planned("flops=1% is out of reach: the smallest plan leaves 20 %")]

    async def answer(kind: str, scratch: str, log) -> asyncio.subprocess.Process:
        assert kind == "plan"
        content = f'{{"result": {results.pop(0).model_dump_json()}}}'
        return await start_python("-c", f"import sys; sys.stdin.readline(); print({content!r})", log=log)

    jobs, known = desk.queue, desk.state.checkpoint.data
    before = jobs._start
    await desk.press("t")
    await desk.until(lambda: "With data (d), plans are measured" in " ".join(desk.text.split()), "what data would give")
    await desk.press("escape")
    try:
        jobs._start, desk.state.checkpoint.data, desk.state.criterion_chosen = answer, str(demo_data), True
        await ask_for_target(desk, "flops=70%")
        await desk.until(lambda: bool(desk.state.pending.amounts), "the cuts")
        assert desk.state.pending.amounts["model.5"].keep == 64 and desk.state.pending.criterion == "l2"
        said = "1 cut in the knapsack plan, closest of 2 when refitted (0.024 from the original's outputs): flops 70.0 % left"
        await desk.until(lambda: any(words.startswith(said) for words in desk.said), "why")
        assert jobs.jobs[-1].parameters.criterion == "l2"
        desk.state.criterion_chosen = False
        asked = desk.state.pending
        await ask_for_target(desk, "flops=1%")
        await desk.until(lambda: any("flops=1% is out of reach" in words for words in desk.said), "the reason")
        assert desk.state.pending == asked
        assert jobs.jobs[-1].parameters.criterion == "obs", "where none was chosen, channels go by what a refit cannot repair"
    finally:
        jobs._start, desk.state.checkpoint.data, desk.state.criterion_chosen = before, known, False
