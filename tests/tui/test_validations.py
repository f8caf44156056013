"""Validations in the queue: the checkpoint first, nothing twice, and other data makes other metrics."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from tui_pruner.tui.job_queue import JobQueue
from tui_pruner.tui.job_specs.job import OpenCheckpoint, QueuedJob
from tui_pruner.tui.job_specs.measurement import Validations
from tui_pruner.tui.messages import JobsChanged
from tui_pruner.tui.opening import Opening
from tui_pruner.tui.timeline import StepMetrics

STEPS = [{"name": "", "cuts": [{"layer": "model.5", "amount": "30%"}]}]
RESULT = {"metrics": {"metrics/mAP50-95(B)": 0.5, "fitness": 0.5}, "images": 64, "seconds": 3.2, "notes": ["the side is rounded up"]}


class Idle(JobQueue):
    """A queue that never gets round to its jobs."""

    async def _work(self) -> None:
        return


class Deaf:
    def post_message(self, message: JobsChanged) -> bool:
        return True


@pytest.fixture
def checkpoint() -> OpenCheckpoint:
    model: Any = SimpleNamespace(path="best.pt", sha256="0" * 64, imgsz=640)
    return OpenCheckpoint(Opening("best.pt", classes=3, images=32, device="cpu"), model, "first.yaml")


def session(steps: list[dict[str, Any]]) -> Any:
    return SimpleNamespace(steps=[SimpleNamespace(title="model.5 -30%") for _ in steps], plan={"steps": steps}, later=[])


class Desk:
    def __init__(self, checkpoint: OpenCheckpoint) -> None:
        self.scores, self.checkpoint = StepMetrics(), checkpoint
        self.queue = Idle(Deaf())  # type: ignore[arg-type]
        self.validations = Validations(self.queue, checkpoint, self.scores)

    @property
    def titles(self) -> list[str]:
        return [f"{job.spec.title} on {job.spec.data}" for job in self.queue.jobs if not job.over]

    async def finish(self, job: QueuedJob) -> None:
        job.outcome = await job.spec.take(RESULT)
        job.end("done", 1.0)


async def test_checkpoint_and_step_are_each_validated_once(checkpoint):
    desk = Desk(checkpoint)
    desk.scores.follow(session(STEPS))
    assert desk.validations.ask(session(STEPS)) and not desk.validations.ask(session(STEPS))
    assert desk.titles == ["checkpoint on first.yaml", "step 1 on first.yaml"]
    for job in desk.queue.jobs:
        await desk.finish(job)
    assert (desk.scores.baseline, desk.scores.latest) == (0.5, 0.5)
    assert not desk.validations.ask(session(STEPS))


async def test_parameters_of_a_validation_have_the_checkpoint_and_the_plan(checkpoint):
    desk = Desk(checkpoint)
    desk.validations.ask(session(STEPS))
    whole, cut = (job.spec.parameters() for job in desk.queue.jobs)
    assert whole.model_dump() | {"plan": {"steps": STEPS}} == cut.model_dump()
    assert (cut.checkpoint, cut.data, cut.images, cut.imgsz, cut.device, cut.classes) == ("best.pt", "first.yaml", 32, 640, "cpu", 3)


async def test_result_shows_its_metric_its_images_and_its_notes(checkpoint):
    desk = Desk(checkpoint)
    desk.validations.ask(session([]))
    (job,) = desk.queue.jobs
    await desk.finish(job)
    assert job.outcome.figure == "mAP .500, 64 images"
    assert job.outcome.details == [("images", "64"), ("mAP50-95(B)", ".500")] and job.outcome.notes == ["the side is rounded up"]


async def test_changed_data_discards_metrics_and_late_results(checkpoint):
    desk = Desk(checkpoint)
    desk.validations.ask(session([]))
    (first,) = desk.queue.jobs
    await desk.finish(first)
    desk.validations.ask(session(STEPS))
    desk.validations.use("first.yaml")
    assert desk.scores.baseline == 0.5 and desk.titles == ["step 1 on first.yaml"]
    late = desk.queue.jobs[-1]
    desk.validations.use("second.yaml")
    assert desk.scores.baseline is None and desk.titles == []
    assert desk.validations.ask(session(STEPS))
    assert desk.titles == ["checkpoint on second.yaml", "step 1 on second.yaml"]
    await desk.finish(late)
    assert desk.scores.by_plan == {}


async def test_data_that_failed_is_accepted_after_a_job_could_use_it(checkpoint):
    desk = Desk(checkpoint)
    desk.validations.ask(session([]))
    checkpoint.data = None
    await desk.finish(desk.queue.jobs[0])
    assert checkpoint.data == "first.yaml" and desk.scores.baseline == 0.5
