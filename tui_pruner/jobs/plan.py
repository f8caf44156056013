"""Planning by measured damage: several plans for each target, cut and refitted on unlabelled images; and points on the way to targets."""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import json
import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tui_pruner import __version__
from tui_pruner.domain.errors import DataError, RequestError
from tui_pruner.engine.job_messages import JobParameters, JobProgress, ValidationParameters
from tui_pruner.engine.search_messages import PlanningParameters, PlanningResult, PlanPoint, RivalResult, ScanParameters
from tui_pruner.jobs.cache import digest_of
from tui_pruner.jobs.calibrate import rank_by
from tui_pruner.jobs.data.dataset import DataSet, held_apart, read_data, without_labels
from tui_pruner.jobs.data.pictures import StoredImages
from tui_pruner.jobs.tools import OnProgress, choose_device
from tui_pruner.jobs.validate import fitting_side, measure, opened, skipped
from tui_pruner.storage import paths
from tui_pruner.storage.atomic import replace_file

if TYPE_CHECKING:
    from torch import Tensor, nn

    from tui_pruner.core.model.checkpoint import Checkpoint
    from tui_pruner.core.pruning.session import PruningSession
    from tui_pruner.core.recovery.damage import Damage, WeightReaders
    from tui_pruner.core.search.elimination import Eliminations
    from tui_pruner.core.search.measured_damage import DamageCurves
    from tui_pruner.core.search.planner import Budget, Planner
    from tui_pruner.core.search.rivals import RivalComparison, Tried
    from tui_pruner.core.search.sensitivity import Sensitivity


def milestones(targets: list[str], step: int | None) -> list[list[str]]:
    """Return the targets of each point, the mildest first and the given targets last; without a step only these.

    Raises:
        RequestError: a target that is not a share, where there is a step.
    """
    from tui_pruner.core.search.targets import parse_target

    parsed = [parse_target(text) for text in targets]
    if not parsed:
        raise RequestError("no target: give one, such as flops=60%")
    if step is None:
        return [targets]
    shares = {target.measure: target.share for target in parsed}
    unclear = next((text for text, target in zip(targets, parsed, strict=True) if target.share is None), None)
    if unclear is not None:
        raise RequestError(f"with --max-drop the target {unclear} must be a share, such as flops=60%: it is approached in steps")
    count = max(1, math.ceil(max(100 * (1 - share) for share in shares.values() if share is not None) / step - 1e-9))
    return [
        [f"{measure}={100 - 100 * (1 - share) * number / count:g}%" for measure, share in shares.items() if share is not None]
        for number in range(1, count + 1)
    ]


def name_of(targets: Sequence[str]) -> str:
    """Return a point's name for files: flops-70."""
    return "-".join(target.replace("=", "-").replace("%", "") for target in targets)


JUDGED_ON = 32
"""How many of the working images trials of the damage are judged on."""
HELD_OUT_IF_FAST = 8
RUNS = 50
"""Samples of each network that is timed where a latency is the target."""


