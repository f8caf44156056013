"""Where memory does not suffice, a job is run again with half the batch; the job is simulated."""

from __future__ import annotations

import pytest

from tui_pruner.cli import job_runs
from tui_pruner.domain.errors import DataError, JobError
from tui_pruner.engine.client import with_half_the_batch
from tui_pruner.engine.job_messages import JobProgress
from tui_pruner.engine.messages import Message
from tui_pruner.engine.recovery_messages import FinetuneParameters
from tui_pruner.engine.search_messages import BenchParameters

TRAINING = FinetuneParameters(checkpoint="p.pt", sha256="0", data="d.yaml", imgsz=64, epochs=1, batch=16, output="o.pt")
KILLED = JobError("finetune was killed by SIGKILL (out of memory?) without a result")


class Hungry:
    """A job that needs memory for each image of a batch."""

    memory_limit = 4
    tried: list[tuple[int, bool]] = []

    def __init__(self, kind: str, parameters: FinetuneParameters, on_progress: object) -> None:
        self.parameters = parameters

    async def run(self) -> dict[str, int]:
        self.tried.append((self.parameters.batch, self.parameters.resume))
        if self.parameters.batch > self.memory_limit:
            raise KILLED if self.parameters.batch > 8 else JobError("not enough memory for this job")
        return {"batch": self.parameters.batch}


def nothing(progress: JobProgress) -> None:
    pass


def test_command_halves_the_batch_until_memory_suffices_and_reports_it(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    monkeypatch.setattr("tui_pruner.engine.client.Job", Hungry)
    monkeypatch.setattr(Hungry, "tried", [])
    assert job_runs.run_job("finetune", TRAINING, nothing, ends_early=False) == {"batch": 4}
    assert Hungry.tried == [(16, False), (8, True), (4, True)]
    assert "not enough memory for batches of 16: trying 8" in capsys.readouterr().err


def test_job_fails_if_one_image_needs_too_much_memory(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("tui_pruner.engine.client.Job", Hungry)
    monkeypatch.setattr(Hungry, "memory_limit", 0)
    with pytest.raises(JobError, match="not enough memory"):
        job_runs.run_job("finetune", TRAINING, nothing, ends_early=False)


@pytest.mark.parametrize(
    ("parameters", "error"),
    [
        (TRAINING, DataError("no labels")),
        (TRAINING.model_copy(update={"batch": 1}), KILLED),
        (Message(), KILLED),
    ],
    ids=["another reason", "one image", "no batch"],
)
def test_batch_is_not_halved_for_other_errors(parameters: Message, error: JobError):
    assert with_half_the_batch(parameters, error) is None


def test_job_that_cannot_resume_gets_only_a_smaller_batch():
    halved = with_half_the_batch(BenchParameters(models=[], batch=8), KILLED)
    assert halved is not None and halved.batch == 4 and not hasattr(halved, "resume")
