"""Losses are marked as losses, changes that may be chance are grey, and recovered and timed models have cards."""

from __future__ import annotations

import re

import pytest

from tests.report.pages import measured, metrics, page, sensitive, stage, timed


def card(text: str, label: str) -> tuple[str, str]:
    """A card's mood and its words."""
    found = re.search(rf'<div class="tile (\w+)"><div class="label">{label}<.*', text)
    assert found, label
    return found[1], found[0]


@pytest.mark.parametrize(
    ("after", "mood"),
    [
        (measured(0.56, 0.50, 0.58), "bad"),
        (measured(0.56, 0.50, 0.62), "quiet"),
        (measured(0.56), "bad"),
        (measured(0.60), "quiet"),
        (measured(0.68, 0.61, 0.70), "good"),
        (measured(0.61, 0.55, 0.66), "quiet"),
    ],
)
def test_loss_is_bad_beyond_the_interval_grey_within_it_and_never_good(after, mood):
    text = page(metrics=metrics(0.60, after))
    found, words = card(text, r"mAP50-95 \(box\)")
    assert found == mood
    assert ("95 % interval" in words) == (after.interval is not None)
    change = {"bad": 'class="right bad"', "quiet": 'class="right quiet"', "good": 'class="right good"'}[mood]
    assert change in text[text.index("<h2>Accuracy") :]


def test_style_sheet_has_colours_for_loss():
    from tui_pruner.report.document import Document, html

    style = html(Document("", "", "", "good", (), ""))
    assert ".tile.bad .change, td.bad .change { color: var(--bad); }" in style and ".bar.bad b { background: var(--bad); }" in style


@pytest.mark.parametrize(("ratio", "mood"), [((0.7, 0.6, 0.8), "plain"), ((1.0, 0.9, 1.1), "quiet"), ((1.2, 1.1, 1.3), "bad")])
def test_measured_latency_has_a_card_with_its_interval(ratio, mood):
    found, words = card(page(latency=timed(*ratio)), "Latency")
    assert found == mood
    assert f"{ratio[0]:.3f} of the original" in words and f"95 % interval {ratio[1]:.3f} to {ratio[2]:.3f}" in words
    assert "Latency" not in page()


def test_recovered_model_has_a_card_and_a_column():
    stages = [stage("original", 0.60, 4000), stage("cut 50", 0.41), stage("refit 50", 0.59), stage("bench"), stage("report")]
    text = page(metrics=metrics(0.60, measured(0.41, 0.38, 0.43)), stages=stages)
    assert card(text, r"mAP50-95 \(box\)")[0] == "bad"
    mood, words = card(text, r"mAP50-95 \(box\) recovered")
    assert mood == "quiet" and "0.6000 → 0.5900" in words and "after refit 50" in words
    accuracy = text[text.index("<h2>Accuracy") : text.index("<h2>Steps")]
    assert ">recovered</th>" in accuracy and ">0.5900</td>" in accuracy
    assert "recovered" not in page(metrics=metrics(0.60, measured(0.41)), stages=stages[:2])


def test_bars_of_a_scan_have_the_colour_of_loss():
    text = page(sensitivity=[sensitive("model.0", 0.1), sensitive("model.1", 0.05)])
    assert text.count('<span class="bar bad"') == 2


def test_lineage_has_every_step_and_stage_with_interval_and_latency():
    found = metrics(0.60, measured(0.41, 0.38, 0.43), [measured(0.41, 0.38, 0.43)])
    text = page(".md", metrics=found, latency=timed(0.8, 0.7, 0.9), stages=[stage("original"), stage("cut"), stage("refitted", 0.57)])
    rows = [line for line in text.splitlines() if line.startswith(("| original |", "| step 1: a cut |", "| refitted |", "| cut |"))]
    assert rows[:3] == [
        "| original | 4,000 | 1,000 | 0.6000 |  |  | 1.000 |  |",
        "| step 1: a cut | 2,000 | 600 | 0.4100 | **−0.1900** | 0.3800 to 0.4300 | 0.800 | proved |",
        "| refitted | 2,000 | 500 | 0.5700 | **−0.0300** |  |  |  |",
    ]
    assert "## Stages" not in page(".md")
