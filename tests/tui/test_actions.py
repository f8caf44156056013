"""A disabled action shows the reason: on its key, in the help, and in the palette; the footer dims it."""

from __future__ import annotations

import pytest
from textual.command import DiscoveryHit

from tests.tui.helpers import Desk
from tui_pruner.tui import colours
from tui_pruner.tui.actions import ALL_JOBS, MAP, PANE_TITLES, STAGES, STEPS_PANE, Registry, shown
from tui_pruner.tui.controllers import ACTIONS
from tui_pruner.tui.drawing import GLYPHS
from tui_pruner.tui.panes.bars import footer_lines
from tui_pruner.tui.screens.help import ActionProvider, HelpBox, HelpScreen, help_lines
from tui_pruner.tui.screens.prompts import PathPrompt

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_unavailable_key_shows_the_reason(desk: Desk):
    reasons = {"u": "no step to undo", "ctrl+r": "no step to redo", "a": "nothing to apply", "K": "no job runs", "T": "nothing to settle"}
    for key, reason in reasons.items():
        await desk.press(key)
        assert any(reason in said for said in desk.said), key


async def test_help_and_palette_show_why_an_action_is_disabled(desk: Desk):
    await desk.press("question_mark")
    helped = {action.id: reason for action, reason in desk.bench.help_actions()}
    assert helped["undo"] == "no step to undo" and helped["mark"] == ""
    await desk.press("escape")
    hits = [hit async for hit in ActionProvider(desk.bench).discover()]
    told = {hit.text: hit.help for hit in hits if isinstance(hit, DiscoveryHit)}
    assert told["Undo"] == "Undo the last step. Not now: no step to undo." and "Not now" not in told["Mark"]


async def test_palette_lists_each_action_with_its_keys(desk: Desk):
    provider = ActionProvider(desk.bench)
    listed = {str(hit.text): str(hit.prompt) async for hit in provider.discover()}
    assert listed["Mark"] == "Mark   space" and listed["Remove 1 % more"] == "Remove 1 % more   right"
    keys = {action.title: shown(action) for action in ACTIONS if action.id in ("scan", "lineage", "target")}
    assert {title: listed[title] for title in keys} == {title: f"{title}   {key}" for title, key in keys.items()}
    assert "Theme: dark" in listed.values(), "without a key of its own"
    found = [hit async for hit in provider.search("undo")]
    assert [(str(hit.prompt), hit.text) for hit in found if hit.text == "Undo"] == [("Undo   u", "Undo")]


async def test_help_scrolls_to_its_end_by_the_keys_of_every_pane(desk: Desk):
    await desk.pilot.resize_terminal(60, 20)
    await desk.press("question_mark")
    box = desk.app.screen.query_one(HelpBox)
    await desk.until(lambda: box.max_scroll_y > 0, "more lines than the window has")
    await desk.press("ctrl+d")
    half = box.scroll_y
    assert half >= 5
    await desk.press("ctrl+u", "j", "j", "k")
    await desk.until(lambda: box.scroll_y == 1, "the second line")
    await desk.press("G")
    await desk.until(lambda: box.scroll_y == box.max_scroll_y, "the end")
    await desk.until(lambda: "lists every action" in desk.text, "the last line")
    await desk.press("g")
    await desk.until(lambda: box.scroll_y == 0, "the top")
    await desk.press("escape")
    assert desk.app.screen is desk.bench


@pytest.mark.parametrize(("key", "pane"), [("H", STAGES), ("F", STAGES), ("b", ALL_JOBS), ("s", STEPS_PANE), ("m", MAP)])
async def test_help_opens_on_every_screen_with_the_keys_of_its_pane_first(desk: Desk, key: str, pane: str):
    await desk.press(key)
    behind = desk.app.screen
    await desk.press("question_mark")
    await desk.until(lambda: isinstance(desk.app.screen, HelpScreen) and PANE_TITLES[pane] in desk.text.splitlines()[3], "the help")
    await desk.press("escape")
    assert desk.app.screen is behind
    await desk.press("escape")


async def test_key_that_an_empty_front_names_measures_from_there(desk: Desk):
    await desk.press("F")
    await desk.until(lambda: "nothing is measured yet: v measures the current model" in desk.text, "the hint")
    assert "v validate" not in desk.text.splitlines()[-1]
    await desk.press("v")
    await desk.until(lambda: isinstance(desk.app.screen, PathPrompt) and "Validate on" in desk.text, "the question for the data")
    await desk.press("escape", "escape")
    assert desk.app.screen is desk.bench


async def test_help_cuts_no_keys_and_no_words():
    for width in (50, 70, 93):
        lines = [line.plain for line in help_lines([(action, "") for action in ACTIONS], width)]
        assert not [line for line in lines if GLYPHS.ellipsis in line]
        assert any("down right j " in line for line in lines) and any("fewer inputs " in line for line in lines)


async def test_footer_dims_disabled_actions_and_keeps_their_labels(desk: Desk):
    plain = footer_lines(ACTIONS, 120, 1)[0]
    narrow = footer_lines(ACTIONS, 80, 1, disabled={"apply", "undo", "write"})[0].plain
    assert "S scan" in narrow and "t target" in narrow and "apply" not in narrow, "what can be done now comes first in a narrow window"
    dimmed = footer_lines(ACTIONS, 120, 1, disabled={"undo"})[0]
    assert plain.plain == dimmed.plain
    styles = {dimmed.plain[span.start : span.end]: str(span.style) for span in dimmed.spans if isinstance(span.style, str)}
    assert styles["u"] == styles[" undo"] == colours.FAINT != styles[" mark"]


async def test_every_key_of_the_workbench_has_an_action(desk: Desk):
    assert desk.bench.check_action("run", ("mark",)) and not desk.bench.check_action("run", ("again",))
    with pytest.raises(ValueError, match="two actions are called mark"):
        Registry([*ACTIONS, ACTIONS[0]])
