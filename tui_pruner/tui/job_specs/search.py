"""Jobs that choose cuts: the sensitivity scan, the calibration of a criterion, and whole plans that compete for a target."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean, pstdev
from typing import TYPE_CHECKING, Any

from tui_pruner.domain.cuts import CLASSES
from tui_pruner.domain.forecast import drop_at
from tui_pruner.domain.formatting import distance, plural, score
from tui_pruner.domain.results import short_metric
from tui_pruner.tui.actions import key_of
from tui_pruner.tui.drawing import GLYPHS, arrow, drop
from tui_pruner.tui.job_specs.job import JobOutcome, JobSpec
from tui_pruner.tui.timeline import plan_key

if TYPE_CHECKING:
    from tui_pruner.engine.job_messages import CalibrationParameters, JobProgress
    from tui_pruner.engine.messages import SessionView
    from tui_pruner.engine.search_messages import (
        PlanningParameters,
        PlanningResult,
        PlanPoint,
        RivalResult,
        ScanDrops,
        ScanFound,
        ScanParameters,
        ScanResult,
        ScanTrial,
        TargetPlan,
    )
    from tui_pruner.tui.job_specs.job import OpenCheckpoint


KIND = "scan"
HEAT = 0.3
"""The share of channels that a layer's figure in the tree stands for; the nearest scanned share is used."""
FEWEST = 3
"""The fewest scanned groups from which others are estimated."""
Drops = Mapping[float, float]


@dataclass(frozen=True)
class Scanned:
    """The results of a scan of the checkpoint. `layers`: for each layer, by the removed share, the largest drop of the metric.

    `coupled`: for each layer a number that it shares with layers that lose the same channels. `measured` of `wanted` different trials are
    known; no `wanted`: all.
    """

    criterion: str
    data: str
    images: int
    metric: str
    baseline: float
    layers: Mapping[str, Drops]
    drops: ScanDrops
    coupled: Mapping[str, int] = field(default_factory=dict)
    measured: int = 0
    wanted: int = 0
    _typical: dict[float, tuple[float, float] | None] = field(default_factory=dict, compare=False, repr=False)

    @property
    def partial(self) -> bool:
        """Whether the scan is running or was stopped."""
        return self.wanted > 0

    @property
    def ratios(self) -> list[float]:
        """The shares that were scanned for any layer."""
        return sorted({share for drops in self.layers.values() for share in drops})

    @property
    def ratio(self) -> float:
        """The share that the figures in the tree stand for."""
        return min(self.ratios, key=lambda share: abs(share - HEAT), default=HEAT)

    @property
    def extent(self) -> str:
        """How much of it is measured: "24 of 153 trials"; empty where it is complete."""
        return f"{self.measured} of {plural(self.wanted, 'trial')}" if self.partial else ""

    def heat(self, layer: str) -> float | None:
        """The drop of the metric without about `HEAT` of a layer's channels; None where that was not measured."""
        drops = self.layers.get(layer)
        return drops[min(drops, key=lambda share: abs(share - HEAT))] if drops else None

    @property
    def heats(self) -> dict[str, float]:
        """The drops of all layers that were measured."""
        return {layer: heat for layer in self.layers if (heat := self.heat(layer)) is not None}

    def typical(self, share: float) -> tuple[float, float] | None:
        """The mean drop of the scanned groups at a share, and its standard deviation; None where too few were scanned that far."""
        share = round(share, 2)
        if share not in self._typical:
            groups = {self.coupled.get(layer, layer): drops for layer, drops in self.layers.items()}
            found = [drop for drops in groups.values() if (drop := drop_at(drops, share)) is not None]
            self._typical[share] = (fmean(found), pstdev(found)) if len(found) >= FEWEST else None
        return self._typical[share]


def scanned(result: ScanResult, criterion: str, data: str) -> Scanned:
    """A job's result by layer: a layer whose channels are in several groups is as sensitive as the worst of them."""
    about = (result.name, result.baseline, result.images)
    groups = {trial.id: trial.layers for trial in result.groups}
    return by_layers(result.groups, about, (criterion, data), groups, (len(result.distinct), result.wanted))


