"""Jobs as commands run them: Ctrl-C ends them early with their results, a lack of memory is reported, and scores are cached or computed."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tui_pruner.cli.output import progress_of, say
from tui_pruner.domain.errors import Cancelled, DataError, JobError

if TYPE_CHECKING:
    from tui_pruner.core.pruning.session import PruningSession
    from tui_pruner.domain.cuts import Request
    from tui_pruner.engine.client import Job
    from tui_pruner.engine.job_messages import CalibrationParameters, JobProgress
    from tui_pruner.engine.messages import Message


def run_job(kind: str, parameters: Message, on_progress: Callable[[JobProgress], None], ends_early: bool = True) -> dict[str, Any]:
    """Run a job and return its result; the first Ctrl-C ends it early, where the job supports that, the second at once.

    Where memory does not suffice for its batch, it is tried with half of it, and so on.

    Raises:
        KeyboardInterrupt: ended at once, or before there was a result.
        PrunerError: the job's own error.
    """
    from tui_pruner.engine.client import Job, smaller_batch, with_half_the_batch

    while True:
        job = Job(kind, parameters, on_progress)
        try:
            return asyncio.run(interruptible(job) if ends_early else job.run())
        except JobError as error:
            smaller = with_half_the_batch(parameters, error)
            if smaller is None:
                raise
            say(smaller_batch(parameters, smaller))
            parameters = smaller


async def interruptible(job: Job) -> dict[str, Any]:
    """Run a job and handle Ctrl-C."""
    loop = asyncio.get_running_loop()

    def interrupted() -> None:
        say("stopping: what there is so far is kept; once more to end at once")
        loop.add_signal_handler(signal.SIGINT, job.cancel)
        job.stop()

    loop.add_signal_handler(signal.SIGINT, interrupted)
    try:
        return await job.run()
    except Cancelled:
        raise KeyboardInterrupt from None
    finally:
        loop.remove_signal_handler(signal.SIGINT)


IMAGES = 64


@dataclass(frozen=True)
class CalibrationData:
    """The options `--data`, `--calibration-images` and `--device`."""

    yaml_file: Path | None = None
    images: int = IMAGES
    device: str = ""

    def check(self, requests: Sequence[Request]) -> None:
        """Refuse requests that need data where there is none, before anything heavy starts.

        Raises:
            DataError: no data set was given.
        """
        needed = criteria_from_data(requests)
        if needed and self.yaml_file is None:
            from tui_pruner.core.pruning.importance import FROM_LABELS

            measured = "the gradients of the loss" if needed[0] in FROM_LABELS else "the activations"
            raise DataError(
                f"the criterion {needed[0]} ranks channels by {measured} on calibration images: "
                "give --data DATA.yaml, the yaml that the model was trained with"
            )


NO_DATA = CalibrationData()


def criteria_from_data(requests: Sequence[Request]) -> list[str]:
    """The criteria of requests that need data."""
    from tui_pruner.domain.criteria import NEED_DATA

    return sorted({request.criterion for request in requests} & set(NEED_DATA))


def calibrate(
    session: PruningSession, requests: Sequence[Request], data: CalibrationData, classes: int | None, kept_classes: Sequence[int] = ()
) -> None:
    """Compute the scores that requests need, if any; call `data.check` first.

    `kept_classes`: the numbers of the classes that stay, where others are cut.

    Raises:
        DataError: the data cannot be used for this model.
        JobError: the job ended without a result.
    """
    if not criteria_from_data(requests):
        return
    from tui_pruner.core.pruning.importance import calibration_for
    from tui_pruner.engine.job_messages import CalibrationParameters
    from tui_pruner.jobs.calibrate import cached_scores, criteria_with, place_of

    analysis = session.analysis
    checkpoint, coupling = analysis.checkpoint, analysis.coupling
    for criteria in {tuple(criteria_with(criterion)) for criterion in criteria_from_data(requests)}:
        parameters = CalibrationParameters(
            checkpoint=checkpoint.path,
            sha256=checkpoint.sha256,
            data=str(data.yaml_file),
            images=data.images,
            imgsz=analysis.imgsz,
            device=data.device,
            classes=classes,
            criteria=list(criteria),
            kept_classes=list(kept_classes),
        )
        found = cached_scores(place_of(parameters), checkpoint.sha256, coupling, criteria)
        if found is None:
            found = calibration_for(run(parameters), checkpoint.sha256, coupling, criteria)
        analysis.ranking.calibrate(found)
        for note in found.notes:
            say(note)


def run(parameters: CalibrationParameters) -> str:
    """The file with the scores of a calibration job."""
    from tui_pruner.engine.client import Job

    return str(asyncio.run(Job("calibrate", parameters, progress_of("calibrate")).run())["scores"])
