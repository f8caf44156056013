"""`steps`, `--steps` and `sessions`: what the app's timeline does, without the app."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from tests.cli.conftest import Call
from tui_pruner.storage import sessions

SMALL = ("yolov8n.yaml", "--imgsz", "64")


@pytest.fixture
def plan(call: Call, tmp_path: Path) -> Path:
    """A plan of two steps, the first named."""
    one, two = tmp_path / "one.yaml", tmp_path / "two.yaml"
    assert call("steps", *SMALL, "--cut", "model.5=25%", "--name", "1=first half", "--save-plan", one).status == 0
    assert call("steps", *SMALL, "--plan", one, "--cut", "model.7=50%", "--save-plan", two).status == 0
    return two


def test_steps_are_listed_compared_and_saved_with_their_names(call: Call, plan: Path):
    assert [step["name"] for step in yaml.safe_load(plan.read_text())["steps"]] == ["first half", ""]
    document = call("steps", *SMALL, "--plan", plan, "--compare", 1, 2, "--json").document
    assert [step["title"] for step in document["steps"]] == ["first half", "model.7 -50%"]
    widths = {name: (width["out_before"], width["out_after"]) for name, width in document["comparison"]["layers"].items()}
    assert widths["model.7"] == (256, 128) and "model.5" not in widths
    assert document["original"]["parameters"] > document["steps"][0]["totals"]["parameters"] > document["steps"][1]["totals"]["parameters"]
    text = call("steps", *SMALL, "--plan", plan, "--compare", 0, 1).out
    assert "step 0 -> step 1" in text and "128 -> 96" in text


def test_first_steps_of_a_plan_are_used_alone(call: Call, plan: Path):
    document = call("preview", *SMALL, "--plan", plan, "--steps", 1, "--json").document
    assert {name for name, width in document["layers"].items() if width["out_before"] != width["out_after"]} == {"model.5"}
    refused = call("preview", *SMALL, "--plan", plan, "--steps", 3)
    assert refused.status == 2
    assert refused.err.splitlines()[-1].endswith("has no step 3: the last step is 2")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--name", "first"], "is not N=WORDS"),
        (["--name", "3=third"], "no step 3"),
        (["--compare", 0, 9], "no step 9"),
    ],
)
def test_impossible_steps_are_refused_in_one_line(call: Call, plan: Path, options: list[object], words: str):
    refused = call("steps", *SMALL, "--plan", plan, *options)
    assert refused.status == 2 and words in refused.err.splitlines()[-1]


def test_existing_plan_is_kept_without_force(call: Call, plan: Path):
    before = plan.read_bytes()
    assert call("steps", *SMALL, "--cut", "5=10%", "--save-plan", plan).status == 2
    assert plan.read_bytes() == before


def test_saved_sessions_are_listed(call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    assert call("sessions").out == "none is kept\n"
    kept = sessions.SavedSession(id="20260101-000000-best-ab12", model="/m/best.pt", plan={"steps": [{}, {}]}, steps=1)
    file = sessions.SessionFile(kept.id)
    file.keep(kept)
    (found,) = call("sessions", "--json").document["sessions"]
    assert (found["id"], found["steps"], found["state"]) == (kept.id, 1, "open")
    assert "1 of 2 steps" in call("sessions").out
    refused = call("--session", "1999")
    assert refused.status == 2