def by_layers(
    trials: Sequence[ScanTrial],
    about: tuple[str, float, int],
    ground: tuple[str, str],
    groups: Mapping[int, Sequence[str]],
    extent: tuple[int, int],
) -> Scanned:
    """Trials by layer. `about`: the metric's name, its baseline, the images; `ground`: criterion and data; `extent`: see `Scanned`."""
    from tui_pruner.engine.search_messages import ScanDrops, TrialDrop

    (name, baseline, images), layers = about, dict[str, dict[float, float]]()
    for trial in trials:
        for layer in trial.layers:
            known = layers.setdefault(layer, {})
            known[trial.ratio] = max(trial.drop, known.get(trial.ratio, trial.drop))
    drops = [TrialDrop(group=trial.id, channels=trial.channels, drop=trial.drop) for trial in trials]
    found = short_metric({name: baseline})
    return Scanned(
        *ground,
        images,
        found[0] if found else name,
        baseline,
        layers,
        ScanDrops(baseline=baseline, trials=drops, partial=extent[1] > 0),
        {layer: number for number, produced in reversed(list(groups.items())) for layer in produced},
        *extent,
    )


def kept_scan(scan: Scanned | None) -> dict[str, Any]:
    """A scan as plain data; empty where there is none."""
    if scan is None:
        return {}
    layers = {layer: list(drops.items()) for layer, drops in scan.layers.items()}
    about = {name: getattr(scan, name) for name in ("criterion", "data", "images", "metric", "baseline")}
    return {**about, "layers": layers, "drops": scan.drops.model_dump(), "coupled": dict(scan.coupled)}


def scan_of(content: Mapping[str, Any]) -> Scanned:
    """A scan from plain data."""
    from tui_pruner.engine.search_messages import ScanDrops

    layers = {layer: dict(drops) for layer, drops in content["layers"].items()}
    return Scanned(**{**content, "layers": layers, "drops": ScanDrops.model_validate(content["drops"])})


class ScanSoFar:
    """Collects the results of a running scan, and passes them on as they grow."""

    def __init__(self, ground: tuple[str, str], hand_over: Callable[[Scanned], None]) -> None:
        self._ground = ground
        self._hand_over = hand_over
        self._layers: dict[int, list[str]] = {}
        self._trials: list[ScanTrial] = []
        self._about = ("", 0.0, 0)
        self._counted = (0, 0)

    def follow(self, progress: JobProgress) -> str:
        """Add what was found since the last report; return the newest of it in one line."""
        from tui_pruner.engine.search_messages import ScanFound

        doing = progress.doing.replace(" x ", f" {GLYPHS.times} ")
        found = ScanFound.model_validate(progress.found) if progress.found is not None else None
        if found is not None:
            self._take(found)
        counted = (progress.done, self._counted[1] if found is None else found.wanted)
        if found is not None or (counted[1] and counted != self._counted):  # a trial that failed counts too, as in the job's own figure
            self._counted = counted
            self._hand_over(by_layers(self._trials, self._about, self._ground, self._layers, counted))
        if found is None:
            return doing
        if not (found.trials and progress.metrics):
            return doing
        grid, _, trial = doing.partition(", ")
        return f"{trial.replace(' -', f' {GLYPHS.minus}')}: {drop(found.trials[-1].drop)}, {grid}"

    def _take(self, found: ScanFound) -> None:
        if found.layers:
            self._layers, self._trials = found.layers, []
        self._trials += found.trials
        self._about = (found.name, found.baseline, found.images)


def scan(checkpoint: OpenCheckpoint, criterion: str, hand_over: Callable[[Scanned], None]) -> JobSpec:
    """The scan of the checkpoint on its data."""
    fields = checkpoint.fields

    def parameters() -> ScanParameters:
        from tui_pruner.engine.search_messages import ScanParameters

        return ScanParameters(criterion=criterion, stops_early=True, **fields)

    async def take(content: dict[str, Any]) -> JobOutcome:
        from tui_pruner.engine.search_messages import ScanResult

        result = ScanResult.model_validate(content)
        hand_over(scanned(result, criterion, fields["data"]))
        known, distinct = f", {result.cached} known before" if result.cached else "", result.distinct
        counted = f"{len(distinct)} of {plural(result.wanted, 'trial')}" if result.wanted else plural(len(distinct), "trial")
        images = plural(result.images, checkpoint.sample)
        on, after = (f" on {images}", f", {images}") if result.images else ("", "")
        figure = f"scan stopped after {counted}{after}{known}" if result.wanted else f"scanned by {counted}{on}{known}"
        worst = sorted(distinct, key=lambda trial: -trial.drop)[:5]
        details = [
            ("baseline", score(result.baseline)),
            *((drop(trial.drop), f"{trial.layer} {GLYPHS.minus}{trial.ratio:.0%}") for trial in worst),
        ]
        notes = [
            *result.notes,
            *result.remarks,
            *(f"{failed.layer} {GLYPHS.minus}{failed.ratio:.0%}: {failed.error}" for failed in result.failed),
        ]
        return JobOutcome(figure, details, notes)

    return JobSpec(
        KIND, "checkpoint", criterion, parameters, take, fields["data"], stops_early=True, kept="the results so far",
        follow=ScanSoFar((criterion, fields["data"]), hand_over).follow, hint=f"{key_of('scan')} good enough, stops",
    )  # fmt: skip


