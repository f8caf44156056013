"""Latency is measured in the background, of the checkpoint and of the session, and shown in the tree for every block."""

import re
from types import SimpleNamespace

import pytest

from tests.tui.helpers import Desk
from tui_pruner.domain.formatting import milliseconds
from tui_pruner.engine.search_messages import BenchedModel, BenchResult, BlockLatency, WidthSuggestion
from tui_pruner.tui import colours
from tui_pruner.tui.drawing import GLYPHS
from tui_pruner.tui.job_specs.job import OpenCheckpoint
from tui_pruner.tui.job_specs.measurement import Timed, latency
from tui_pruner.tui.opening import Opening
from tui_pruner.tui.panes.detail import _times
from tui_pruner.tui.panes.tree_row import Look, composed, layout, row_cells


async def test_latency_of_every_block_is_shown_in_the_tree(start):
    async with start() as desk:
        await desk.press("L")
        await desk.until(lambda: any(" ms, 64x64 on " in note for note, _ in desk.state.notes), "the latency")
        times = desk.state.latency.before
        assert len(times) == 23 and desk.state.latency.after == {} and all(time > 0 for time in times.values())
        assert re.search(r"0 Conv .* \d[.]\d\d", desk.line("0 Conv")) and " ms " in desk.line("Layer")
        await desk.press("L")
        await desk.until(lambda: len(desk.queue.jobs) == 2 and not desk.queue.busy, "another measurement")


def model(name: str, median: float, ratio: float, blocks: dict[str, float], suggestions: list[WidthSuggestion]) -> BenchedModel:
    return BenchedModel(
        model=name, parameters=1, median_ms=median, p90_ms=2 * median, runs=50, device="cpu", threads=2, imgsz=64, batch=1, ratio=ratio,
        ratio_low=ratio - 0.01, ratio_high=ratio + 0.01, verdict="slower" if ratio > 1 else "faster", suggestions=suggestions,
        blocks=[BlockLatency(name=block, type="Conv", median_ms=time) for block, time in blocks.items()],
    )  # fmt: skip


@pytest.mark.asyncio(loop_scope="session")
async def test_slower_cut_is_reported_with_the_widths_that_are_faster(desk: Desk):
    await desk.go("model.5")
    await desk.press("3", "0", "enter", "a")
    await desk.until(lambda: len(desk.state.session.steps) == 1, "the step")
    taken: list[Timed] = []
    job = latency(OpenCheckpoint(Opening("digits.pt", device="cpu"), desk.state.opened.model, None), desk.state.session, taken.append)
    parameters = job.parameters()
    assert [checkpoint.plan is not None for checkpoint in parameters.models] == [False, True] and parameters.blocks and parameters.suggest
    suggestion = WidthSuggestion(layer="model.5", width=90, median_ms=0.5, faster=96, faster_median_ms=0.4, ratio=0.8, ratio_high=0.9)
    cut = model("cut", 8.5, 1.06, {"model.4": 1.0, "model.5": 0.3}, [suggestion])
    result = BenchResult(models=[model("whole", 8.0, 1.0, {"model.4": 1.0, "model.5": 0.2}, []), cut])
    outcome = await job.take(result.model_dump())
    assert outcome.figure == "8.00 ms→8.50 ms slower, 1.06 (1.05 to 1.07) of the time, 64x64 on cpu"
    assert ("model.5 keep 96", "0.40 ms alone, 0.50 ms at 90") in outcome.details
    try:
        desk.controllers.target.take_latency(taken[0])
        (row,) = (row for row in desk.tree.rows if row.key == "model.5")
        columns = layout(65, measured=frozenset({"time"}))
        text = composed(row_cells(row, columns, Look(desk.state, set())), columns)
        assert any(span.style == colours.BAD and text.plain[span.start : span.end].strip() == "0.30" for span in text.spans)
    finally:
        desk.controllers.target.take_latency(None)


@pytest.mark.parametrize(("width", "measured"), [(58, {"drop"}), *((width, {"time", "drop"}) for width in (62, 65, 78, 100))])
def test_measured_columns_fit_beside_the_others(width: int, measured: set[str]):
    columns = layout(width, measured=frozenset(measured))
    assert sum(column.width for column in columns) + len(columns) - 1 == width
    assert measured < {column.key for column in columns}
    assert next(column.width for column in columns if column.key == "name") >= 14


def test_times_of_a_block_are_whole_at_every_width():
    timed = Timed("", {"model.4": 1.25}, {"model.4": 1.1}, {"model.4": ((0.82, 3.39), (0.63, 2.96))}, {})
    for width in (28, 36, 49, 80):
        lines = [line.plain for line in _times(SimpleNamespace(latency=timed), "model.4", width)]  # type: ignore[arg-type]
        assert " ".join(lines) == f"1.25 (0.82 to 3.39) {GLYPHS.arrow} 1.10 (0.63 to 2.96) ms, within noise"
        assert all(len(line) <= width for line in lines)


def test_times_have_three_digits():
    assert [milliseconds(time) for time in (0.123, 8.314, 12.34, 123.4)] == ["0.12 ms", "8.31 ms", "12.3 ms", "123 ms"]
