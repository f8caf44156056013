"""Stages of any module, by jobs: cut and written as a folder, scored, planned and refitted on batches, trained by the user's function."""

from __future__ import annotations

import dataclasses
import hashlib
import inspect
import json
import time
from collections.abc import Callable, Sequence
from typing import Any

from torch import nn

from tui_pruner.core.model.copies import named_tensors
from tui_pruner.core.model.inputs import enough, finite_batches
from tui_pruner.core.pruning.importance import FROM_LABELS, Calibration
from tui_pruner.core.pruning.plan import read_plan
from tui_pruner.core.pruning.session import PruningSession
from tui_pruner.core.pruning.surgery import cut
from tui_pruner.core.recovery.damage import WeightReaders
from tui_pruner.core.recovery.reconstruction import Fit
from tui_pruner.core.search.ladders import Rules
from tui_pruner.core.search.planner import Budget, Measure, Planner
from tui_pruner.core.search.targets import Target, latency_apart, parse_target
from tui_pruner.domain.criteria import NEED_DATA, demand_criterion
from tui_pruner.domain.cuts import LATENCY
from tui_pruner.domain.errors import JobError, OutOfReach, RequestError
from tui_pruner.domain.results import short_metric
from tui_pruner.engine.job_messages import CalibrationParameters, CalibrationResult, JobProgress
from tui_pruner.engine.messages import Check
from tui_pruner.engine.recovery_messages import (
    FinetuneParameters,
    FinetuneResult,
    LayerFit,
    PruneParameters,
    PruneResult,
    ReconstructionParameters,
    ReconstructionResult,
)
from tui_pruner.engine.search_messages import PlanningParameters, PlanningResult, PlanPoint, RivalResult
from tui_pruner.frameworks.plain.batches import (
    apart,
    on_batches,
    planned_on,
    refitted,
    scores_by_loss,
    scores_without_labels,
    usable_batches,
)
from tui_pruner.frameworks.plain.module import digest_of, independent, nearest_budget, structure_of
from tui_pruner.frameworks.plain.module_file import ABOUT, PLAN, about_of, save_module
from tui_pruner.frameworks.plain.named_module import NamedModule, called
from tui_pruner.jobs.any_module.figures import clock_on, evaluated, opened_of, opened_session, session_in
from tui_pruner.jobs.latency import search_latency
from tui_pruner.jobs.plan import RUNS, rival_result, sized
from tui_pruner.jobs.tools import OnProgress
from tui_pruner.storage import paths
from tui_pruner.storage.atomic import replace_file

TRAINED = "trained"
NO_BETTER = "training made it no better by the user's evaluate: the weights are those before it"
LOADS = Check(name="loads", ok=True, detail="into a freshly built module")


def written(output: str, sha256: str, size: int) -> dict[str, Any]:
    """The fields of a `WriteResult` for a folder that was loaded again."""
    return {"output": output, "sha256": sha256, "bytes": size, "checks": [LOADS]}


def kept_scores(found: Calibration) -> str:
    """Write scores to a file that is named by its content; return its path.

    Raises:
        JobError: it cannot be written.
    """
    content = found.to_bytes()
    digest = hashlib.sha256(b"".join(found.axes[name].tobytes() for name in sorted(found.axes))).hexdigest()
    file = paths.cache_folder() / "calibration" / f"module-{digest[:32]}.npz"
    try:
        replace_file(file, content)
    except OSError as error:
        raise JobError(f"the scores cannot be kept in {file.parent} ({error.strerror}): make room or set XDG_CACHE_HOME") from error
    return str(file)


