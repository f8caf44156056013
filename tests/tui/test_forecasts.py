"""A forecast sums the drops of a scan, is corrected by measured drops, and is marked as a forecast."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from tui_pruner.domain.forecast import NOISE, correction_factor, drop_at, forecast, summed
from tui_pruner.engine.search_messages import ScanDrops
from tui_pruner.tui.job_specs.search import Scanned, kept_scan
from tui_pruner.tui.job_specs.search import scan_of as restored
from tui_pruner.tui.opening import Opening
from tui_pruner.tui.screens.stages import Stages

DROPS = {0.1: 0.01, 0.3: 0.05, 0.5: 0.2}


def test_drop_is_interpolated_between_scanned_shares_and_unknown_beyond_them():
    assert [drop_at(DROPS, share) for share in (0.0, 0.05, 0.3, 0.4, 0.5)] == pytest.approx([0.0, 0.005, 0.05, 0.125, 0.2])
    assert drop_at(DROPS, 0.6) is None and drop_at({}, 0.1) is None


def test_drops_are_summed_once_per_group_from_the_current_width():
    layers = {"a": DROPS, "b": DROPS, "c": {0.5: 0.1}}
    assert summed({"a": (0.0, 0.3), "c": (0.0, 0.5)}, layers, {}) == pytest.approx(0.15)
    assert summed({"a": (0.0, 0.3), "b": (0.0, 0.5)}, layers, {"a": 1, "b": 1}) == pytest.approx(0.2)
    assert summed({"a": (0.3, 0.5)}, layers, {}) == pytest.approx(0.15)
    assert summed({"a": (0.0, 0.3), "unknown": (0.0, 0.3)}, layers, {}) is None
    assert summed({}, layers, {}) is None


def test_forecast_is_corrected_by_earlier_measured_drops():
    plain = forecast(0.9, 0.1, [])
    assert (plain.expected, plain.spread) == pytest.approx((0.8, 0.05))
    taught = forecast(0.9, 0.1, [(0.1, 0.2), (0.2, 0.4)])
    assert correction_factor([(0.1, 0.2), (0.2, 0.4)])[0] == pytest.approx(0.62 / 0.32)
    assert taught.expected == pytest.approx(0.9 - 0.1 * 0.62 / 0.32) and taught.spread / (0.9 - taught.expected) < 0.5
    assert forecast(0.9, 0.0, []).spread == NOISE and forecast(0.01, 0.015, []).expected == 0.0


def test_no_forecast_is_made_if_its_error_exceeds_a_quarter_of_the_metric():
    assert forecast(0.9, 0.44, []).spread == pytest.approx(0.22) and forecast(0.9, 0.46, []) is None
    assert forecast(0.9, 0.1, [], guess=0.2) is not None and forecast(0.9, 0.1, [], guess=0.3) is None
    assert forecast(0.9, 0.46, [(0.1, 0.1)] * 3) is not None, "sums that came true may be larger"
    assert correction_factor([(0.0, 9.0)])[0] == 5.0


def scan_of(data: str) -> Scanned:
    return Scanned("l2", data, 2, "mAP", 0.9, {"model.5": DROPS}, ScanDrops(baseline=0.9, trials=[]), {"model.5": 1})


def test_scan_is_restored_with_a_saved_session():
    found = scan_of("theirs.yaml")
    assert restored(json.loads(json.dumps(kept_scan(found)))) == found and kept_scan(None) == {}


async def test_drops_by_another_ranking_are_marked_and_not_given_for_widths(start, demo_checkpoint: Path, demo_data: Path):
    async with start(size=(120, 40), opening=Opening(str(demo_checkpoint), images=2)) as desk:
        desk.state.checkpoint.data, desk.state.automatic = str(demo_data), False
        scan = scan_of(str(demo_data))
        desk.bench.store.update(scan=scan)
        await desk.go("model.5")
        await desk.until(lambda: "~mAP" in desk.line("importance"), "the drops")
        assert "by L1" not in desk.text
        desk.bench.store.update(scan=replace(scan, criterion="l1"))
        await desk.until(lambda: "by L1" in desk.text, "the ranking of the scan")
        assert "~mAP" not in desk.line("importance")


async def test_header_shows_the_forecast_and_the_steps_its_error(start, demo_checkpoint: Path, demo_data: Path):
    async with start(size=(140, 40), opening=Opening(str(demo_checkpoint), images=2)) as desk:
        desk.state.checkpoint.data, desk.state.automatic = str(demo_data), False
        desk.bench.store.update(scan=scan_of(str(demo_data)))
        desk.state.metrics.by_plan[""] = 0.9
        await desk.go("model.5")
        await desk.until(lambda: "Widths  multiples of 16" in desk.text, "the widths")
        assert "~mAP" in desk.line("importance") and " −.015" in desk.line("−12%"), "the drop at 12.5 %, between the scanned shares"
        await desk.press("3", "0", "enter")
        await desk.until(lambda: "~.85" in desk.text, "the forecast")
        assert "±.025" in desk.line("~.85")
        await desk.press("F")
        await desk.until(lambda: isinstance(desk.app.screen, Stages) and "○" in desk.text, "the front with the ring")
        await desk.press("left", "escape", "a")
        await desk.until(lambda: len(desk.state.session.steps) == 1, "the step")
        assert desk.state.forecast is None
        desk.state.metrics.by_plan[desk.state.metrics.keys[1]] = 0.8
        desk.bench.store.touch("metrics")
        await desk.until(lambda: "  error −.05" in desk.line("1 model.5"), "its error")
        assert desk.state.metrics.tried == [pytest.approx((desk.state.metrics.tried[0][0], 0.1))]
        await desk.go("model.7")
        await desk.press("3", "0", "enter")
        await desk.previewed()
        assert desk.state.forecast is None, "this layer was not scanned"
