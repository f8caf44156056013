"""After a step all numbers are those of the current network: sizes, inputs, shares, and the order."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from tests.tui.helpers import Desk
from tui_pruner.domain.formatting import count
from tui_pruner.tui.panes.detail import _weight
from tui_pruner.tui.panes.tree import layers_lines
from tui_pruner.tui.panes.tree_row import inputs

pytestmark = pytest.mark.asyncio(loop_scope="session")

LAYER = "model.22.cv3.0.1"


async def apply_cut(desk: Desk, layer: str, digits: str) -> None:
    await desk.go(layer)
    await desk.press(*digits, "enter")
    await desk.previewed()
    await desk.press("a")
    await desk.until(lambda: bool(desk.state.session.steps) and not desk.state.pending, "the step")


async def test_cost_of_a_layer_follows_the_steps(desk: Desk):
    before = desk.state.layers[LAYER]
    await apply_cut(desk, "model.22.cv3.0.0", "50")
    await desk.go(LAYER)
    parameters, flops = desk.state.weight(before)
    assert before.parameters / 2 <= parameters < 0.51 * before.parameters and flops == before.flops // 2
    assert "64→32 in  64 out" in desk.text
    assert "37.0K→18.6K params" in desk.text
    row = next(row for row in desk.tree.rows if row.key == LAYER)
    assert (row.parameters, row.flops) == (parameters, flops)
    sections = sum(row.parameters for row in desk.tree.rows if row.kind == "section")
    assert sections == desk.state.session.current.parameters
    await desk.press("u")
    await desk.until(lambda: not desk.state.session.steps, "the undo")
    assert desk.state.weight(before) == (before.parameters, before.flops)
    await desk.pilot.resize_terminal(80, 24)
    await desk.until(lambda: "no steps: ctrl+r redoes one of 1" in desk.text, "the undone step in a small window")


async def test_block_lists_its_layers_with_their_present_sizes(desk: Desk):
    await apply_cut(desk, "model.4.cv2", "50")
    desk.tree.go_to("model.4")
    await desk.until(lambda: "6 layers" in desk.text, "the block")
    lines = desk.text.splitlines()
    (start,) = (number for number, line in enumerate(lines) if "channels  params   FLOPs  status" in line)
    table = [line.rpartition("\u2502\u2502")[2].strip(" \u2502").split() for line in lines[start + 1 : start + 7]]
    assert sorted(row[0] for row in table) == ["cv1", "cv2", "m.0.cv1", "m.0.cv2", "m.1.cv1", "m.1.cv2"]
    cut = next(row for row in table if row[0] == "cv2")
    layer = desk.state.layers["model.4.cv2"]
    assert cut[1:4] == ["64→32", count(layer.parameters // 2), count(layer.flops // 2)] and cut[4:] == ["cut", "−50%"]
    costs = [desk.state.weight(desk.state.layers[f"model.4.{row[0]}"])[1] for row in table]
    assert costs == sorted(costs, reverse=True)
    section = next(row for row in desk.tree.rows if row.kind == "section")
    listed = layers_lines(section, desk.state, 60, 8)
    assert len(listed) == 8 and listed[-1].plain == f"and {len(section.layers) - 6} more"


async def test_order_follows_the_sizes_after_the_steps(desk: Desk):
    await desk.press("o")
    assert desk.tree.order == "by FLOPs"
    first = desk.tree.shown[0].layer.name
    await apply_cut(desk, first, "80")
    costs = [row.flops for row in desk.tree.shown]
    assert costs == sorted(costs, reverse=True)
    assert desk.tree.shown[0].layer.name != first
    assert desk.view.tree.layer == first


async def test_inputs_and_shares_follow_a_step(desk: Desk):
    await desk.pilot.resize_terminal(200, 60)
    await apply_cut(desk, "model.7", "50")
    await desk.go("model.8.cv1")
    line = next(line for line in desk.text.splitlines() if " cv1 " in line and "reads" not in line and " 128 " in line)
    assert " 128 " in line
    block = next(row for row in desk.tree.rows if row.key == "model.8")
    assert inputs(block, desk.state) == (256, 128)


async def test_tall_pane_shows_the_rank_of_a_layer_and_the_step_that_cut_it(desk: Desk):
    await apply_cut(desk, "model.3", "25")
    await desk.go("model.3")
    await desk.until(lambda: "Block       3 Conv" in desk.text, "the block")
    costs = [desk.state.weight(layer)[1] for layer in desk.state.layers.values()]
    rank = 1 + sum(cost > desk.state.weight(desk.state.layers["model.3"])[1] for cost in costs)
    for words in (
        "reads       2 C2f        32×40×40",
        "read by     4 C2f        64×20×20",
        f"FLOPs       rank {rank} of 64 layers",
        "cut by      step 1: 25%",
    ):
        assert words in desk.text, words
    await desk.go("model.22.cv2.0.2")
    await desk.until(lambda: "read by     nothing: it is an output" in desk.text, "the head")
    assert all(words in desk.text for words in ("reads       15 C2f", "18 C2f       128×10×10", "21 C2f       256×5×5"))
    await desk.pilot.resize_terminal(80, 24)
    await desk.press("tab")
    assert "read by" not in desk.text


async def test_tall_pane_draws_the_importance_twice_as_high(desk: Desk):
    await desk.go("model.3")
    await desk.until(lambda: "Importance" in desk.text, "the curve")

    def height() -> int:
        lines = desk.text.splitlines()
        first = next(number for number, line in enumerate(lines) if "Importance" in line)
        return next(number for number, line in enumerate(lines[first:]) if "Also affected" in line)

    low = height()
    await desk.pilot.resize_terminal(200, 60)
    await desk.until(lambda: height() == low + 3, "the higher curve")


async def test_uncut_model_has_nothing_to_recover(desk: Desk):
    await desk.press("R")
    await desk.until(lambda: any("nothing to recover: apply a cut first" in said for said in desk.said), "the reason")


async def test_cost_that_does_not_fit_loses_the_values_before_and_no_digit():
    state: Any = SimpleNamespace(after=SimpleNamespace(parameters=684_000, flops=303_000_000))
    before, now = (147_712, 7_372_800), (9_280, 460_800)
    assert _weight(before, now, state, 60).plain == "148K→9.28K params 1.4%   7.37 MFLOPs→461 KFLOPs 0.2%"
    assert _weight(before, now, state, 49).plain == "9.28K params 1.4%   461 KFLOPs 0.2%"