def run_pruning(parameters: PruneParameters, on_progress: OnProgress) -> PruneResult:
    """Cut a module by a plan, prove it, and write it as a folder.

    Raises:
        PlanError: the plan is for another module, or impossible on it.
        ProofError: a step is not proved; nothing is written.
        OutputError: the folder cannot be written.
    """
    source, session = opened_session(parameters, parameters.plan, on_progress)
    on_progress(JobProgress(done=0, total=0, doing="cutting and proving"))
    size, digest = source.save(session, session.steps, parameters.output, parameters.force)
    whole, left = session.arithmetic.whole.size, session.widths.size
    return PruneResult(
        **written(parameters.output, digest, size),
        proof=session.prove(session.steps[-1]).plain(),
        before=dataclasses.asdict(whole),
        after=dataclasses.asdict(left),
    )


def run_calibration(parameters: CalibrationParameters, on_progress: OnProgress) -> CalibrationResult:
    """Score a module's channels by criteria that need batches.

    Raises:
        RequestError: no batches are named, or no loss where the criteria need one.
        DataError: the loss is NaN.
    """
    started = time.perf_counter()
    source, session = opened_session(parameters, None, on_progress)
    found = scored(source, session, parameters.criteria, parameters.images, on_progress)
    return CalibrationResult(scores=kept_scores(found), images=found.images, seconds=time.perf_counter() - started)


def scored(
    source: NamedModule, session: PruningSession, criteria: Sequence[str], samples: int | None, on_progress: OnProgress
) -> Calibration:
    """Score the channels of a session's module by criteria that need batches; by a loss, all of them by it.

    Raises:
        RequestError, DataError: as `run_calibration`.
    """
    analysis, module, loss = session.analysis, opened_of(session), source.loss()
    by_labels = set(criteria) & set(FROM_LABELS)
    if by_labels and loss is None:
        raise RequestError(f"the criterion {min(by_labels)} needs a loss: name a function of module and batch (--loss package.module:loss)")
    on_progress(JobProgress(done=0, total=0, doing="scoring the channels"))
    with on_batches():
        if by_labels and loss is not None:
            given = enough(source.batches(), samples) if samples else finite_batches(source.batches())
            return scores_by_loss(analysis, given, loss, module.device)
        working = usable_batches(module, source.batches(), samples)
        readers = WeightReaders(independent(module.model).to(module.device), working)
        try:
            return scores_without_labels(analysis, readers, sum(len(batch) for batch in working))
        finally:
            readers.close()


def run_planning(parameters: PlanningParameters, on_progress: OnProgress) -> PlanningResult:
    """Plan for each point of targets, by plans that are cut, refitted and compared on batches.

    Raises:
        RequestError: a target that cannot be read, no such criterion, or no batches or loss for a criterion that needs them.
        PlanError: the plan so far is for another module.
    """
    started = time.perf_counter()
    wanted = [[parse_target(text) for text in texts] for texts in parameters.points]
    source, session = opened_session(parameters, parameters.plan, on_progress)
    rules = Rules(parameters.floor, parameters.round_to, tuple(parameters.protect))
    demand_criterion(parameters.criterion)
    timed = any(latency_apart(targets)[1] is not None for targets in wanted)
    ranked, scores = timed or parameters.criterion in FROM_LABELS or not source.names.batches, ""
    if ranked and parameters.criterion in NEED_DATA:
        found = scored(source, session, [parameters.criterion], parameters.images, on_progress)
        session.analysis.ranking.calibrate(found)
        scores = kept_scores(found)
    planner = None if ranked else OnBatches(source, session, parameters)
    clock = clock_on(source, session, RUNS, on_progress) if timed else None
    points = []
    for texts, targets in zip(parameters.points, wanted, strict=True):

        def tell(part: str, name: str = " ".join(texts)) -> None:
            on_progress(JobProgress(done=0, total=0, doing=f"{name}: {part}"))

        try:
            if planner:
                points.append(planner.point(texts, targets, rules, tell))
            else:
                points.append(by_importance(session, texts, targets, rules, parameters.criterion, clock))
        except OutOfReach as error:
            points.append(PlanPoint(targets=texts, plan=None, stopped=str(error)))
    used, held_out = planner.samples if planner else (0, 0)
    original = evaluated(source, source.built().eval()).metrics if parameters.validated != 0 and source.names.evaluate else None
    return PlanningResult(
        points=points,
        scores=planner.scores if planner else scores,
        original=original,
        images=used,
        held_out=held_out,
        trials=planner.trials if planner else 0,
        cached=False,
        seconds=time.perf_counter() - started,
        notes=[],
    )


