"""Scores from data for the commands that choose channels: from the cache, or by a calibration job in a process of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tui_pruner.cli.output import progress_of, say
from tui_pruner.engine.job_messages import CalibrationParameters
from tui_pruner.errors import DataError

if TYPE_CHECKING:
    from tui_pruner.core.requests import Request
    from tui_pruner.core.session import Session


IMAGES = 64


@dataclass(frozen=True)
class CalibrationData:
    """What `--data`, `--calibration-images` and `--device` say."""

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
            from tui_pruner.core.importance import FROM_LABELS

            measured = "the gradients of the loss" if needed[0] in FROM_LABELS else "the activations"
            raise DataError(
                f"the criterion {needed[0]} ranks channels by {measured} on calibration images: "
                "give --data DATA.yaml, the yaml that the model was trained with"
            )


NO_DATA = CalibrationData()


def criteria_from_data(requests: Sequence[Request]) -> list[str]:
    """The criteria of requests that need data."""
    from tui_pruner.core.importance import NEED_DATA

    return sorted({request.criterion for request in requests} & set(NEED_DATA))


def calibrate(
    session: Session, requests: Sequence[Request], data: CalibrationData, classes: int | None, kept_classes: Sequence[int] = ()
) -> None:
    """Give a session the scores that requests need, if they need any; `data.check` has passed them.

    `kept_classes`: the numbers of those that count, where others go.

    Raises:
        DataError: the data cannot be used for this model.
        JobError: the job ended without a result.
    """
    from tui_pruner.core.calibrated import calibration_for
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
    """The file with the scores that a job found."""
    from tui_pruner.engine.runner import Job

    return str(asyncio.run(Job("calibrate", parameters, progress_of("calibrate")).run())["scores"])
