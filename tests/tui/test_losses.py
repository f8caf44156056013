"""A loss reads as one: signed, never green, and never left out for want of room."""

from __future__ import annotations

import pytest

from tests.tui.helpers import Desk
from tui_pruner.tui.panes.bars import header_lines
from tui_pruner.tui.panes.steps import step_lines
from tui_pruner.tui.panes.tree_row import metric_colour
from tui_pruner.tui.theme import colours
from tui_pruner.tui.timeline import StepMetrics

shared = pytest.mark.asyncio(loop_scope="session")


def test_a_loss_is_never_green():
    assert metric_colour(0.894, 0.582) == colours.BAD
    assert metric_colour(0.894, 0.880) == colours.WARNING
    assert metric_colour(0.894, 0.892) == colours.TEXT
    assert metric_colour(0.894, 0.920) == colours.GOOD


@shared
async def test_the_header_and_the_steps_show_the_loss_at_every_width(desk: Desk, monkeypatch: pytest.MonkeyPatch):
    await desk.go("model.5")
    await desk.press("5", "0", "enter")
    await desk.previewed()
    await desk.press("a")
    await desk.until(lambda: bool(desk.state.session.steps), "the step")
    metrics = StepMetrics()
    metrics.follow(desk.state.session)
    metrics.by_plan = {metrics.keys[0]: 0.894, metrics.keys[1]: 0.582}
    monkeypatch.setattr(desk.state, "metrics", metrics)
    for width in (60, 66, 72, 80, 100, 120, 200):
        lines = [line.plain for line in header_lines(desk.state, width)]
        assert all(len(line) <= width for line in lines)
        assert "mAP .894→.582 −.312" in lines[-1], width
    step = step_lines(desk.state, metrics, 65)[0][2]
    assert step.plain.endswith(".582 −.312") and str(step.spans[-1].style) == colours.BAD