class OnBatches:
    """Plans that compete on a module's batches; `scores` and `trials` are those of the last one."""

    def __init__(self, source: NamedModule, session: PruningSession, parameters: PlanningParameters) -> None:
        self._source, self._session, self._asked = source, session, parameters
        with on_batches():
            self._batches = apart(usable_batches(opened_of(session), source.batches(), parameters.images))
        self.scores, self.trials = "", 0

    @property
    def samples(self) -> tuple[int, int]:
        """How many samples are worked on, and how many judge."""
        working, held_out = (sum(len(batch) for batch in part) for part in self._batches)
        return working, held_out

    def point(self, texts: list[str], targets: list[Target], rules: Rules, tell: Callable[[str], None]) -> PlanPoint:
        """The plan for targets; its refitted module is measured where that is asked for and can be.

        Raises:
            OutOfReach: no plan reaches the targets.
        """
        session, asked, module = self._session, self._asked, opened_of(self._session)
        measuring = asked.validated != 0 and bool(self._source.names.evaluate)
        with on_batches():
            plan = planned_on(
                session.analysis, session.removal, targets, self._batches, module.device, asked.criterion, rules, measuring, tell
            )
        self.trials = plan.trials
        self.scores = kept_scores(plan.scores) if asked.criterion in NEED_DATA else ""
        found = point_of(texts, session, plan.budget, plan.chosen.name, [rival_result(one) for one in plan.tried])
        if not measuring:
            return found
        metrics = evaluated(self._source, module.as_given(independent(plan.tried[0].model))).metrics
        return found.model_copy(update={"measured": metrics})


def by_importance(
    session: PruningSession, texts: list[str], targets: list[Target], rules: Rules, criterion: str, clock: Measure | None
) -> PlanPoint:
    """The plan for targets by the importance of channels alone; for a latency by timing plans."""
    if clock is not None and latency_apart(targets)[1] is not None:
        found = search_latency(Planner(session.analysis, session.removal, rules), targets, criterion, None, clock)
        budget = dataclasses.replace(found.budget, shares={**found.budget.shares, LATENCY: found.latency.median})
    else:
        budget = nearest_budget(session.analysis, session.removal, targets, criterion, rules)
    if budget.step is None:
        return PlanPoint(targets=texts, plan=None, stopped=budget.stopped)
    return point_of(texts, session, budget, "importance", [])


def point_of(targets: list[str], session: PruningSession, budget: Budget, chosen: str, rivals: list[RivalResult]) -> PlanPoint:
    """A plan on top of a session's steps as a message."""
    assert budget.step is not None
    whole = session.plan.model_copy(update={"steps": [*session.plan.steps, budget.step]})
    amounts = {one.layer: one.amount for one in budget.step.cuts}
    return sized(PlanPoint(targets=targets, plan=whole.plain(), amounts=amounts, chosen=chosen, rivals=rivals), budget)