def run_planning(parameters: PlanningParameters, on_progress: OnProgress) -> PlanningResult:
    """Run the job.

    Raises:
        DataError: the data cannot be used.
        CheckpointError: the checkpoint cannot be used, or changed since the job was created.
        PlanError: the plan so far is for another checkpoint.
        RequestError: a target that cannot be read, no such criterion or device.
    """
    from tui_pruner.core.model.analysis import analyse
    from tui_pruner.core.pruning.classes import kept_classes
    from tui_pruner.core.pruning.session import PruningSession
    from tui_pruner.core.search.ladders import Rules
    from tui_pruner.core.search.planner import Planner

    started = time.perf_counter()
    targets_of(parameters)
    data = held_apart(without_labels(parameters.data), parameters.images, parameters.seed)
    on_progress(JobProgress(done=0, total=0, doing="reading the checkpoint", begun=False))
    analysis = analyse(opened(parameters), parameters.imgsz)
    session = PruningSession(analysis)
    if parameters.plan:
        session.load(parameters.plan)
    kept = kept_classes(analysis.coupling, session.removal) or ()
    scores = rank_by(analysis, parameters.criterion, parameters, parameters.images, on_progress, kept)
    planner = Planner(analysis, session.removal, Rules(parameters.floor, parameters.round_to, tuple(parameters.protect)))
    model = original_of(planner).model
    images = Images.read(model, data, parameters)
    with Readers(images, parameters) as readers:
        damage, cached = measured_damage(planner, images, readers, parameters, on_progress)
        original = _validated(model, parameters, on_progress) if parameters.validated != 0 else None
        thinning = None if parameters.fast else eliminations(planner, readers, on_progress)
        points = [point(planner, session, targets, damage, thinning, images, parameters, on_progress) for targets in parameters.points]
    return PlanningResult(
        points=points,
        scores=scores,
        original=original,
        images=images.working.total,
        held_out=images.held_out.total,
        trials=len(damage.trials),
        cached=cached,
        seconds=time.perf_counter() - started,
        notes=images.notes,
    )


def original_of(planner: Planner) -> Checkpoint:
    """The original with the classes that the plan so far leaves, which plans are compared with."""
    from tui_pruner.core.pruning.proved_cut import with_some_classes

    return with_some_classes(planner.analysis.checkpoint, planner.analysis.coupling, planner.base)


def targets_of(parameters: PlanningParameters) -> None:
    """Parse targets, before anything heavy starts."""
    from tui_pruner.core.search.targets import latency_apart, parse_target

    for texts in parameters.points:
        latency_apart([parse_target(text) for text in texts])


@dataclass(frozen=True)
class Images:
    """The unlabelled images: those to work on, others to judge by, and notes on what was adjusted.

    `original`: the model that plans are compared with, with the classes that the plan so far leaves.
    """

    original: nn.Module
    working: StoredImages
    held_out: StoredImages
    digests: tuple[str, ...]
    notes: list[str]

    @classmethod
    def read(cls, model: nn.Module, data: tuple[DataSet, DataSet], parameters: PlanningParameters) -> Images:
        """Read them as the model does.

        Raises:
            DataError: none can be read.
        """
        side, notes = fitting_side(parameters.imgsz, model)
        working, held_out = (StoredImages(model, part, side, parameters.batch) for part in data)
        total = sum(len(part.images) for part in data)
        if not working.total:
            raise DataError(f"{parameters.data}: none of the {total} images can be read")
        if working.total + held_out.total < total:
            notes.append(skipped(total - working.total - held_out.total, data[0]))
        return cls(model, working, held_out, tuple(part.digest() for part in data), notes)


class Readers:
    """The original on its device, and the moments of its layers' inputs: computed on first use, freed at the end."""

    def __init__(self, images: Images, parameters: PlanningParameters) -> None:
        self.images = images
        self.network = copy.deepcopy(images.original).to(choose_device(parameters.device))
        self._found: WeightReaders | None = None

    def __enter__(self) -> Readers:
        return self

    def __exit__(self, *_: object) -> None:
        if self._found is not None:
            self._found.close()

    def read(self, on_progress: OnProgress) -> WeightReaders:
        """The readers of all layers."""
        from tui_pruner.core.recovery.damage import WeightReaders

        if self._found is None:
            on_progress(JobProgress(done=0, total=0, doing="reading the layers' inputs"))
            self._found = WeightReaders(self.network, self.images.working)
        return self._found


def eliminations(planner: Planner, readers: Readers, on_progress: OnProgress) -> Eliminations | None:
    """Plans by the response of the predictions to single channels; None where blocks are dropped, or the network is too large."""
    from tui_pruner.core.recovery.response import SAMPLES, response_of
    from tui_pruner.core.search.elimination import Eliminations

    if planner.base.dropped:
        return None
    found = readers.read(on_progress)
    if found.on_disk:
        return None
    total = min(SAMPLES, readers.images.working.total)

    def say(done: int) -> None:
        on_progress(JobProgress(done=done, total=total, doing="measuring how the predictions respond to each channel"))

    say(0)
    response = response_of(readers.network, planner.analysis.coupling, found, readers.images.working, on_image=say)
    return Eliminations(planner, response) if response else None


