"""Motion keys of vim only move the cursor; the footer shows the app's main features."""

from __future__ import annotations

import pytest
from rich.text import Text

from tests.tui.helpers import Desk
from tui_pruner.tui.actions import DETECTIONS, SLIDER, STAGES, STEPS_PANE
from tui_pruner.tui.controllers import ACTIONS
from tui_pruner.tui.panes.bars import fitting, footer_lines, with_short_labels, with_steps_key

MOTIONS = {"j", "k", "g", "G", "ctrl+d", "ctrl+u"}
shared = pytest.mark.asyncio(loop_scope="session")


def test_actions_use_no_motion_keys_of_vim():
    assert not [action.id for action in ACTIONS if not action.pane and MOTIONS & set(action.keys.split(","))]


@shared
async def test_motion_keys_move_the_cursor_of_the_tree_and_of_the_map(desk: Desk):
    rows, jobs = len(desk.tree.shown), list(desk.queue.jobs)
    await desk.press("j", "j", "k")
    assert desk.view.tree.cursor == 2
    await desk.press("G")
    assert desk.view.tree.cursor == rows - 1
    await desk.press("g", "ctrl+d")
    half = desk.view.tree.cursor
    assert half > 5
    await desk.press("ctrl+u")
    assert desk.view.tree.cursor == 0
    await desk.press("m", "G")
    assert desk.view.tree.key == "model.22"
    await desk.press("g", "j")
    assert desk.view.tree.key != "model.0"
    assert not desk.state.pending and desk.queue.jobs == jobs


@shared
async def test_palette_does_not_open_over_a_dialog(desk: Desk):
    await desk.press("B")
    dialog = desk.app.screen
    await desk.press("ctrl+p")
    assert desk.app.screen is dialog
    await desk.press("escape", "ctrl+p")
    assert desk.app.screen is not desk.bench
    await desk.press("escape")


def test_footer_shows_the_keys_of_the_apps_main_features():
    def keys(width: int) -> set[str]:
        return {part.split()[0] for part in footer_lines(ACTIONS, width, 1)[0].plain.strip().split("  ")}

    assert {"S", "t", "R", "L", "X", "O", "o", "i", "B", "r", "u", "m", "e"} <= keys(260)
    assert {"S", "t", "R", "u", "m", "e", "w"} <= keys(120)
    assert {"u", "m", "e", "tab", "?"} <= keys(80)
    assert {"L", "C", "O", "H"} <= keys(200), "the recipe and the lineage before the order of the rows"
    for width in range(40, 260):
        assert footer_lines(ACTIONS, width, 1)[0].cell_len <= width


def test_narrow_footers_keep_the_way_back_and_the_key_of_the_hidden_steps():
    assert "tab pane" in footer_lines(ACTIONS, 80, 1, pane=STEPS_PANE)[0].plain
    stages = [action for action in ACTIONS if action.pane == STAGES and action.footer]
    for width, words in ((80, "enter go  space compare"), (120, "enter go there  space compare with")):
        line = fitting(with_short_labels(stages, width), width).plain
        assert words in line and "tab tree/front" in line and "escape back" in line and len(line) <= width
    images = [action for action in ACTIONS if action.footer and (action.pane == DETECTIONS or action.id == "help")]
    line = fitting(with_short_labels(images, 60), 60, disabled={"cancel-detections"}).plain
    assert "p pictures" in line and "left k prev  right j next" in line and "escape back" in line
    for leading in ("", "multiples of 2", "12 layers marked"):
        line = footer_lines(ACTIONS, 60, 1, leading, pane=SLIDER)[0].plain
        assert "escape put back" in line and "enter keep" in line, "both ways out"
    assert with_steps_key(Text("no steps yet"), 58).plain == f"{'no steps yet':42}s steps and jobs"
    full = Text("x" * 41)
    assert with_steps_key(full, 58) is full


def test_footer_of_two_lines_has_every_feature_in_the_same_order_as_one():
    one = footer_lines(ACTIONS, 400, 1)[0].plain.split()
    lines = footer_lines(ACTIONS, 200, 2, "multiples of 8")
    assert [word for line in lines for word in line.plain.removeprefix(" multiples of 8").split()] == one
    assert {"S", "t", "R", "L", "X", "O", "o", "i", "B", "r", "H", "F", "C"} <= set(one)
    for width in range(60, 260):
        lines = footer_lines(ACTIONS, width, 2)
        assert len(lines) <= 2 and all(line.cell_len <= width for line in lines)
        assert lines[-1].plain.endswith("q quit")
    assert len(footer_lines(ACTIONS, 400, 2)) == len(footer_lines(ACTIONS, 80, 1)) == 1
    cramped = footer_lines(ACTIONS, 30, 2, "12 layers marked, multiples of 8")
    assert cramped[0].plain.strip() == "12 layers marked, multiples of 8" and "q quit" in cramped[1].plain
    for pane in {action.pane for action in ACTIONS} - {SLIDER}:
        assert len(footer_lines(ACTIONS, 240, 2, pane=pane)) == 2, "a high window of 240 cells has keys for both lines"
