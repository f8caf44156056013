"""Accuracy is got back by a job on a file of its own, and the file can be opened as the next stage."""

from pathlib import Path

from tui_pruner.engine.job_messages import FinetuneResult
from tui_pruner.tui.opening import Opening
from tui_pruner.tui.queued_job import Wanted
from tui_pruner.tui.recoveries import RECOVERIES, recovery
from tui_pruner.tui.screens.chooser import Chooser
from tui_pruner.tui.screens.path_prompt import PathPrompt
from tui_pruner.tui.screens.question import Question
from tui_pruner.tui.subject import Source, Subject

NUMBERS = {way.name: number for number, way in enumerate(RECOVERIES, start=1)}


async def test_a_recalibration_is_written_beside_the_session_and_opened_as_the_next_stage(
    start, demo_checkpoint: Path, demo_data: Path, tmp_path: Path
):
    target = tmp_path / "digits-recovered.pt"
    async with start(opening=Opening(str(demo_checkpoint), images=2, data=str(demo_data))) as desk:
        desk.bench.automatic = False
        await desk.press("G")
        await desk.until(lambda: any("nothing was recovered yet" in said for said in desk.said), "the refusal")
        await desk.go("model.5")
        await desk.press("3", "0", "enter", "a")
        await desk.until(lambda: len(desk.board.session.steps) == 1, "the step")
        await desk.press("R")
        await desk.until(lambda: isinstance(desk.app.screen, Chooser), "the ways")
        await desk.press(str(NUMBERS["recalibrate"]))
        await desk.until(lambda: isinstance(desk.app.screen, PathPrompt), "the place")
        await desk.press("ctrl+u", *str(target), "enter")
        await desk.until(lambda: any("goes on with it" in said for said in desk.said), "the file")
        assert target.exists() and desk.board.session.unsaved, "a job's file is no place where the user saved"
        assert any("57 layers recalibrated" in note for note, _ in desk.bench.notes)
        before = desk.bench
        await desk.press("G")
        await desk.until(lambda: isinstance(desk.app.screen, Question), "the question")
        await desk.press("g")
        await desk.until(lambda: desk.bench is not before and desk.ready, "the next stage")
        assert desk.board.opened.model.path == str(target) and not desk.board.session.steps
        assert desk.board.layers["model.5"].out_channels == 90
        assert desk.bench.subject.data == str(demo_data)


def job_of(name: str, demo_data: Path, taken: list[str]) -> Wanted:
    class Model:
        path, sha256, imgsz = "original.pt", "0" * 64, 160

    subject = Subject(Opening("original.pt", images=8, classes=3), Model(), str(demo_data))
    way = RECOVERIES[NUMBERS[name] - 1]
    return recovery(way, subject, Source("pruned.pt", "1" * 64), "out.pt", True, taken.append)


def test_what_a_fine_tuning_is_asked_for(demo_data: Path):
    parameters = job_of("10 epochs, taught", demo_data, []).parameters()
    assert (parameters.checkpoint, parameters.sha256, parameters.output, parameters.force) == ("pruned.pt", "1" * 64, "out.pt", True)
    assert (parameters.epochs, parameters.teacher, parameters.images, parameters.imgsz) == (10, "original.pt", None, 160)
    assert job_of("3 epochs", demo_data, []).parameters().teacher is None


async def test_what_came_of_a_fine_tuning_is_told_epoch_by_epoch(demo_data: Path):
    taken: list[str] = []
    metric = "metrics/mAP50-95(B)"
    result = FinetuneResult(
        output="out.pt", sha256="2" * 64, bytes=1, checks=[], metrics={metric: 0.8815}, best_epoch=2, epochs=3, seconds=125.0, stopped=True,
        curve=[{metric: 0.5, "train/box_loss": 1.25}, {metric: 0.8815, "train/box_loss": 0.5}],
    )  # fmt: skip
    outcome = await job_of("10 epochs", demo_data, taken).take(result.model_dump())
    assert taken == ["out.pt"]
    assert outcome.figure.startswith("mAP .881 on all validation images: epoch 2 of 3 was best, stopped early")
    assert ("epoch 2", "mAP .881, box_loss 0.5") in outcome.details