def measured_damage(
    planner: Planner, images: Images, readers: Readers, parameters: PlanningParameters, on_progress: OnProgress
) -> tuple[Damage, bool]:
    """The damage of every ladder at several widths, and of every droppable block: cached, or measured and stored."""
    from tui_pruner.core.pruning.classes import without_classes
    from tui_pruner.core.recovery.damage import Damage, measure_damage
    from tui_pruner.core.recovery.disagreement import OriginalPredictions
    from tui_pruner.core.search.measured_damage import FEW_SHARES, SHARES, drop_trials, trials_of

    analysis, base = planner.analysis, planner.base
    shares, judged = (FEW_SHARES, HELD_OUT_IF_FAST) if parameters.fast else (SHARES, JUDGED_ON)
    trials = list(trials_of(analysis, planner.ladders.ladders, base, parameters.criterion, shares))
    trials += [] if parameters.fast else drop_trials(planner)
    removes = [
        [trial.groups, [places.tolist() for places in trial.removal.places.values()], sorted(trial.removal.dropped)] for trial in trials
    ]
    file = (
        paths.cache_folder()
        / "damage"
        / f"{digest_of(parameters, images.digests[0], program=__version__, trials=removes, judged=judged)}.json"
    )
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        kept = json.loads(file.read_bytes())
        return Damage(kept["base"], list(zip(trials, kept["trials"], strict=True))), True
    measured = [dataclasses.replace(trial, removal=without_classes(analysis.coupling, trial.removal)) for trial in trials]
    judge = OriginalPredictions(readers.network, list(first(images.working, judged)), resuming=True)
    found = measure_damage(
        readers.network, analysis.coupling, readers.read(on_progress), measured, judge,
        lambda done: on_progress(JobProgress(done=done, total=len(trials), doing="measuring the damage of each layer")),
    )  # fmt: skip
    with contextlib.suppress(OSError):
        replace_file(file, json.dumps({"base": found.base, "trials": [outputs for _, outputs in found.trials]}).encode())
    return Damage(found.base, [(trial, outputs) for trial, (_, outputs) in zip(trials, found.trials, strict=True)]), False


def first(batches: StoredImages, count: int) -> Iterator[Tensor]:
    """The first `count` images, in batches."""
    for batch in batches:
        yield batch[:count]
        count -= len(batch)
        if count <= 0:
            return


