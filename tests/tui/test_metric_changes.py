"""A loss of the metric is signed, never green, and shown at every width."""

from __future__ import annotations

import pytest

from tests.tui.helpers import Desk
from tui_pruner.domain.results import MeasuredMetric, change_between
from tui_pruner.engine.requests import Compare
from tui_pruner.tui import colours
from tui_pruner.tui.panes.bars import header_lines
from tui_pruner.tui.panes.comparison import Compared, compare_lines
from tui_pruner.tui.panes.lineage import stage_lines
from tui_pruner.tui.panes.steps import last_step, step_lines
from tui_pruner.tui.panes.tree_row import metric_colour
from tui_pruner.tui.session_stages import shown_of
from tui_pruner.tui.timeline import StepMetrics

shared = pytest.mark.asyncio(loop_scope="session")


def colour_of_change(before: float, now: float, half: float | None = None, noise: float | None = None) -> str:
    """The colour of a change: with intervals of this half width, and draws that differ by this noise."""
    first, last = MeasuredMetric(before), MeasuredMetric(now)
    if half is not None:
        first, last = (MeasuredMetric(value, (value - half, value + half)) for value in (before, now))
    if noise is not None:
        draws = [before + half * (number % 7 - 3) for number in range(60)]
        first = MeasuredMetric(before, first.interval, draws)
        last = MeasuredMetric(now, last.interval, [draw + now - before + noise * (number % 3 - 1) for number, draw in enumerate(draws)])
    return metric_colour(first, last)


def test_loss_is_never_green():
    assert colour_of_change(0.894, 0.582) == colours.BAD
    assert colour_of_change(0.894, 0.880) == colours.WARNING
    assert colour_of_change(0.894, 0.892) == colours.MUTED
    assert colour_of_change(0.894, 0.920) == colours.GOOD


def test_change_is_grey_if_its_interval_includes_zero():
    assert colour_of_change(0.80, 0.74, half=0.05) == colours.MUTED and colour_of_change(0.80, 0.72, half=0.05) == colours.BAD
    assert colour_of_change(0.80, 0.84, half=0.05) == colours.MUTED and colour_of_change(0.80, 0.88, half=0.05) == colours.GOOD
    assert colour_of_change(0.80, 0.798, half=0.0005) == colours.WARNING, "small, and sure"
    assert colour_of_change(0.80, 0.77, half=0.05, noise=0.01) == colours.WARNING, "on the same images the loss is sure"
    assert colour_of_change(0.80, 0.795, half=0.05, noise=0.01) == colours.MUTED
    assert change_between(MeasuredMetric(0.8), MeasuredMetric(0.7, (0.6, 0.8))) is None
    paired = change_between(MeasuredMetric(0.8, None, [0.8] * 50), MeasuredMetric(0.7, None, [0.7] * 50))
    assert paired == pytest.approx((-0.1, -0.1))


@shared
async def test_insignificant_changes_are_grey_in_header_steps_comparison_and_lineage(desk: Desk, monkeypatch: pytest.MonkeyPatch):
    await desk.go("model.5")
    await desk.press("5", "0", "enter", "a")
    await desk.until(lambda: bool(desk.state.session.steps), "the step")
    metrics = StepMetrics()
    metrics.follow(desk.state.session)
    for key, value in zip(metrics.keys, (0.80, 0.74)):
        metrics.put(key, {"metrics/mAP50-95(B)": value}, (value - 0.05, value + 0.05))
    monkeypatch.setattr(desk.state, "metrics", metrics)
    desk.controllers.lineage.follow()
    for half, colour in ((0.05, colours.MUTED), (0.01, colours.BAD)):
        metrics.intervals = {key: (value - half, value + half) for key, value in metrics.by_plan.items()}
        desk.controllers.lineage.follow()
        shown = shown_of(desk.state)
        stage = shown.lineage.stages[shown.lineage.here]
        compared = Compared(await desk.engine._client.call(Compare(first=0, second=1)), desk.state.session, metrics)
        texts = [*header_lines(desk.state, 120), *step_lines(desk.state, metrics, 65)[0], *stage_lines(shown, stage, None, 116)]
        for text in (*texts, *compare_lines(compared, 60), last_step(desk.state, metrics, 80)):
            at = text.plain.find("−.06")
            styles = [str(span.style) for span in text.spans if at >= 0 and span.start <= at + 1 < span.end]
            assert at < 0 or styles[-1] == colour, (text.plain, styles)
        assert sum("−.06" in text.plain for text in texts) == 3


@shared
async def test_header_and_steps_show_the_loss_at_every_width(desk: Desk, monkeypatch: pytest.MonkeyPatch):
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
