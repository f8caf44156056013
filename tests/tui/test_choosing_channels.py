"""How channels are chosen: rounded widths, the criterion, and the calibration that some criteria need."""

from pathlib import Path

import pytest

from tests.tui.test_many_layers import choose
from tui_pruner.domain.criteria import CRITERIA, criterion_of, scored_with
from tui_pruner.domain.cuts import Amount, Asked
from tui_pruner.tui.engine_session import requests_of
from tui_pruner.tui.opening import Opening
from tui_pruner.tui.screens.prompts import PathPrompt

pytestmark = pytest.mark.asyncio(loop_scope="session")
LAYER = "model.5"
NUMBERS = {criterion.name: number for number, criterion in enumerate(CRITERIA, start=1)}


async def test_rounding_cycles_through_its_steps_and_the_widths_follow(desk):
    await desk.go(LAYER)
    await desk.press("3", "0", "enter")
    widths = {}
    for step in (2, 4, 8, 16, 32, 1):
        await desk.press("r")
        assert desk.state.pending.round_to == step
        await desk.until(
            lambda: f"to multiples of {desk.state.pending.round_to}" in desk.text or desk.state.pending.round_to == 1, "the step"
        )
        await desk.previewed()
        widths[step] = desk.state.preview.layers[LAYER].out_after
    assert widths == {1: 90, 2: 90, 4: 92, 8: 88, 16: 96, 32: 96}
    assert "to multiples of" not in desk.text


async def test_every_request_has_the_criterion_and_the_rounding():
    asked = Asked({"a": Amount.share(30), "b": Amount(keep=40)}, criterion="lamp", round_to=8)
    assert [(r.layer, r.amount, r.criterion, r.round_to) for r in requests_of(asked)] == [
        ("a", "30%", "lamp", 8),
        ("b", "keep:40", "lamp", 8),
    ]


async def test_chooser_lists_every_criterion_of_the_engine(desk):
    assert [criterion.name for criterion in CRITERIA if not criterion.needs] == sorted(
        desk.state.opened.criteria, key=lambda name: NUMBERS[name]
    )
    assert criterion_of("unheard-of").label == "unheard-of"
    assert [scored_with(name) for name in ("obs", "hessian", "l2")] == [["obs"], ["taylor", "hessian"], []]


async def test_curve_and_cut_follow_the_chosen_criterion(desk):
    await desk.go("model.6.m.0.cv1")
    await desk.press("2", "5", "enter")
    curves = {"l2": list(desk.state.detail.curve)}
    for name in ("lamp", "random"):
        await choose(desk, "i", NUMBERS[name])
        await desk.until(lambda name=name: desk.state.detail.criterion == name, "the curve")
        assert f"Importance  {criterion_of(name).label}, weakest first" in desk.text
        curves[name] = list(desk.state.detail.curve)
    assert len({tuple(curve) for curve in curves.values()}) == 3
    assert desk.state.pending.criterion == "random"


async def test_criterion_that_needs_data_asks_for_it_and_its_scores_survive_a_killed_engine(
    start, demo_checkpoint: Path, demo_data: Path, tmp_path: Path, monkeypatch
):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    async with start(opening=Opening(str(demo_checkpoint), images=2)) as desk:
        await desk.go(LAYER)
        await desk.press("3", "0", "enter", "i")
        await desk.press(str(NUMBERS["taylor"]))
        await desk.until(lambda: isinstance(desk.app.screen, PathPrompt), "the question for the data")
        await desk.press(*str(demo_data), "enter")
        await desk.until(lambda: desk.queue.jobs, f"the job; the screen is\n{desk.text}")
        assert desk.queue.jobs[0].spec.kind == "calibrate"
        await desk.until(lambda: desk.state.detail is not None and desk.state.detail.criterion == "taylor", "the curve")
        assert desk.state.opened.criteria == [*(c.name for c in CRITERIA if not c.needs), "taylor", "hessian"]
        assert any("calibrated on 2 images" in note for note, _ in desk.state.notes)
        await choose(desk, "i", NUMBERS["obs"])
        await desk.until(lambda: desk.state.detail.criterion == "obs", "the curve by what a refit cannot repair")
        assert desk.state.opened.criteria[-3:] == ["taylor", "hessian", "obs"], "scores by other criteria stay"
        await choose(desk, "i", NUMBERS["taylor"])
        await desk.until(lambda: desk.state.detail.criterion == "taylor", "the curve by Taylor again, without another job")
        assert [job.spec.title for job in desk.queue.jobs] == ["by taylor and hessian", "by obs"]
        opened, curve = desk.state.opened, list(desk.state.detail.curve)
        desk.kill_engine()
        await desk.until(lambda: desk.state.opened is not opened and desk.state.detail is not None, "the engine again")
        assert desk.state.pending == Asked({LAYER: Amount.share(30)}, criterion="taylor")
        assert desk.state.detail.curve == curve and not desk.state.clash
        assert desk.state.opened.criteria[-3:] == ["taylor", "hessian", "obs"]
        desk.state.opened.criteria = [criterion.name for criterion in CRITERIA if not criterion.needs]
        desk.request(desk.state.pending)
        assert desk.state.pending == Asked({LAYER: Amount.share(30)}) and desk.queue.busy
        await desk.until(lambda: desk.state.pending.criterion == "taylor", "the criterion again, as in a session that is brought back")
