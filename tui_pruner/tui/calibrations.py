"""A calibration as a job: it scores the checkpoint's channels on images, for the criteria that need data."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any

from tui_pruner.tui.figures import duration, plural
from tui_pruner.tui.queued_job import Outcome, Wanted

if TYPE_CHECKING:
    from tui_pruner.engine.job_messages import CalibrationParameters
    from tui_pruner.tui.subject import Subject

KIND = "calibrate"


def calibration(subject: Subject, criteria: Sequence[str], hand_over: Callable[[str], Awaitable[None]]) -> Wanted:
    """The job that scores by these criteria on the subject's data as it is known now; the file with its scores goes to `hand_over`."""
    fields = subject.fields

    def parameters() -> CalibrationParameters:
        from tui_pruner.engine.job_messages import CalibrationParameters

        return CalibrationParameters(**fields, criteria=list(criteria))

    async def take(content: dict[str, Any]) -> Outcome:
        from tui_pruner.engine.job_messages import CalibrationResult

        result = CalibrationResult.model_validate(content)
        await hand_over(result.scores)
        measured = "cached" if result.cached else duration(result.seconds)
        return Outcome(
            f"calibrated on {plural(result.images, 'image')}, {measured}",
            [("images", str(result.images)), ("scores", result.scores)],
            result.notes,
        )

    return Wanted(KIND, f"by {' and '.join(criteria)}", " ".join(criteria), parameters, take, fields["data"])
