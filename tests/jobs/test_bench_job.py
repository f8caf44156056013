"""Latency: fused copies, timed in turns; differences within the noise are not reported."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from tui_pruner.cli.commands.measure import compared
from tui_pruner.core.model import latency
from tui_pruner.core.model import latency as faster_widths
from tui_pruner.core.model.latency import Timing, batch_for, candidates, deployed, ratio, time_blocks, time_in_turns
from tui_pruner.domain.errors import RequestError
from tui_pruner.engine.search_messages import BenchParameters, ModelToTime
from tui_pruner.jobs.latency import run_bench, verdict


def ignore(progress):
    pass


def test_median_and_p90_are_computed_from_the_samples():
    timing = Timing(tuple(float(number) for number in range(1, 12)))
    assert timing.median == 6.0
    assert timing.p90 == 10.0


def test_ratio_compares_samples_of_the_same_turn_to_cancel_drift():
    drift = [1 + number / 5 for number in range(50)]
    one, other = Timing(tuple(8 * share for share in drift)), Timing(tuple(10 * share for share in drift))
    found = ratio(one, other)
    assert [found.low, found.median, found.high] == pytest.approx([0.8, 0.8, 0.8])
    assert verdict(found) == "faster"
    assert verdict(ratio(other, one)) == "slower"


def test_ratio_of_noise_is_reported_as_no_difference():
    generator = torch.Generator().manual_seed(0)
    one, other = (Timing(tuple((10 + torch.randn(50, generator=generator)).tolist())) for _ in range(2))
    found = ratio(one, other)
    assert found.low < 1 < found.high
    assert verdict(found) == "no difference"


def test_networks_are_timed_in_turns_in_alternating_order(monkeypatch):
    taken = []

    class Clock:
        def __init__(self, model, batch):
            self.model = model

        def timeit(self, number):
            taken.append((self.model, number))
            return type("MeasuredMetric", (), {"median": 0.004})

    monkeypatch.setattr(latency, "timer", Clock)
    monkeypatch.setattr(latency, "forwards_per_sample", lambda clock, warm_up: 3)
    runs = []
    found = time_in_turns(["a", "b"], [None, None], 3, runs.append)
    assert taken == [("a", 3), ("b", 3), ("b", 3), ("a", 3), ("a", 3), ("b", 3)]
    assert [timing.samples for timing in found] == [(4.0, 4.0, 4.0)] * 2
    assert runs == [1, 2, 3]


def test_wide_network_is_timed_slower_than_a_narrow_one():
    torch.manual_seed(0)
    narrow, wide = (nn.Sequential(nn.Conv2d(3, width, 3), nn.Conv2d(width, width, 3)).eval() for width in (4, 96))
    image = torch.rand(1, 3, 48, 48)
    timings = time_in_turns([wide, narrow], [image, image], 15)
    assert all(len(timing.samples) == 15 and min(timing.samples) > 0 for timing in timings)
    assert verdict(ratio(timings[1], timings[0])) == "faster"


def test_models_are_fused_for_timing_and_the_originals_do_not_change(random_model):
    before = copy.deepcopy(random_model.state_dict())
    fused = deployed(random_model, "cpu")
    assert not any(isinstance(module, nn.BatchNorm2d) for module in fused.modules())
    assert list(random_model.state_dict()) == list(before)
    image = batch_for(random_model, 2, 64, "cpu")
    assert image.shape == (2, 3, 64, 64)
    (blocks,) = time_blocks([fused], [image], 2)
    assert list(blocks) == [f"model.{number}" for number in range(23)]
    assert all(len(timing.samples) == 2 and min(timing.samples) > 0 for timing in blocks.values())


def test_bench_compares_every_model_with_the_first_at_one_valid_image_size():
    models = [ModelToTime(checkpoint="yolov8n.yaml", classes=2), ModelToTime(checkpoint="yolov8n.yaml", classes=3)]
    said = []
    result = run_bench(BenchParameters(models=models, imgsz=40, runs=5, device="cpu"), said.append)
    first, second = result.models
    assert (first.verdict, first.ratio) == ("reference", 1.0)
    assert second.parameters > first.parameters > 3_000_000
    assert [one.imgsz for one in result.models] == [64, 64] and [one.runs for one in result.models] == [5, 5]
    assert 0 < first.median_ms <= first.p90_ms
    assert second.ratio_low <= second.ratio <= second.ratio_high
    assert result.notes == ["image side 40 rounded up to 64, a multiple of the stride"]
    assert [progress.done for progress in said if progress.doing == "timing"] == [1, 2, 3, 4, 5]
    slower = second.model_copy(update={"verdict": "slower", "parameters": 1, "ratio": 1.25, "ratio_low": 1.1, "ratio_high": 1.4})
    assert compared(slower, first) == (
        "yolov8n.yaml is 25.0% slower than yolov8n.yaml although it is smaller (ratio 1.100 to 1.400, 95 % sure)"
    )


def test_candidate_widths_are_multiples_sorted_by_distance():
    assert candidates(45, 64) == [48, 40, 32, 64]
    assert candidates(48, 64) == [56, 40, 64, 32]
    assert candidates(5, 6) == []


def test_layer_is_offered_the_nearest_width_measured_as_faster(monkeypatch):
    class Pair(nn.Sequential):
        def __init__(self, width):
            super().__init__(nn.Conv2d(3, width, 3), nn.Conv2d(width, 8, 1))

    asked = []

    def clock(layers, images, runs, warm_up):
        asked.append([(layer.out_channels, tuple(image.shape)) for layer, image in zip(layers, images)])
        times = {45: 2.0, 48: 1.0, 40: 1.9}
        return tuple(Timing((times.get(layer.out_channels, 3.0),) * runs) for layer in layers)

    monkeypatch.setattr(faster_widths, "time_in_turns", clock)
    (found,) = faster_widths.faster_widths(Pair(64), Pair(45), torch.rand(1, 3, 16, 16), 5)
    assert asked == [[(45, (1, 3, 16, 16)), (48, (1, 3, 16, 16)), (40, (1, 3, 16, 16)), (32, (1, 3, 16, 16)), (64, (1, 3, 16, 16))]]
    assert (found.layer, found.width, found.faster) == ("0", 45, 48)
    assert (found.milliseconds, found.faster_milliseconds, found.ratio.high) == (2.0, 1.0, 0.5)
    assert faster_widths.faster_widths(Pair(45), Pair(45), torch.rand(1, 3, 16, 16), 5) == []


def test_narrower_layer_is_offered_only_if_it_saves_more_time_than_channels(monkeypatch):
    layer = nn.Conv2d(3, 50, 3)
    for milliseconds, offered in ((0.95, []), (0.5, [40])):
        times = {50: 1.0, 40: milliseconds}
        monkeypatch.setattr(
            faster_widths,
            "time_in_turns",
            lambda layers, *_, times=times, **__: tuple(Timing((times[one.out_channels],) * 9) for one in layers),
        )
        assert [found.faster for found in faster_widths.nearest_faster("0", layer, [40], torch.Size((1, 3, 8, 8)), 9)] == offered


def test_missing_device_is_refused():
    with pytest.raises(RequestError, match="no device 'cuda:3' here"):
        run_bench(BenchParameters(models=[ModelToTime(checkpoint="yolov8n.yaml")], device="cuda:3"), ignore)