def point(
    planner: Planner, session: PruningSession, targets: Sequence[str], damage: Damage, thinning: Eliminations | None, images: Images,
    parameters: PlanningParameters, on_progress: OnProgress,
) -> PlanPoint:  # fmt: skip
    """The result of one point's targets."""
    from tui_pruner.core.search.measured_damage import curves_of, drops_of, with_drops
    from tui_pruner.core.search.rivals import DEPTH, KNAPSACK, RESPONSE, planning_methods, ranked, rivals
    from tui_pruner.core.search.targets import latency_apart, parse_target
    from tui_pruner.engine.service import measured
    from tui_pruner.jobs.latency import clock_of

    on_progress(JobProgress(done=0, total=0, doing="choosing the cuts of each plan"))
    scan = measured(planner, parameters.scan) if parameters.scan else known_scan(planner, parameters)
    curves: DamageCurves = curves_of(planner.ladders.ladders, damage)
    searches = planning_methods(planner, parameters.criterion, curves, scan)
    if parameters.fast:
        searches = {KNAPSACK: searches[KNAPSACK]} if KNAPSACK in searches else searches
    aims, drops = [parse_target(text) for text in targets], drops_of(damage, planner.base)
    timed = latency_apart(aims)[1] is not None
    clock = clock_of(planner.analysis, choose_device(parameters.device), RUNS, on_progress) if timed else None
    deep = with_drops(planner, aims, parameters.criterion, curves, drops) if drops.damages and KNAPSACK in searches and not timed else None
    thinned = thinning.plan(aims, parameters.criterion) if thinning and not timed else None
    others = {name: made for name, made in ((DEPTH, deep), (RESPONSE, thinned)) if made}
    found, budget = rivals(planner, aims, parameters.criterion, searches, others, clock)
    if not found:
        return sized(PlanPoint(targets=list(targets), plan=None, stopped=budget.stopped), budget)
    tried: list[Tried] = []
    if not parameters.fast or parameters.validated != 0:
        name = " ".join(targets)
        ring = rival_comparison_of(planner, images, parameters)
        for result in ring.tried(
            found, lambda rival: on_progress(JobProgress(done=len(tried), total=len(found), doing=f"{name}: {rival.name}"))
        ):
            tried.append(result)
    tried = ranked(tried)
    best = tried[0] if tried else None
    chosen = best.rival if best else found[0]
    assert chosen.budget.step is not None
    planned = PlanPoint(
        targets=list(targets),
        plan=session.plan.model_copy(update={"steps": [*session.plan.steps, chosen.budget.step]}).plain(),
        amounts={cut.layer: cut.amount for cut in chosen.budget.step.cuts},
        chosen=chosen.name,
        rivals=[rival_result(result) for result in tried],
        measured=_validated(best.model, parameters, on_progress) if best and parameters.validated != 0 else None,
    )
    return sized(planned, chosen.budget)


def sized(point: PlanPoint, budget: Budget) -> PlanPoint:
    """A point with the size that is left."""
    size = budget.size
    left = {"shares": budget.shares, "parameters": size.parameters, "flops": size.flops, "bytes": size.bytes}
    return point.model_copy(update=left)


def known_scan(planner: Planner, parameters: PlanningParameters) -> Sensitivity | None:
    """An earlier scan of this checkpoint on this data by the same criterion, where the data has labels; None where there is none."""
    from tui_pruner.jobs.scan.executors import known_sensitivity

    fields = parameters.model_dump(include=set(JobParameters.model_fields))
    wanted = ScanParameters(**{**fields, "images": parameters.scanned}, criterion=parameters.criterion)
    with contextlib.suppress(DataError):
        return known_sensitivity(planner.analysis, wanted)
    return None


def rival_comparison_of(planner: Planner, images: Images, parameters: PlanningParameters) -> RivalComparison:
    """The images and the original for cutting and refitting rivals."""
    from tui_pruner.core.recovery.disagreement import OriginalPredictions
    from tui_pruner.core.search.rivals import RivalComparison
    from tui_pruner.frameworks.ultralytics.contents import FROZEN

    original = copy.deepcopy(images.original).to(choose_device(parameters.device))
    frozen = frozenset(name for name, _ in original.named_parameters() if FROZEN in name)
    held_out = images.held_out if images.held_out.total else images.working
    return RivalComparison(planner, original, images.working, held_out, OriginalPredictions(original, held_out), frozen)


def rival_result(tried: Tried) -> RivalResult:
    """A tried rival as a message."""
    return RivalResult(
        name=tried.rival.name,
        shares=tried.rival.budget.shares,
        distance_cut=tried.distance_cut,
        distance=tried.distance,
        outputs=dict(tried.outputs),
    )


def _validated(model: nn.Module, parameters: PlanningParameters, on_progress: OnProgress) -> dict[str, float] | None:
    """The metrics on the validation split; None where it has no labels for this model."""
    wanted = ValidationParameters(
        checkpoint=parameters.checkpoint, sha256=parameters.sha256, data=parameters.data, images=parameters.validated,
        imgsz=parameters.imgsz, device=parameters.device, classes=parameters.classes, seed=parameters.seed,
    )  # fmt: skip
    try:
        data = read_data(parameters.data).subset(parameters.validated, parameters.seed)
        return measure(copy.deepcopy(model).cpu(), data, wanted, on_progress).metrics
    except DataError:
        return None
