"""The recipe of a compression: shown, edited, refused where it cannot be read, kept as a file, queued, and followed stage by stage."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
from textual.widgets import Input

from tests.tui.helpers import Desk
from tui_pruner.domain.errors import RequestError
from tui_pruner.engine.job_messages import JobProgress
from tui_pruner.engine.recovery_messages import CompressParameters, CompressResult, CompressStage
from tui_pruner.storage.recipe import read_recipe, recipe_from_lines, write_recipe
from tui_pruner.tui.controllers.base import ask_to_cancel
from tui_pruner.tui.job_specs.compression import default_lines, edit, figure, parsed_recipe, settings_of, stage_states, stage_words
from tui_pruner.tui.job_specs.job import DONE, RUNNING, WAITING, JobSpec, QueuedJob
from tui_pruner.tui.panes.widgets import Lines
from tui_pruner.tui.screens.forms import RecipeForm

LINES = default_lines("obs", 1)


def fill(desk: Desk, field: str, text: str) -> None:
    """Write something into a field of the recipe."""
    desk.app.screen.query_one(f"#{field}", Input).value = text


def waiting_compression(folder: Path, **lines: str) -> QueuedJob:
    """A compression that waits."""
    spec = JobSpec("compress", "flops=60%", str(folder), lambda: None, lambda _: None, recipe={**LINES, **lines})  # type: ignore[arg-type,return-value]
    return QueuedJob(spec, 1)


async def test_recipe_is_shown_edited_saved_and_queued(start, small_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    queued: list[Any] = []
    async with start() as desk:
        assert desk.state.checkpoint is not None
        desk.state.checkpoint.data = str(small_data)
        monkeypatch.setattr(desk.bench.jobs, "add", lambda wanted, *_: queued.append(wanted))
        await desk.press("C")
        await desk.until(lambda: isinstance(desk.app.screen, RecipeForm), "the recipe")
        words = ("scan", "target", "refit", "fine-tune", "validate", "export", "report", "tiny-compressed")
        await desk.until(lambda: all(word in desk.text for word in words), "the stages")
        await desk.press("tab", "tab", *"off")
        assert desk.app.screen.query_one("#refit", Input).value == "off", "what is typed after Tab replaces the setting"
        fill(desk, "refit", "64")
        fill(desk, "fine-tune", "epocs=3")
        await desk.press("enter")
        await desk.until(lambda: "fine-tune has no 'epocs'; did you mean epochs?" in desk.text, "the nearest word")
        changes = {
            "fine-tune": "3 lr0=0.001",
            "target": "flops=70% params=2M",
            "validate": "max-drop=0.02",
            "folder": str(tmp_path / "out"),
        }
        for field, text in {**changes, "file": str(tmp_path / "kept.yaml")}.items():
            fill(desk, field, text)
        await desk.press("ctrl+s")
        assert read_recipe(tmp_path / "kept.yaml").line_of("fine-tune") == "3 lr0=0.001"
        await desk.press("ctrl+s")
        await desk.until(lambda: "exists" in desk.text, "the question before a file is replaced")
        fill(desk, "fine-tune", "off")
        await desk.press("ctrl+o")
        assert desk.app.screen.query_one("#fine-tune", Input).value == "3 lr0=0.001"
        await desk.press("enter")
        await desk.until(lambda: bool(queued), "the job")
    parameters = queued[0].parameters()
    assert (parameters.targets, parameters.epochs, parameters.lr0, parameters.max_drop) == (["flops=70%", "params=2M"], 3, 0.001, 0.02)
    assert (parameters.folder, parameters.criterion, parameters.plan) == (str(tmp_path / "out"), "obs", None)


async def test_running_compression_shows_its_stages_and_later_ones_are_edited(start, tmp_path: Path):
    async with start() as desk:
        job = waiting_compression(tmp_path, **{"fine-tune": "3"})
        desk.queue.jobs.append(job)
        job.state, job.parameters = RUNNING, CompressParameters(checkpoint="", sha256="", data="", imgsz=64, targets=[], folder="")
        write_recipe(tmp_path / "recipe.yaml", recipe_from_lines(job.spec.recipe))
        job.follow(JobProgress(done=0, total=0, doing="original: done", stage="validate", figure="mAP .894"), 1.0)
        phase = "plan: trial 3, which has more words than its column has cells"
        job.started = time.monotonic()
        job.follow(JobProgress(done=3, total=9, doing=phase, stage="target"), 2.0)
        await desk.pilot.resize_terminal(120, 40)
        desk.controllers.recover.show_recipe()
        await desk.until(lambda: isinstance(desk.app.screen, RecipeForm) and "mAP .894" in desk.text, "the states")
        assert "plan: trial 3" in desk.line("target") and "waiting" in desk.line("fine-tune") and "left out" in desk.line("scan")
        progress = desk.app.screen.query_one("#progress", Lines)
        assert "3/9" in progress._texts[0].plain and progress._texts[1].plain.strip() == phase and phase in desk.text
        for (width, height), told in (((60, 20), "plan: trial 3, which has more words than its col…"), ((80, 24), phase)):
            await desk.pilot.resize_terminal(width, height)
            await desk.until(lambda told=told: told in desk.text, "the phase, as far as it fits")
            rows = (*LINES, "folder", "recipe file")
            words = ("3/9", "elapsed", "waiting", "left out", "mAP .894", "leaves it", "Enter keep", "Esc close")
            assert [word for word in (*rows, *words) if word not in desk.text] == [], f"{width}x{height}"
        fields = {field.id: field.disabled for field in desk.app.screen.query(Input)}
        assert fields["validate"] and fields["target"] and fields["folder"] and not fields["fine-tune"] and not fields["report"]
        fill(desk, "fine-tune", "5")
        desk.app.screen.query_one("#fine-tune", Input).focus()
        await desk.press("enter")
        await desk.until(lambda: not isinstance(desk.app.screen, RecipeForm), "the workbench")
        desk.queue.jobs.remove(job)
    assert read_recipe(tmp_path / "recipe.yaml").line_of("fine-tune") == "5" and job.spec.recipe["fine-tune"] == "5"


def test_started_stage_cannot_be_edited(tmp_path: Path):
    job = waiting_compression(tmp_path)
    assert edit(job, {**LINES, "refit": "off"}) == [] and job.spec.recipe["refit"] == "off" and not (tmp_path / "recipe.yaml").exists()
    job.state, job.parameters = RUNNING, CompressParameters(checkpoint="", sha256="", data="", imgsz=64, targets=[], folder="")
    with pytest.raises(RequestError, match="just starting"):
        edit(job, LINES)
    write_recipe(tmp_path / "recipe.yaml", recipe_from_lines(job.spec.recipe))
    job.follow(JobProgress(done=0, total=0, stage="refit"), 1.0)
    assert edit(job, {**LINES, "bench": "off"}) == ["refit"]
    recipe = read_recipe(tmp_path / "recipe.yaml")
    assert (recipe.line_of("refit"), recipe.line_of("bench")) == ("off", "off")


def test_states_of_stages_follow_the_job(tmp_path: Path):
    job = waiting_compression(tmp_path)
    assert stage_states(job)["scan"] == ("", "left out") and stage_states(job)["refit"] == (WAITING, "64")
    job.state = RUNNING
    job.follow(JobProgress(done=1, total=2, doing="refit flops-60", stage="refit"), 1.0)
    assert stage_states(job)["refit"] == (RUNNING, "1/2 refit flops-60")
    job.follow(JobProgress(done=0, total=0, stage="refit", figure="mAP .88"), 2.0)
    assert stage_states(job)["refit"] == (DONE, "mAP .88")


@pytest.mark.parametrize(
    ("stage", "text", "message"),
    [
        ("target", "off", "write what shall be left"),
        ("target", "flop=60%", "by flops, params"),
        ("refit", "1", "greater than or equal to 2"),
        ("validate", "max-drop=little", "valid number"),
        ("bench", "-3", "bench runs"),
        ("export", "onx", "did you mean onnx"),
    ],
)
def test_unreadable_line_of_the_recipe_is_reported(stage: str, text: str, message: str):
    with pytest.raises(RequestError, match=message):
        parsed_recipe({**LINES, stage: text}, 0)


def test_steps_are_the_plan_if_there_is_no_target():
    assert parsed_recipe({**LINES, "target": "off"}, 1)["target"] == "off"


def test_all_settings_of_a_stage_are_listed():
    assert settings_of("fine-tune") == "fine-tune: epochs=10 lr0= teacher=yes patience=0; off leaves it out"
    assert default_lines("l2", 8)["target"] == "flops=60% criterion=l2 round-to=8"


def test_result_of_a_compression_has_a_line_and_one_for_each_stage():
    stage = CompressStage(name="refit flops-60", metrics={"metrics/mAP50-95(B)": 0.5}, seconds=3.0, details=["kept: refitted"])
    result = CompressResult(
        stages=[stage], output="out/compressed.pt", original={"metrics/mAP50-95(B)": 0.5}, metrics={"metrics/mAP50-95(B)": 0.25},
        flops={"before": 10, "after": 6}, parameters={"before": 10, "after": 5}, seconds=61.0,
    )  # fmt: skip
    assert figure(result).startswith("mAP .500→.250, 60.0 % of the FLOPs, 1 stage")
    assert "kept: refitted" in stage_words(stage, result.original)
    assert (
        figure(result.model_copy(update={"output": None, "stopped": "flops=90% loses 0.4"}))
        == "nothing was good enough: flops=90% loses 0.4"
    )


def test_question_before_a_compression_is_cancelled_says_that_finished_stages_are_kept(tmp_path: Path):
    asked: list[str] = []

    class Dialogs:
        def confirm(self, title: str, text: str, answers: Any, then: Any) -> None:
            asked.append(text)

    ask_to_cancel(Dialogs(), None, waiting_compression(tmp_path))  # type: ignore[arg-type]
    assert asked == ["Its finished stages are kept, and it resumes from them; what the present one has done so far is lost."]
