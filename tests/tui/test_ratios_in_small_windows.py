"""Ratios by hand in the smallest window, where the line for the amount must be seen from every pane; and a key that is held down."""

import re
import sys
from pathlib import Path

import pytest
from textual.widgets import Input

from tests.terminal import Terminal
from tests.tui.helpers import check_golden, unwrapped
from tests.tui.test_many_layers import choose
from tui_pruner.domain.cuts import Amount
from tui_pruner.tui.job_specs.compression import RECIPE, settings_of
from tui_pruner.tui.screens.forms import Chooser, RecipeForm
from tui_pruner.tui.screens.prompts import PathPrompt

LAYER = "model.5"
HELD = 60


@pytest.mark.asyncio(loop_scope="session")
@pytest.mark.parametrize("panes", [(), ("tab",), ("s",)], ids=["tree", "detail", "steps"])
async def test_amount_is_typed_in_the_focused_pane_which_keeps_the_focus(desk, panes):
    await desk.calm((60, 20))
    await desk.go(LAYER)
    await desk.press(*panes)
    focused = desk.app.focused
    await desk.press("3")
    assert desk.line(f"Remove % of {LAYER}").split() == ["Remove", "%", "of", LAYER, "3", "enter", "escape"]
    await desk.press("0", "enter")
    assert desk.state.pending.amounts == {LAYER: Amount.share(30)} and desk.app.focused is focused
    await desk.press("equals_sign", "9", "6", "enter")
    assert desk.state.pending.amounts == {LAYER: Amount(keep=96)}
    await desk.press("pageup", "pagedown", "comma")
    assert desk.state.pending.amounts == {LAYER: Amount.share(20)}
    await desk.previewed()
    assert "3.01M→2.9" in desk.text.splitlines()[1]


@pytest.mark.asyncio(loop_scope="session")
@pytest.mark.parametrize(("width", "keys"), [(60, "enter  escape"), (80, "enter confirm  escape cancel")])
async def test_line_says_its_keys_in_as_many_words_as_there_is_room_for(desk, width: int, keys: str):
    beside = "name, type, section or status"
    await desk.calm((width, 20))
    for key in "/p":
        await desk.press(key)
        await desk.until(lambda: beside in desk.text and keys in desk.line(beside), "the keys of the line")
        assert desk.line(beside).rstrip().endswith(f"  {keys}")
        await desk.press("escape")
    assert desk.app.focused is desk.bench.query_one("#tree")


THUMB = re.compile("[▁▂▃▄▅▆▇]")
"""The end of the scrollbar behind the dialog, whose place depends on the tests before."""


@pytest.mark.asyncio(loop_scope="session")
async def test_choosers_fit_the_smallest_window(desk):
    await desk.calm((60, 20))
    for key in ("B", "i"):
        await desk.press(key)
        await desk.until(lambda: isinstance(desk.app.screen, Chooser), "the chooser")
        lines = desk.text.splitlines()
        assert all(len(line) <= 60 for line in lines) and "Esc close" in desk.text
        check_golden(f"chooser-{key}-60x20", "\n".join(THUMB.sub(" ", line) for line in lines if re.search("[│╭╰]{2}", line)))
        await desk.press("escape")
    await choose(desk, "i", 2)
    assert desk.state.pending.criterion == "l1"


@pytest.mark.asyncio(loop_scope="session")
async def test_scrolling_list_wraps_its_descriptions_beside_the_scrollbar(desk):
    await desk.calm((60, 20))
    await desk.press("X")
    await desk.until(lambda: isinstance(desk.app.screen, Chooser) and "onnx" in desk.text, "the formats")
    lines = [line[line.index("│  ") + 1 :] for line in desk.text.splitlines() if re.search("│{2} .*│", line)]
    listed = lines[next(number for number, line in enumerate(lines) if "1  onnx" in line) :]
    assert len(listed) > 8 and sum("images" in line for line in listed) >= 2
    assert all(re.match(r" {2}\d {2}\S| {15}", line) for line in listed if line.strip("│ ▁▂▃▄▅▆▇"))
    await desk.press("escape")


@pytest.mark.asyncio(loop_scope="session")
@pytest.mark.parametrize("size", [(80, 24), (60, 20)])
async def test_recipe_form_shows_all_words_and_the_settings_of_each_stage(desk, size, small_data, monkeypatch):
    await desk.calm(size)
    monkeypatch.setattr(desk.state.checkpoint, "data", str(small_data))
    await desk.press("r", "r", "r", "C")
    await desk.until(lambda: isinstance(desk.app.screen, RecipeForm) and "ratios=" in desk.text, "the recipe")
    text = desk.text
    for words in (*(item.meaning for item in RECIPE), "flops=60%", "recipe.yaml", "images=64 ratios", "^o open", "Esc cancel"):
        assert words in text, words
    for item in RECIPE:
        assert desk.app.focused.id == item.stage
        told = settings_of(item.stage)
        await desk.until(lambda told=told: told in unwrapped(desk.app), f"{told}, to its end")
        await desk.press("tab")
    await desk.press("escape")


@pytest.mark.asyncio(loop_scope="session")
async def test_reason_of_a_refused_target_is_in_sight_to_its_end(desk):
    await desk.calm((60, 20))
    await desk.press("t")
    await desk.until(lambda: isinstance(desk.app.screen, PathPrompt), "the question")
    desk.app.screen.query_one(Input).value = "60"
    await desk.press("enter")
    reason = "cannot read the target '60': write what shall be left, by flops, params, bytes, latency, such as flops=70%"
    await desk.until(lambda: reason in unwrapped(desk.app), "the whole reason")
    lines = [THUMB.sub(" ", line).split() for line in desk.text.splitlines()]
    assert any(line[:4] == ["││", "▊", "60", "▎"] for line in lines), "and the line that it is about"
    await desk.press("escape")


def test_held_key_on_many_layers_loses_no_press_and_the_totals_follow(demo_checkpoint: Path, tmp_path: Path):
    """Sent in one piece, as a slow line delivers them, the presses leave no pause to draw in: the totals move all the same."""
    command = [sys.executable, "-m", "tui_pruner", str(demo_checkpoint)]
    with Terminal(command, 120, 40, cwd=tmp_path, env={"XDG_STATE_HOME": str(tmp_path)}) as terminal:
        terminal.wait_for("any key closes this")
        terminal.press("home", " ")
        terminal.wait_for("27 layers marked")
        totals: list[str] = []

        def until_done(text: str) -> bool:
            found = re.search(r"params (\S+)", text)
            if found and found[1] not in totals:
                totals.append(found[1])
            return re.search(rf"[−-]{HELD}%", text) is not None

        for _ in range(HELD // 10):
            terminal.press(*["right"] * 10)
            seen = len(totals)
            terminal.wait_for(lambda text, seen=seen: until_done(text) or len(totals) > seen)
        terminal.wait_for(until_done)
        assert len(totals) > HELD // 20
