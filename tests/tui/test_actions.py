"""A disabled action shows the reason: on its key, in the help, and in the palette; the footer dims it."""

from __future__ import annotations

import pytest
from textual.command import DiscoveryHit

from tests.tui.helpers import Desk
from tui_pruner.tui import colours
from tui_pruner.tui.actions import Registry
from tui_pruner.tui.controllers import ACTIONS
from tui_pruner.tui.panes.bars import footer_lines
from tui_pruner.tui.screens.help import ActionProvider

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
    told = {hit.display: hit.help for hit in hits if isinstance(hit, DiscoveryHit)}
    assert told["Undo"] == "Undo the last step. Not now: no step to undo." and "Not now" not in told["Mark"]


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
