"""The recipe of a compression: shown, changed, refused where it cannot be read, and queued as a job."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from textual.widgets import Input

from tests.tui.helpers import Desk
from tui_pruner.engine.job_messages import CompressResult, CompressStage
from tui_pruner.tui.job_specs.compression import RECIPE, figure, stage_words, understood
from tui_pruner.tui.screens.forms import Recipe

TEXTS = {item.field: item.value for item in RECIPE} | {"folder": "out"}


def fill(desk: Desk, field: str, text: str) -> None:
    """Write something into a field of the recipe."""
    desk.app.screen.query_one(f"#{field}", Input).value = text


async def test_the_recipe_is_shown_changed_and_queued(start, small_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    queued: list[Any] = []
    async with start() as desk:
        assert desk.state.checkpoint is not None
        desk.state.checkpoint.data = str(small_data)
        monkeypatch.setattr(desk.bench.jobs, "add", lambda wanted, *_: queued.append(wanted))
        await desk.press("C")
        await desk.until(lambda: isinstance(desk.app.screen, Recipe), "the recipe")
        assert all(word in desk.text for word in ("plan", "refit", "fine-tune", "validate", "export", "report", "tiny-compressed"))
        fill(desk, "epochs", "many")
        await desk.press("enter")
        assert "epochs is 'many': write a whole number" in desk.text
        for field, text in {"epochs": "3", "targets": "flops=70% params=2M", "max_drop": "0.02", "folder": str(tmp_path / "out")}.items():
            fill(desk, field, text)
        await desk.press("enter")
        await desk.until(lambda: bool(queued), "the job")
    parameters = queued[0].parameters()
    assert (parameters.targets, parameters.epochs, parameters.max_drop) == (["flops=70%", "params=2M"], 3, 0.02)
    assert (parameters.folder, parameters.criterion, parameters.plan) == (str(tmp_path / "out"), "obs", None)


@pytest.mark.parametrize(
    ("field", "text", "message"),
    [
        ("targets", " ", "what shall be left is empty"),
        ("images", "1", "2 images or more"),
        ("max_drop", "little", "write a number such as 0.01, or nothing"),
        ("bench", "-3", "write a whole number"),
    ],
)
def test_a_field_that_cannot_be_read_is_told(field: str, text: str, message: str):
    with pytest.raises(ValueError, match=message):
        understood({**TEXTS, field: text})


def test_what_came_out_is_a_line_and_each_stage_another():
    stage = CompressStage(name="refit flops-60", metrics={"metrics/mAP50-95(B)": 0.5}, seconds=3.0, details=["kept: refitted"])
    result = CompressResult(
        stages=[stage], output="out/compressed.pt", original={"metrics/mAP50-95(B)": 0.5}, metrics={"metrics/mAP50-95(B)": 0.25},
        flops={"before": 10, "after": 6}, parameters={"before": 10, "after": 5}, seconds=61.0,
    )  # fmt: skip
    assert figure(result).startswith("60.0 % of the FLOPs, mAP .250 of .500, 1 stage")
    assert "kept: refitted" in stage_words(stage, result.original)
    assert (
        figure(result.model_copy(update={"output": None, "stopped": "flops=90% loses 0.4"}))
        == "nothing was good enough: flops=90% loses 0.4"
    )
