"""A calibration as a job: it scores the checkpoint's channels on images, for the criteria that need data."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any

from tui_pruner.tui.amounts import CLASSES
from tui_pruner.tui.figures import duration, plural
from tui_pruner.tui.queued_job import Outcome, Wanted

if TYPE_CHECKING:
    from tui_pruner.engine.job_messages import CalibrationParameters
    from tui_pruner.tui.subject import Subject

KIND = "calibrate"


def classes_left(plan: dict[str, Any], count: int) -> list[int]:
    """The numbers of the classes that a plan leaves of so many; none where it cuts none."""
    cuts = [cut["removes"] for step in plan["steps"] for cut in step["cuts"] if cut["layer"] == CLASSES]
    gone = {index for removes in cuts for dims in removes.values() for indices in dims.values() for index in indices}
    return sorted(set(range(count)) - gone) if gone else []


def calibration(
    subject: Subject, criteria: Sequence[str], hand_over: Callable[[str], Awaitable[None]], kept_classes: Sequence[int] = ()
) -> Wanted:
    """The job that scores by these criteria on the subject's data as it is known now; the file with its scores goes to `hand_over`.

    `kept_classes`: the numbers of those that count, where steps have cut others.
    """
    fields = subject.fields

    def parameters() -> CalibrationParameters:
        from tui_pruner.engine.job_messages import CalibrationParameters

        return CalibrationParameters(**fields, criteria=list(criteria), kept_classes=list(kept_classes))

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
