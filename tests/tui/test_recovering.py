"""Recovery runs as a job that writes a separate file, which can be opened as the next stage."""

import asyncio
from pathlib import Path

from tui_pruner.engine.processes import start_python
from tui_pruner.engine.recovery_messages import FinetuneResult, LayerFit, ReconstructionResult
from tui_pruner.tui.job_specs.job import JobSpec, ModelFile, OpenCheckpoint
from tui_pruner.tui.job_specs.recovery import RECOVERIES, recovery
from tui_pruner.tui.opening import Opening

PRUNED = ModelFile("pruned.pt", "1" * 64)
NUMBERS = {way.name: number for number, way in enumerate(RECOVERIES, start=1)}


def job_of(name: str, demo_data: Path, taken: list[str], source: ModelFile = PRUNED) -> JobSpec:
    class Model:
        path, sha256, imgsz = "original.pt", "0" * 64, 160

    checkpoint = OpenCheckpoint(Opening("original.pt", images=8, classes=3), Model(), str(demo_data))
    way = RECOVERIES[NUMBERS[name] - 1]
    return recovery(way, checkpoint, source, "out.pt", True, taken.append)


def test_fine_tuning_has_the_requested_parameters(demo_data: Path):
    parameters = job_of("10 epochs + distillation", demo_data, []).parameters()
    assert (parameters.checkpoint, parameters.sha256, parameters.output, parameters.force) == ("pruned.pt", "1" * 64, "out.pt", True)
    assert (parameters.epochs, parameters.teacher, parameters.images, parameters.imgsz) == (10, "original.pt", None, 160)
    assert job_of("3 epochs", demo_data, []).parameters().teacher is None


async def test_result_of_a_fine_tuning_is_reported_with_its_epochs(demo_data: Path):
    taken: list[str] = []
    metric = "metrics/mAP50-95(B)"
    result = FinetuneResult(
        output="out.pt", sha256="2" * 64, bytes=1, checks=[], metrics={metric: 0.8815}, best_epoch=2, epochs=3, seconds=125.0, stopped=True,
        curve=[{metric: 0.5, "train/box_loss": 1.25}, {metric: 0.8815, "train/box_loss": 0.5}],
    )  # fmt: skip
    outcome = await job_of("10 epochs", demo_data, taken).take(result.model_dump())
    assert taken == ["out.pt"]
    assert outcome.figure.startswith("mAP .881 on all validation images, O opens it, epoch 2 of 3 was best, stopped early")
    assert ("epoch 2", "mAP .881, box_loss 0.5") in outcome.details


def refit_result(**changed: object) -> ReconstructionResult:
    """What a refit came to: two layers, one of them left as cut, and both outputs of a segmentation."""
    fields = {
        "output": "out.pt", "sha256": "2" * 64, "bytes": 1, "checks": [], "images": 48, "held_out": 16, "seconds": 5.25, "kept": "both",
        "layers": [LayerFit(layer="model.22.cv3.0.1.conv", error_before=0.12, error_after=0.034),
                   LayerFit(layer="model.2.cv1.conv", error_before=0.0021, error_after=0.0021)],
        "distance": {"cut": 0.31, "recalibrated": 0.12, "refitted": 0.03, "both": 0.024},
        "outputs": {"both": {"scores": 0.04, "masks": 0.008}},
    }  # fmt: skip
    return ReconstructionResult(**{**fields, **changed})


def test_refit_is_the_first_choice_and_reads_unlabelled_images_and_the_original(demo_data: Path):
    assert NUMBERS["refit"] == 1
    wanted = job_of("refit", demo_data, [])
    parameters = wanted.parameters()
    assert (wanted.kind, parameters.checkpoint, parameters.original, parameters.images) == ("reconstruct", "pruned.pt", "original.pt", 64)
    assert (parameters.output, parameters.force, parameters.data) == ("out.pt", True, str(demo_data))
    opened = job_of("refit", demo_data, [], ModelFile("original.pt", "0" * 64)).parameters()
    assert opened.original is None, "without a step the opened file itself is refitted, to what it was cut from"


async def test_result_of_a_refit_names_the_kept_candidate(demo_data: Path):
    taken: list[str] = []
    outcome = await job_of("refit", demo_data, taken).take(refit_result().model_dump())
    assert taken == ["out.pt"]
    assert outcome.figure == "refitted and recalibrated, O opens it, distance 0.310→0.024, 48 images"
    details = list(outcome.details)
    assert ("0.024", "refitted and recalibrated, kept as the closest") in details and ("0.310", "cut") in details
    assert ("outputs", "scores 0.040, masks 0.008") in details
    assert ("images", "48 to refit on, 16 others to judge by, no labels") in details
    assert details[-2:] == [("0.120→0.034", "model.22.cv3.0.1.conv"), ("0.0021", "model.2.cv1.conv, left as cut")]
    assert dict(details)["proof"] == "the masked twin proves the cut alone; the refit that follows is judged by its distance"
    assert "proved" not in outcome.figure
    outcome = await job_of("refit", demo_data, []).take(refit_result(kept="cut").model_dump())
    assert outcome.figure.startswith("kept as cut, O opens it, distance 0.310,")


async def test_proved_step_is_refitted_before_its_validation_if_automatic_refit_is_on(start, demo_checkpoint: Path, demo_data: Path):
    answers = {
        "reconstruct": refit_result().model_dump_json(),
        "validate": '{"metrics": {"metrics/mAP50-95(B)": 0.5}, "images": 2, "seconds": 1.0}',
    }

    async def answer(kind: str, scratch: str, log: Path | None) -> asyncio.subprocess.Process:
        content = f'{{"result": {answers[kind]}}}'
        return await start_python("-c", f"import sys; sys.stdin.readline(); print({content!r})", log=log)

    async with start(opening=Opening(str(demo_checkpoint), imgsz=64, images=2)) as desk:
        bench = desk.bench
        bench.queue._start = answer
        await desk.press("Y")
        await desk.until(lambda: any("refit after every step is on; it waits for data" in said for said in desk.said), "the switch")
        bench.store.state.checkpoint.data = str(demo_data)
        await desk.go("model.5")
        await desk.press("3", "0", "enter", "a")
        await desk.until(lambda: bench.store.state.metrics.latest is not None, "the validation of the step")
        kinds = [job.spec.name for job in bench.queue.jobs]
        assert kinds == ["refit step 1", "validate checkpoint", "validate step 1"]
        assert desk.state.session.steps[0].proof.equal, "the proof came first"
        parameters = bench.queue.jobs[0].parameters
        assert (parameters.original, parameters.images) == (str(demo_checkpoint), 64)
        assert parameters.checkpoint != str(demo_checkpoint) and parameters.output.endswith("-refitted.pt")
        line = desk.line("1 model.5 −30%")
        assert "proved" in line and "0.310→0.024" in line and ".500" in line
        assert "every step: refit, validate" in desk.text
        await desk.press("u")
        await desk.until(lambda: "undone" in desk.text, "the step undone")
        assert "0.310→0.024" in desk.text, "the distance stays with the state that it is of"
        await desk.press("Y")
        assert not desk.state.refitting
