"""The search for cuts as jobs: a calibration scores channels on images, and whole plans compete for a target."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tui_pruner.domain.cuts import CLASSES
from tui_pruner.domain.formatting import distance, plural
from tui_pruner.tui.figures import arrow
from tui_pruner.tui.job_specs.job import JobOutcome, JobSpec
from tui_pruner.tui.timeline import plan_key

if TYPE_CHECKING:
    from tui_pruner.engine.job_messages import CalibrationParameters
    from tui_pruner.engine.messages import SessionView
    from tui_pruner.engine.search_messages import PlanningParameters, PlanningResult, PlanPoint, RivalResult, ScanDrops, TargetPlan
    from tui_pruner.tui.job_specs.job import OpenCheckpoint


CALIBRATE = "calibrate"


def classes_left(plan: dict[str, Any], count: int) -> list[int]:
    """The numbers of the classes that a plan keeps; none where it cuts none."""
    cuts = [cut["removes"] for step in plan["steps"] for cut in step["cuts"] if cut["layer"] == CLASSES]
    gone = {index for removes in cuts for dims in removes.values() for indices in dims.values() for index in indices}
    return sorted(set(range(count)) - gone) if gone else []


def calibration(
    checkpoint: OpenCheckpoint, criteria: Sequence[str], hand_over: Callable[[str], Awaitable[None]], kept_classes: Sequence[int] = ()
) -> JobSpec:
    """The job that scores by these criteria on the checkpoint's data as it is known now; the file with its scores goes to `hand_over`.

    `kept_classes`: the numbers of those that count, where steps have cut others.
    """
    fields = checkpoint.fields

    def parameters() -> CalibrationParameters:
        from tui_pruner.engine.job_messages import CalibrationParameters

        return CalibrationParameters(**fields, criteria=list(criteria), kept_classes=list(kept_classes))

    async def take(content: dict[str, Any]) -> JobOutcome:
        from tui_pruner.engine.job_messages import CalibrationResult

        result = CalibrationResult.model_validate(content)
        await hand_over(result.scores)
        cached = ", cached" if result.cached else ""
        return JobOutcome(
            f"calibrated on {plural(result.images, 'image')}{cached}",
            [("images", str(result.images)), ("scores", result.scores)],
            result.notes,
        )

    return JobSpec(CALIBRATE, f"by {' and '.join(criteria)}", " ".join(criteria), parameters, take, fields["data"])


PLAN = "plan"
IMAGES = 64


@dataclass(frozen=True)
class Measured:
    """What a job found: the amounts, by which criterion channels go, the file with its scores (or none), and why this plan was taken."""

    plan: TargetPlan
    criterion: str
    scores: str
    ground: str


def measured_plan(
    checkpoint: OpenCheckpoint,
    session: SessionView,
    targets: Sequence[str],
    criterion: str,
    round_to: int,
    scan: ScanDrops | None,
    hand_over: Callable[[Measured], Awaitable[None]],
) -> JobSpec:
    """The job on top of the session as it is now."""
    fields, scanned = {**checkpoint.fields, "images": IMAGES}, checkpoint.opening.images
    plan = session.plan if session.steps else None

    def parameters() -> PlanningParameters:
        from tui_pruner.engine.search_messages import PlanningParameters

        return PlanningParameters(
            **fields, plan=plan, points=[list(targets)], criterion=criterion, round_to=round_to, scan=scan, scanned=scanned
        )

    async def take(content: dict[str, Any]) -> JobOutcome:
        from tui_pruner.engine.search_messages import PlanningResult, TargetPlan

        result = PlanningResult.model_validate(content)
        point = result.points[0]
        amounts = TargetPlan(amounts=point.amounts, shares=point.shares, scanned=False, stopped=point.stopped)
        await hand_over(Measured(amounts, criterion, result.scores, verdict(point)))
        return JobOutcome(_figure(point, result), _details(point, result), result.notes)

    key = " ".join([*targets, criterion, str(round_to), plan_key(plan)])
    return JobSpec(PLAN, " ".join(targets), key, parameters, take, fields["data"])


def verdict(point: PlanPoint) -> str:
    """Which plan was taken, and the distances that decided: "knapsack 0.024, uniform 0.105: knapsack taken"."""
    rivals = ", ".join(f"{rival.name} {distance(rival.distance)}" for rival in point.rivals)
    return f"{rivals}: {point.chosen} taken" if rivals else f"{point.chosen} taken"


def _figure(point: PlanPoint, result: PlanningResult) -> str:
    if point.plan is None:
        return point.stopped
    measured = "measured before" if result.cached else f"{plural(result.trials, 'trial')}"
    return f"{verdict(point)}; {measured}, {plural(result.images, 'image')}"


def _details(point: PlanPoint, result: PlanningResult) -> list[tuple[str, str]]:
    images = f"{result.images} to measure and refit on, {result.held_out} others to judge by, no labels"
    rivals = [("distance", "from the original's outputs, as cut and refitted:"), *map(_rival, point.rivals)] if point.rivals else []
    return [("left", shares_words(point.shares)), ("images", images), *rivals]


def _rival(rival: RivalResult) -> tuple[str, str]:
    return arrow(distance(rival.distance_cut), distance(rival.distance)), f"{rival.name}, {shares_words(rival.shares)} left"


def shares_words(shares: dict[str, float]) -> str:
    """What is left of each measure: "flops 70.0 %, params 64.1 %"."""
    return ", ".join(f"{measure} {100 * share:.1f} %" for measure, share in shares.items())