CALIBRATE = "calibrate"


def classes_left(plan: dict[str, Any], count: int) -> list[int]:
    """The numbers of the classes that a plan keeps; empty where it cuts none."""
    cuts = [cut["removes"] for step in plan["steps"] for cut in step["cuts"] if cut["layer"] == CLASSES]
    gone = {index for removes in cuts for dims in removes.values() for indices in dims.values() for index in indices}
    return sorted(set(range(count)) - gone) if gone else []


def calibration(
    checkpoint: OpenCheckpoint, criteria: Sequence[str], hand_over: Callable[[str], Awaitable[None]], kept_classes: Sequence[int] = ()
) -> JobSpec:
    """The job that scores channels by these criteria on the checkpoint's data; the path of the scores is passed to `hand_over`.

    `kept_classes`: the numbers of the remaining classes, where steps have cut others.
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
            f"calibrated on {plural(result.images, checkpoint.sample)}{cached}",
            [(f"{checkpoint.sample}s", str(result.images)), ("scores", result.scores)],
            result.notes,
        )

    return JobSpec(CALIBRATE, f"by {' and '.join(criteria)}", " ".join(criteria), parameters, take, fields["data"])


PLAN = "plan"
IMAGES = 64


@dataclass(frozen=True)
class Measured:
    """A job's plan: the amounts, the ranking criterion, the file with its scores (or none), and why this plan was chosen."""

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
    """The planning job on top of the present session."""
    fields, scanned = {**checkpoint.fields, "images": checkpoint.counted(IMAGES)}, checkpoint.opening.images
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
        return JobOutcome(_figure(point, result, checkpoint.sample), _details(point, result, checkpoint.sample), result.notes)

    key = " ".join([*targets, criterion, str(round_to), plan_key(plan)])
    return JobSpec(PLAN, " ".join(targets), key, parameters, take, fields["data"], follow=planning)


def planning(progress: JobProgress) -> str:
    """What a planning job does: "plan 3 of 7 (scan): cut, refitted and compared"."""
    rival = progress.doing.partition(": ")[2]
    return f"plan {progress.done + 1} of {progress.total} ({rival}): cut, refitted and compared" if rival else progress.doing


def verdict(point: PlanPoint) -> str:
    """The chosen plan, and its distance: "knapsack plan, closest of 2 when refitted (0.024 from the original's outputs)".

    Of plans about as close the one whose worst output is best may be chosen: then it is not called the closest.
    """
    best = next((rival for rival in point.rivals if rival.name == point.chosen), None)
    if best is None:
        return f"{point.chosen} plan"
    least, number = min(rival.distance for rival in point.rivals), f"of {len(point.rivals)} when refitted"
    why = f"closest {number}" if best.distance <= least else f"about as close as the closest {number}, with the best worst output"
    return f"{point.chosen} plan, {why} ({distance(best.distance)} from the original's outputs)"


def _figure(point: PlanPoint, result: PlanningResult, sample: str) -> str:
    if point.plan is None:
        return point.stopped
    measured = "measured before" if result.cached else f"{plural(result.trials, 'trial')}"
    return f"{verdict(point)}, {measured}, {plural(result.images, sample)}"


def _details(point: PlanPoint, result: PlanningResult, sample: str) -> list[tuple[str, str]]:
    images = f"{result.images} to measure and refit on, {result.held_out} others to judge by, no labels"
    rivals = [("distance", "from the original's outputs, as cut and refitted:"), *map(_rival, point.rivals)] if point.rivals else []
    return [("left", shares_words(point.shares)), (f"{sample}s", images), *rivals]


def _rival(rival: RivalResult) -> tuple[str, str]:
    return arrow(distance(rival.distance_cut), distance(rival.distance)), f"{rival.name}, {shares_words(rival.shares)} left"


def shares_words(shares: dict[str, float]) -> str:
    """The remaining share by each measure: "flops 70.0 %, params 64.1 %"."""
    return ", ".join(f"{measure} {100 * share:.1f} %" for measure, share in shares.items())
