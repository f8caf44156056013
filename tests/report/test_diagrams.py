"""Diagrams are drawings inside the page: every point is where its numbers are, and nothing has to be fetched."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

import tui_pruner.report
from tests.report.pages import LEFT, PROOF, measured, metrics, page, stage
from tui_pruner.engine.messages import CutRequest, StepView, Totals
from tui_pruner.report.diagrams import ChartDot, Diagram, DotLine, svg, ticks

STYLE = Path(tui_pruner.report.__file__).with_name("page.css")
STAGES = [stage("original", 0.60, 4000), stage("cut 50", 0.41), stage("refit 50", 0.59), stage("bench")]
CURVE = [{"epoch": n, "train/box_loss": 2.0 / n, "train/cls_loss": 1.0 / n, "val/box_loss": 2.5 / n, "metrics/mAP50-95(B)": 0.1 * n}
         for n in range(1, 6)]  # fmt: skip


def step(number: int, flops: int) -> StepView:
    totals = Totals(parameters=1, flops=flops, bytes=2)
    return StepView(number=number, title="", requests=[CutRequest(layer="0", amount="10%")], totals=totals, notes=[], proof=PROOF)


def drawings(text: str) -> list[ET.Element]:
    return [ET.fromstring(found) for found in re.findall(r"<svg.*?</svg>", text, re.DOTALL)]


def words(drawing: ET.Element, of: str) -> list[str]:
    return ["".join(found.itertext()) for found in drawing.iter(of)]


def test_accuracy_over_flops_shows_the_original_every_measured_step_and_the_stages():
    steps = [step(1, 3000), step(2, 2500), step(3, LEFT.flops)]
    found = metrics(0.60, measured(0.41, 0.38, 0.44), [measured(0.55), None, measured(0.41)])
    (drawing,) = drawings(page(metrics=found, steps=steps, stages=STAGES))
    assert words(drawing, "title") == [
        "original 0.6000", "step 1 0.5500", "step 3 0.4100 (0.3800 to 0.4400)",
        "original 0.6000", "cut 50 0.4100", "refit 50 0.5900",
    ]  # fmt: skip
    assert {"mAP50-95 (box)", "GFLOPs per image", "steps of the plan", "stages"} <= set(words(drawing, "text"))


def test_diagram_needs_measurements_and_stages_suffice_without_data():
    assert "<svg" not in page()
    assert len(drawings(page(stages=STAGES))) == 1


def test_training_is_drawn_with_its_metric_and_its_losses():
    text = page(stages=[*STAGES, stage("fine-tune 50", 0.6, curve=CURVE)])
    _, metric, losses = drawings(text)
    assert len(words(metric, "title")) == 5
    assert words(losses, "title") == [f"{3 / n:.4f}" for n in range(1, 6)] + [f"{2.5 / n:.4f}" for n in range(1, 6)]
    assert "<h2>Training</h2>" in text and "<h2>Training</h2>" not in page(stages=STAGES)


def test_markdown_has_the_points_as_a_table():
    text = page(".md", stages=STAGES)
    assert "| stages | cut 50 | 2e-06 | 0.4100 |" in text


def test_larger_values_are_drawn_higher_and_further_right():
    (drawing,) = drawings(svg(Diagram("x", "y", (DotLine("a", (ChartDot(1, 1, "low"), ChartDot(2, 3, "high"))),))))
    low, high = (found.find("circle") for found in drawing.iter("g") if found.find("title") is not None)
    assert float(low.get("cx")) < float(high.get("cx")) and float(low.get("cy")) > float(high.get("cy"))


@pytest.mark.parametrize(
    "dots",
    [
        (ChartDot(1, 1),),
        (ChartDot(0, 0), ChartDot(0, 0)),
        (ChartDot(1, float("nan")), ChartDot(1, 2)),
        (ChartDot(1e12, -1e-9), ChartDot(1e12, 1e-9)),
    ],
)
def test_any_numbers_can_be_drawn(dots: tuple[ChartDot, ...]):
    text = svg(Diagram("x", "<y>", (DotLine("a & b", dots),)))
    assert "nan" not in text and "inf" not in text
    assert drawings(text)


@pytest.mark.parametrize(("low", "high"), [(0.0, 1.0), (0.41, 0.6), (1.9e9, 8.7e9), (-3.0, 3.0), (5.0, 5.0), (0.0, 0.0)])
def test_ticks_are_few_and_include_both_ends(low: float, high: float):
    found = ticks(low, high)
    assert found[0] <= low and high <= found[-1] and 3 <= len(found) <= 8


def test_labels_do_not_overlap():
    text = svg(Diagram("x", "y", (DotLine("a", tuple(ChartDot(n / 100, 0.5, f"stage {n}") for n in range(40))),)))
    assert 3 <= text.count('class="name"') < 40
    assert text.count("<title>") == 40


def test_long_tables_are_folded_on_screen_and_open_in_print():
    text, style = page(), STYLE.read_text()
    assert "<details><summary>1 block, 1 of them smaller</summary>" in text
    assert '<meta name="viewport" content="width=device-width, initial-scale=1">' in text
    assert "@media (max-width: 600px)" in style
    assert "details::details-content" in style[style.index("@media print") :]