def run_reconstruction(parameters: ReconstructionParameters, on_progress: OnProgress) -> ReconstructionResult:
    """Refit the module in a folder, and write the candidate closest to the original as another folder.

    Raises:
        CheckpointError: the folder is missing or damaged.
        PlanError: it was cut from a module of another structure.
        RequestError: no batches are named, the module does not run on them, or it was trained.
        ProofError: the cut is not proved.
        OutputError: the folder cannot be written.
    """
    started = time.perf_counter()
    source, session = session_in(parameters, on_progress)
    if about_of(source.folder / parameters.checkpoint).get("refit") == TRAINED:
        raise RequestError(f"{parameters.checkpoint} was trained, and a refit starts from the cut: refit first, then train")
    module = opened_of(session)
    with on_batches():
        working, held_out = apart(usable_batches(module, source.batches(), parameters.images))

        def report(fit: Fit, done: int, layers: int) -> None:
            figures = {"error before": fit.error_before, "error after": fit.error_after}
            on_progress(JobProgress(done=done, total=layers, doing="refitting", metrics=figures))

        pruned = cut(module.model, session.analysis.coupling, session.removal)
        found = refitted(session, pruned, working, held_out, report)
    size, digest = source.save(session, session.steps, parameters.output, parameters.force, found)
    return ReconstructionResult(
        **written(parameters.output, digest, size),
        images=sum(len(batch) for batch in working),
        held_out=sum(len(batch) for batch in held_out),
        seconds=time.perf_counter() - started,
        layers=[LayerFit(layer=fit.layer, error_before=fit.error_before, error_after=fit.error_after) for fit in found.fits],
        kept=found.kept,
        distance=dict(found.distance),
        outputs={name: dict(values) for name, values in found.outputs.items()},
    )


def run_finetuning(parameters: FinetuneParameters, on_progress: OnProgress) -> FinetuneResult:
    """Train the module in a folder by the user's function, and write it as another folder; the better of the two by the user's `evaluate`.

    The function is called with the module, in training mode, and with the original too if it takes two. It may return the trained module.

    Raises:
        RequestError: no function is named, it raises, or changes shapes.
        JobError: it leaves NaN in the module.
        OutputError: the folder cannot be written.
    """
    started = time.perf_counter()
    source, _ = session_in(parameters, on_progress)
    train, name, folder = source.train(), source.names.train, source.folder / parameters.checkpoint
    if train is None:
        raise RequestError("there is nothing to train by: name a function that trains a module (--train package.module:train)")
    measured = bool(source.names.evaluate)
    before = source.stored_in(parameters.checkpoint).eval()
    metrics_before = evaluated(source, independent(before)).metrics if measured else {}  # a copy, which it may change
    on_progress(JobProgress(done=0, total=0, doing=f"running {name}", metrics=metrics_before))
    trained = trained_by(train, name, independent(before).train(), source)
    if digest_of(structure_of(trained)) != digest_of(structure_of(before)):
        raise RequestError(f"{name} changed the shapes or types of parameters: have it train the module that it is given")
    broken = next((key for key, tensor in named_tensors(trained) if tensor.is_floating_point() and not bool(tensor.isfinite().all())), None)
    if broken is not None:
        raise JobError(f"{name} left NaN or infinity in {broken}: train with a smaller learning rate")
    metrics = evaluated(source, independent(trained)).metrics if measured else {}
    (_, was), (_, now) = short_metric(metrics_before) or ("", 0.0), short_metric(metrics) or ("", 0.0)
    better = not measured or now >= was
    output = source.folder / parameters.output
    kept, about = trained if better else before, json.loads((folder / ABOUT).read_text(encoding="utf-8"))
    save_module(output, read_plan(folder / PLAN), kept, {**about, "refit": TRAINED} if better else about, parameters.force)
    size, digest = source.demand_loads(output, kept)
    return FinetuneResult(
        **written(parameters.output, digest, size),
        metrics=metrics if better else metrics_before,
        metrics_before=metrics_before,
        best_epoch=0,
        epochs=0,
        curve=[],
        seconds=time.perf_counter() - started,
        notes=[] if better else [NO_BETTER],
    )


def trained_by(train: Callable[..., Any], name: str, module: nn.Module, source: NamedModule) -> nn.Module:
    """Call the user's function; return what it trained, in evaluation mode.

    Raises:
        RequestError: it raises.
    """
    names = inspect.signature(train).parameters.values()
    takes = sum(one.default is one.empty and one.kind in (one.POSITIONAL_ONLY, one.POSITIONAL_OR_KEYWORD) for one in names)
    given = [module, source.built().eval()] if takes > 1 else [module]
    made = called(name, lambda: train(*given))
    return (made if isinstance(made, nn.Module) else module).eval()
