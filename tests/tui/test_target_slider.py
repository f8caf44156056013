"""The target slider: tree, sizes and map follow positions that were planned once; escape restores the pending cuts."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.tui.helpers import Desk
from tui_pruner.core.model.analysis import analyse
from tui_pruner.core.search.planner import Planner
from tui_pruner.core.search.targets import parse_target
from tui_pruner.domain.cuts import Asked
from tui_pruner.domain.formatting import giga
from tui_pruner.frameworks.ultralytics import open_model
from tui_pruner.tui.drawing import GLYPHS
from tui_pruner.tui.panes.front import SHARES, Dot, front_lines
from tui_pruner.tui.screens.stages import Stages
from tui_pruner.tui.session_stages import asked_reach

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def open_slider(desk: Desk) -> None:
    await desk.press("ctrl+t")
    await desk.until(lambda: desk.view.slider is not None and desk.view.slider.ladder is not None, "all positions")


def is_previewed(desk: Desk) -> bool:
    """Whether the engine has answered about exactly what is asked for."""
    return desk.state.preview is not None and desk.state.dry_run is not None


async def test_plans_of_one_descent_equal_those_of_separate_searches(demo_checkpoint: Path):
    analysis = analyse(open_model(str(demo_checkpoint)), 64)
    planner = Planner(analysis)
    shares = [0.9, 0.5, 0.2, 0.01]
    together = list(planner.plans("flops", shares))
    assert together == [planner.plan([parse_target(f"flops={share}")]) for share in shares]
    assert together[0].step is not None and together[-1].step is None and "out of reach" in together[-1].stopped


async def test_held_key_moves_tree_sizes_and_map_and_escape_restores_pending_cuts(desk: Desk):
    await desk.go("model.5")
    await desk.press("3", "0", "enter")
    await desk.previewed()
    before, size = desk.state.pending, desk.state.preview.after
    await open_slider(desk)
    assert not desk.state.pending and "100 % left" in desk.text and "reachable" in desk.text
    asked, sizes, whole = [], [], desk.state.session.original
    for _ in range(10):
        await desk.press("left")
        asked.append(desk.state.pending)
        sizes.append(desk.state.after.flops / whole.flops)
    assert sizes == pytest.approx(SHARES[:10], rel=0.011) and len({str(one) for one in asked}) == 10
    await desk.until(lambda: "50 % left" in desk.text, "the last position")
    assert f"{GLYPHS.arrow}{giga(desk.state.after.flops)}" in desk.line("GFLOPs")
    assert f"{desk.state.pending.amounts['model.5'].keep}" in desk.line("5 Conv")
    await desk.press("m", "left")
    await desk.until(lambda: "45 % left" in desk.text, "one further, on the map")
    width = desk.state.preview.layers["model.5"].out_after
    assert f"{GLYPHS.arrow}{width}" in desk.text and desk.view.pane == "slider"
    await desk.press("m", "escape")
    assert desk.state.pending == before and desk.view.pane == "tree" and not desk.bench.query_one("#slider").display
    assert desk.state.after == size, "at once, without a question to the engine"
    await desk.until(lambda: is_previewed(desk), "the engine's own word")
    assert desk.state.after == size


async def test_enter_keeps_the_cuts_and_the_engine_agrees(desk: Desk):
    await open_slider(desk)
    await desk.press(*["left"] * 6, "right")
    shown = desk.state.preview
    await desk.press("enter")
    await desk.until(lambda: is_previewed(desk) and desk.state.preview is not shown, "the engine's own figures")
    assert desk.state.preview.after == shown.after and desk.state.preview.layers == shown.layers
    assert shown.after.flops / desk.state.session.original.flops == pytest.approx(0.75, rel=0.011)
    assert any("75 % of the FLOPs left" in words for words in desk.said) and desk.view.slider is None


async def test_tree_shows_costs_with_the_cuts_of_the_slider(desk: Desk):
    await desk.press("home", "down")
    await open_slider(desk)
    whole = desk.state.pending_weights
    await desk.press(*["left"] * 10)
    await desk.until(lambda: "50 % left" in desk.text, "half")
    weights = desk.state.pending_weights
    assert not whole and weights["backbone"][1] + weights["neck"][1] + weights["head"][1] == desk.state.after.flops
    share = 100 * weights["model.5"][1] / desk.state.after.flops
    assert f"{share:.1f}%" in desk.line("5 Conv")
    await desk.press("escape")


async def test_slider_works_for_parameters_and_continues_from_applied_steps(desk: Desk):
    await desk.go("model.7")
    await desk.press("5", "0", "enter", "a")
    await desk.until(lambda: len(desk.state.session.steps) == 1, "a step")
    left = desk.state.session.current.parameters / desk.state.session.original.parameters
    await open_slider(desk)
    await desk.press("x")
    await desk.until(lambda: desk.view.slider.measure == "params" and desk.view.slider.ladder is not None, "the parameters")
    assert f"{100 * left:.0f} % left" in desk.text
    await desk.press("left")
    share = next(share for share in SHARES if share < left)
    assert desk.state.after.parameters / desk.state.session.original.parameters == pytest.approx(share, rel=0.011)
    await desk.press("u")
    await desk.until(lambda: not desk.state.session.steps, "the step undone")
    assert desk.view.slider is None, "its positions were those of other steps"


async def test_another_cut_ends_the_slider_and_a_late_position_is_ignored(desk: Desk):
    await desk.press("ctrl+t")
    await desk.until(lambda: len(desk.view.slider.positions) > 1, "the first position")
    first = desk.view.slider.number
    await desk.press("left", "enter")
    kept = desk.state.pending
    assert kept and desk.view.slider is None
    await open_slider(desk)
    assert desk.view.slider.number > first and len({one.share for one in desk.view.slider.positions}) == len(desk.view.slider.positions)
    await desk.press("left")
    desk.request(Asked())
    assert desk.view.slider is None and not desk.state.pending


async def test_slider_keys_move_the_ring_on_the_front(desk: Desk):
    desk.state.metrics.by_plan[""] = 0.9
    try:
        desk.bench.store.touch("metrics")
        await open_slider(desk)
        await desk.press("F")
        await desk.until(lambda: isinstance(desk.app.screen, Stages), "the front")
        await desk.press("left", "left")
        await desk.until(lambda: "○" in desk.text, "the ring")
        place = desk.line("○")
        before = desk.state.after.flops
        await desk.press("left")
        await desk.until(lambda: "○" in desk.text and desk.line("○") != place, "the ring further")
        assert desk.state.after.flops < before
        reach = asked_reach(desk.state, desk.view.slider, "flops")
        assert reach[0] == desk.state.after.flops and reach[1] > reach[0] > reach[2]
        await desk.press("escape", "escape")
        assert not desk.state.pending and desk.view.slider is None
    finally:
        desk.state.metrics.by_plan.clear()


async def test_ring_is_on_the_axis_without_a_forecast():
    lines = front_lines([Dot("a", 8e9, 0.9)], "flops", "mAP", 60, 10, reach=[4e9, 8e9, 1e9])
    assert "○" in lines[-2].plain and not any("○" in line.plain for line in lines[:-2])
    assert 25 < lines[-2].plain.index("○") < 40
