"""A scan fills the tree while it runs; stopped early, its results stay and are marked as partial."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.tui.helpers import Desk
from tests.tui.scripted_jobs import PRELUDE
from tests.tui.test_targets import result, trial
from tui_pruner.domain.forecast import summed_with_estimates
from tui_pruner.engine.processes import start_python
from tui_pruner.engine.search_messages import ScanFound
from tui_pruner.tui.drawing import GLYPHS
from tui_pruner.tui.job_specs.job import DONE, RUNNING
from tui_pruner.tui.job_specs.search import scanned
from tui_pruner.tui.panes.jobs import job_lines
from tui_pruner.tui.panes.tree_row import layout

pytestmark = pytest.mark.asyncio(loop_scope="session")
RATIOS, WANTED = (0.1, 0.3, 0.5), 153
TRIALS = [
    trial(number, [layer], ratio, fall * ratio)
    for number, (layer, fall) in enumerate({"model.5": 0.2, "model.7": 1.0, "model.3": 0.02}.items())
    for ratio in RATIOS
]
STOPPED = result(TRIALS[:8]).model_copy(update={"wanted": WANTED})


def scan_progress(upto: int, first: int = 0) -> str:
    """The report of a scan that has come so far, as the script says it."""
    layers = {0: ["model.5"], 1: ["model.7"], 2: ["model.3"]} if not first else {}
    name = "metrics/mAP50-95(B)"
    found = ScanFound(name=name, baseline=0.9, images=16, wanted=WANTED, trials=TRIALS[first:upto], layers=layers)
    doing = "51 layers x 3 ratios" + (f", {TRIALS[upto - 1].layer} -{TRIALS[upto - 1].ratio:.0%}" if upto else "")
    metrics = {name: 0.5} if upto else {}
    return json.dumps({"done": upto, "total": WANTED, "doing": doing, "metrics": metrics, "found": found.model_dump()})


FAILED = json.dumps({"done": 9, "total": WANTED, "doing": "51 layers x 3 ratios, model.3 -50%", "metrics": {}})
"""The report of a trial that ended without a result."""
SCRIPT = f"""
def stop(*_):
    say(result=json.loads({STOPPED.model_dump_json()!r}))
    sys.exit(0)
