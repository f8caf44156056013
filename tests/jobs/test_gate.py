"""The gate's rule: a planted regression is refused, noise is not; and its reports in JUnit and Markdown."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest

from tui_pruner.domain.results import nothing_to_lose
from tui_pruner.engine.search_messages import GateLatency, GateMetric, GateParameters, GateResult
from tui_pruner.jobs.gate import ValidatedImages, advice, drop_in_words, judged_metric, junit, markdown, same_labels
from tui_pruner.jobs.intervals import RULE, Drop, Metrics, images_needed, judged, paired_drops, reach_of

MAP = "metrics/mAP50-95(B)"
ALLOWED = 0.01


def mean_of(scores: np.ndarray) -> Metrics:
    return lambda places: {MAP: float(scores[list(places)].mean())}


def refused(seed: int, true_drop: float, images: int = 60, noise: float = 0.03) -> bool:
    """The verdict on models whose scores differ by chance on every image, hard images being hard for both, and by so much in truth."""
    draw = np.random.default_rng(seed)
    difficulty = draw.normal(0.7, 0.2, images)
    original = difficulty + draw.normal(0, noise, images)
    pruned = difficulty + draw.normal(0, noise, images) - true_drop
    (drop,) = paired_drops(images, mean_of(original), mean_of(pruned), [MAP], resamples=100)
    return not judged(drop.low, drop.high, ALLOWED).ok


def test_gate_passes_noise_in_100_repeats_and_refuses_every_planted_regression():
    assert [seed for seed in range(100) if refused(seed, true_drop=0.0)] == []
    assert all(refused(seed, true_drop=0.05) for seed in range(100))


def test_gate_refuses_a_loss_of_exactly_max_drop_once_in_forty():
    for images in (12, 60):
        share = sum(refused(seed, true_drop=ALLOWED, images=images) for seed in range(400)) / 400
        assert share <= 0.025 + 2 * (0.025 * 0.975 / 400) ** 0.5, images


class Detections:
    """What validations of two models collect of the same images: this many of four objects are found, by the very sums of Ultralytics."""

    def __init__(self, right: Sequence[int]) -> None:
        from ultralytics.utils.metrics import DetMetrics

        self.metrics = DetMetrics({0: "a"})
        self.images: list[dict[str, Any]] = []
        for count in right:
            hits = np.zeros((4, 10), dtype=bool)
            hits[:count] = True
            confidence, zeros = np.linspace(0.9, 0.3, 4), np.zeros(4)
            stat = {"tp": hits, "conf": confidence, "pred_cls": zeros, "target_cls": zeros, "target_img": np.zeros(1)}
            self.images.append(stat)
            for name, values in stat.items():
                self.metrics.stats[name].append(values)

    def get_stats(self) -> dict[str, float]:
        self.metrics.process(plot=False)
        return dict(self.metrics.results_dict)


def test_gate_is_as_reliable_for_mean_average_precision():
    def verdict(seed: int, lost: float) -> bool:
        draw = np.random.default_rng(seed)
        right = draw.integers(2, 5, 40)
        models = []
        for share in (0.05, 0.05 + lost):
            found = np.clip(right - (draw.random(40) < share), 0, 4)
            seen = Detections(found.tolist())
            models.append(ValidatedImages(seen.images, seen).metrics)
        (drop,) = paired_drops(40, *models, [MAP], resamples=40)
        return judged(drop.low, drop.high, ALLOWED).ok

    assert all(verdict(seed, lost=0.0) for seed in range(100))
    assert not any(verdict(seed, lost=0.8) for seed in range(10))


def test_differences_between_images_do_not_widen_a_paired_interval():
    scores = np.random.default_rng(0).normal(0.5, 0.3, 30)
    (drop,) = paired_drops(30, mean_of(scores), mean_of(scores - 0.02), [MAP], resamples=50)
    assert (drop.drop, drop.low, drop.high) == pytest.approx((0.02, 0.02, 0.02))


def test_interval_is_students_and_widens_for_few_images_and_several_metrics():
    """By the textbook: the mean of n differences, plus and minus t(n - 1) times s / sqrt(n)."""
    differences = np.random.default_rng(3).normal(0, 1, 25)
    one, two = mean_of(differences), mean_of(np.zeros(25))
    (drop,) = paired_drops(25, one, two, [MAP], resamples=4000)
    assert (drop.high - drop.low) / 2 == pytest.approx(2.064 * differences.std(ddof=1) / 5, rel=0.03)
    assert reach_of(25, 0.025) == pytest.approx(2.064 * (25 / 24) ** 0.5, rel=1e-3)
    assert reach_of(8, 0.025) > reach_of(1000, 0.025) > 1.96
    assert reach_of(25, 0.0125) > reach_of(25, 0.025)
    with pytest.raises(ValueError, match="leave nothing to resample"):
        paired_drops(1, one, two, [MAP], resamples=10)


@pytest.mark.parametrize(
    ("low", "high", "usual", "strict", "certain"),
    [
        (-0.02, 0.005, True, True, True),
        (-0.01, 0.01, True, True, True),
        (-0.01, 0.03, True, False, False),
        (0.01, 0.03, True, False, False),
        (0.011, 0.03, False, False, True),
    ],
)
def test_gate_judges_an_interval_against_the_allowed_drop(low: float, high: float, usual: bool, strict: bool, certain: bool):
    assert (judged(low, high, ALLOWED).ok, judged(low, high, ALLOWED, strict=True).ok) == (usual, strict)
    assert judged(low, high, ALLOWED).certain is judged(low, high, ALLOWED, strict=True).certain is certain


@pytest.mark.parametrize("strict", [False, True])
def test_verdict_is_uncertain_if_the_original_detects_nothing(strict: bool):
    asked = GateParameters(checkpoint="p.pt", sha256="", against="o.pt", data="d.yaml", imgsz=64, max_drop=ALLOWED, strict=strict)
    metric = judged_metric(Drop(MAP, 0.0, 0.0, 0.0, 0.0), asked)
    assert (metric.ok, metric.certain) == (not strict, False)
    (note,) = nothing_to_lose({MAP: metric.original})
    assert "no loss can show" in note and nothing_to_lose({MAP: 0.1}) == nothing_to_lose({"metrics/minus_loss": -0.1}, of_module=True) == []
    assert "images" not in nothing_to_lose({"metrics/accuracy": 0.0}, of_module=True)[0]


def test_gate_refuses_a_loss_from_zero_to_a_negative_figure():
    asked = GateParameters(checkpoint="p.tp", sha256="", against="net:build", data="", imgsz=0, max_drop=ALLOWED)
    metric = judged_metric(Drop("metrics/minus_distance", 0.0, -0.5, 0.4, 0.6), asked)
    assert (metric.ok, metric.certain) == (False, True)


def test_images_needed_grow_with_the_square_of_the_interval():
    assert images_needed(Drop(MAP, 0.9, 0.9, -0.02, 0.02), 50, 0.01) == 200
    assert images_needed(Drop(MAP, 0.9, 0.89, -0.01, 0.03), 50, 0.01) is None, "no number of images tells two equal figures apart"


def test_labels_of_both_runs_must_be_equal_for_each_image():
    one, other = [{"target_cls": np.array([0, 1])}], [{"target_cls": np.array([1, 0])}]
    assert same_labels(one, one) and not same_labels(one, other) and not same_labels(one, one * 2)


def result(**changes: Any) -> GateResult:
    metric = GateMetric(
        name=MAP, original=0.9, pruned=0.85, drop=0.05, low=0.03, high=0.07, allowed=0.01, ok=False, certain=True
    )  # fmt: skip
    latency = GateLatency(
        ratio=0.75, low=0.7, high=0.85, allowed=0.8, ok=True, certain=False, original_ms=10, pruned_ms=7.5, runs=50, device="cpu"
    )  # fmt: skip
    fields: dict[str, Any] = {
        "verdict": "no", "certain": False, "drop": 0.05, "interval": (0.03, 0.07), "latency": latency, "metrics": [metric],
        "reasons": ["the metric falls", "the latency <holds>"], "rule": RULE, "images": 64, "images_needed": 400,
        "original": "best.pt", "pruned": "odd|\x1b`name.pt", "original_parameters": 1000, "pruned_parameters": 700, "seconds": 1.5,
    }  # fmt: skip
    return GateResult(**{**fields, **changes})


def test_no_change_is_not_a_negative_zero():
    words = drop_in_words(result().metrics[0].model_copy(update={"drop": 0.0, "low": -0.00001, "high": 0.00001, "allowed": 0.0}))
    assert "+0.0000 (95 % interval +0.0000 to +0.0000), allowed +0: " in words


def test_junit_has_a_case_for_each_judgement_and_a_failure_for_each_excess():
    suites = ElementTree.fromstring(junit(result()))
    (suite,) = suites
    assert (suites.get("tests"), suites.get("failures"), suite.get("failures")) == ("2", "1", "1")
    metric, latency = suite.findall("testcase")
    assert metric.get("name") == "mAP50-95(B) falls by at most 0.01" and metric.find("failure").get("message") == "the metric falls"
    assert latency.find("failure") is None and latency.find("system-out").text == "the latency <holds>"
    assert {one.get("name"): one.get("value") for one in suite.iter("property")}["verdict"] == "no"
    assert "\x1b" not in suite.get("name")


def test_markdown_table_escapes_names_and_advises_more_images():
    lines = markdown(result()).splitlines()
    assert lines[0] == "## Pruning gate failed, but not certain"
    assert "-30.0 %" in lines[2] and "odd\\|" in lines[2] and "`name" not in lines[2].replace("`odd", "")
    table = [line for line in lines if line.startswith("|")]
    assert len(table) == 4 and "| 0.9000 | 0.8500 | -0.0500 | -0.0700 to -0.0300 | -0.0100 | **no** |" in table[2]
    assert "x0.750 | x0.700 to x0.850 | x0.800 | ok, not certain |" in table[3]
    assert lines[-1] == "About 400 images would settle it in place of 64."
    assert advice(result(certain=True)) == advice(result(images_needed=10)) == ""