signal.signal(signal.SIGTERM, stop)
for line in {[scan_progress(0), scan_progress(2), scan_progress(8, 2), FAILED]!r}: say(progress=json.loads(line))
while True: signal.pause()
"""


@pytest.fixture
def scanning(desk: Desk, demo_data: Path) -> Iterator[Desk]:
    """The app with data, and a scan that tells eight of 153 trials and then waits to be stopped."""

    async def answer(kind: str, scratch: str, log: Path | None) -> asyncio.subprocess.Process:
        assert kind == "scan"
        return await start_python("-c", PRELUDE + SCRIPT, log=log)

    known, before = desk.state.checkpoint.data, desk.queue._start
    desk.queue._start, desk.state.checkpoint.data = answer, str(demo_data)
    yield desk
    desk.queue._start, desk.state.checkpoint.data = before, known
    desk.controllers.target.take_scan(None)


async def test_results_fill_the_tree_while_a_scan_runs_and_a_key_stops_it(scanning: Desk):
    desk = scanning
    await desk.press("S")
    await desk.until(lambda: "scan: 9 of 153 trials" in desk.text, "eight results and a failure")
    job = desk.queue.running
    assert job is not None and job.state == RUNNING and job.parameters.stops_early
    assert "Drop@30%" in desk.text and f"{GLYPHS.levels[1]}" in desk.line("5 Conv") and ".060" in desk.line("5 Conv")
    assert f"{GLYPHS.levels[4]}{GLYPHS.levels[8]}{GLYPHS.levels[8]}  .300" in desk.line("7 Conv")
    assert f"{GLYPHS.dot}  .006" in desk.line("3 Conv"), "half of it was not measured yet"
    lines = [line.plain for line in job_lines(desk.bench.work(), 90, 4)]
    assert "9/153" in desk.line("scan checkpoint"), "one count in the title and among the jobs"
    assert "9/153" in lines[0] and "elapsed" in lines[0] and "S good enough, stops" in lines[0] and "so far" not in lines[0]
    assert lines[1].strip() == f"51 layers {GLYPHS.times} 3 ratios, model.3 -50%"
    await desk.press("S")
    await desk.until(lambda: job.state == DONE, "the end of the scan")
    assert job.outcome.figure.startswith("scan stopped after 8 of 153 trials, 16 images")
    assert desk.state.scan.partial and desk.state.scan.heats == pytest.approx({"model.5": 0.06, "model.7": 0.3, "model.3": 0.006})
    assert "scan: 8 of 153 trials" in desk.text
    desk.state.checkpoint.data = None
    assert "by the scan of 16 images (8 of 153 trials; the others by importance) come first" in desk.controllers.target.ground()
    asked = desk.state.scan.drops
    assert asked.partial and len(asked.trials) == 8


async def test_target_uses_the_results_of_a_stopped_scan_and_reports_it(desk: Desk, demo_data: Path):
    costly = scanned(result([trial(number, [f"l{number}"], 0.3, 0.6, channels=4) for number in (2, 3, 4)]), "l2", "other.yaml")
    found = scanned(result([]), "l2", "other.yaml")
    groups = [one.group for one in costly.drops.trials]
    partial = type(found)(
        "l2", "other.yaml", 16, "mAP", 0.9, costly.layers, costly.drops.model_copy(update={"partial": True}), {}, 3, WANTED
    )  # fmt: skip
    assert groups == [2, 3, 4]
    try:
        desk.controllers.target.take_scan(partial)
        await desk.press("ctrl+t")
        await desk.until(lambda: desk.view.slider is not None and desk.view.slider.ladder is not None, "all positions")
        assert desk.view.slider.ladder.scanned and "by the scan so far (3 of 153 trials)" in desk.text
        await desk.press("escape")
    finally:
        desk.controllers.target.take_scan(None)


async def test_unscanned_layers_are_estimated_from_the_others_with_an_uncertainty():
    layers = {"a": {0.3: 0.1}, "b": {0.3: 0.2}, "c": {0.3: 0.3}}
    trials = [trial(number, [name], 0.3, drops[0.3]) for number, (name, drops) in enumerate(layers.items())]
    found = scanned(result(trials).model_copy(update={"wanted": 9}), "l2", "x")
    assert found.typical(0.3) == pytest.approx((0.2, (0.02 / 3) ** 0.5)) and found.typical(0.5) is None
    sure = summed_with_estimates({"a": (0.0, 0.3)}, found.layers, found.coupled, found.typical)
    assert sure == pytest.approx((0.1, 0.0))
    unsure = summed_with_estimates({"a": (0.0, 0.3), "z": (0.0, 0.3), "y": (0.0, 0.3)}, found.layers, {"z": 7, "y": 7}, found.typical)
    assert unsure == pytest.approx((0.3, (0.02 / 3) ** 0.5)), "z and y lose the same channels"
    assert summed_with_estimates({"z": (0.0, 0.5)}, found.layers, {}, found.typical) is None


async def test_drop_column_names_its_ratio_at_every_width():
    for width, title in ((58, "Drop@30%"), (64, "Drop@30%"), (100, "Drop@30%")):
        columns = layout(width, False, frozenset({"drop"}), 0.3)
        drops = next(column for column in columns if column.key == "drop")
        assert drops.title in (title, "@30%") and drops.width >= len(drops.title)
        assert sum(column.width for column in columns) + len(columns) - 1 <= width


async def test_groups_that_lose_the_same_channels_count_as_one_trial():
    halves = [trial(number, ["model.15.cv1"], 0.3, 0.4).model_copy(update={"along": [5 - number]}) for number in (2, 3)]
    other = trial(4, ["model.15.cv1"], 0.3, 0.1)
    assert result([*halves, other]).distinct == [halves[0], other]
    assert scanned(result([*halves, other]), "l2", "x").measured == 2
