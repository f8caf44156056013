"""Figures of any module, by jobs: the user's function measures it, its groups are scanned by that function, and its forward is timed.

The jobs here and in `stages` take the parameters of those on checkpoints, with the names of the module's code. Nothing is cached,
since the user's code may change.
"""

from __future__ import annotations

import dataclasses
import math
import random
import time
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from tui_pruner.core.model.copies import named_tensors
from tui_pruner.core.model.flops import parameter_count
from tui_pruner.core.model.latency import time_blocks, time_in_turns
from tui_pruner.core.pruning.masks import masked_model
from tui_pruner.core.pruning.plan import read_plan
from tui_pruner.core.pruning.proved_cut import demand_proved
from tui_pruner.core.pruning.session import PruningSession
from tui_pruner.core.pruning.surgery import cut
from tui_pruner.core.search.sensitivity import Trial, trials_of
from tui_pruner.domain.criteria import NEED_DATA
from tui_pruner.domain.errors import CheckpointError, JobError, RequestError
from tui_pruner.domain.results import nothing_to_lose, percentiles
from tui_pruner.engine.job_messages import JobParameters, JobProgress, ValidationParameters, ValidationResult
from tui_pruner.engine.search_messages import (
    BenchParameters,
    BenchResult,
    GateParameters,
    GateResult,
    LatencySearchParameters,
    LatencySearchResult,
    ModelToTime,
    ScanParameters,
    ScanResult,
)
from tui_pruner.frameworks.plain.module import OpenedModule, independent
from tui_pruner.frameworks.plain.module_file import PLAN, WEIGHTS, demand_saved, origin_named
from tui_pruner.frameworks.plain.named_module import NamedModule
from tui_pruner.jobs.gate import FEWEST_RESAMPLES, MOST_RESAMPLES, WORK, every_nth, judged_latency, judged_metric, verdict_on
from tui_pruner.jobs.intervals import RESAMPLES, SEED, Drop, Metrics, images_needed, paired_drops
from tui_pruner.jobs.latency import Clock, benched, followed, latencies, searched, suggested
from tui_pruner.jobs.scan import scan as scanning
from tui_pruner.jobs.scan.executors import BASELINE, IMAGES, SHARED, ScanContext, ScanStore, TrialResults
from tui_pruner.jobs.tools import OnProgress, device_name
from tui_pruner.storage.model_file import ModuleNames
from tui_pruner.storage.trust import fingerprint

NAMED = "metrics/"


def source_of(module: ModuleNames | None) -> NamedModule:
    """The module of a job's parameters."""
    if module is None:
        raise JobError("this job is for a module, and none is named")
    return NamedModule(module)


def opened_session(
    parameters: JobParameters, plan: Mapping[str, Any] | None, on_progress: OnProgress
) -> tuple[NamedModule, PruningSession]:
    """The module of a job, and a session on it with the steps of a plan, the last one proved.

    Raises:
        CheckpointError: another module is built than when the job was created.
        PlanError: the plan is for another module.
        ProofError: the steps are not proved.
    """
    source = source_of(parameters.module)
    on_progress(JobProgress(done=0, total=0, doing=f"building {source.build}", begun=False))
    analysis = source.analysis()
    if parameters.checkpoint == source.build and parameters.sha256 not in ("", analysis.checkpoint.sha256):
        raise CheckpointError(f"{source.build} builds a module of other shapes than when it was opened: open it again")
    session = PruningSession(analysis)
    if plan and plan.get("steps"):
        session.load(dict(plan))
        advice = "leave out the step whose proof fails"
        demand_proved(session.prove(session.steps[-1]), "the module under this plan", advice)
    return source, session


def session_in(parameters: JobParameters, on_progress: OnProgress) -> tuple[NamedModule, PruningSession]:
    """The module of a job, and a session on it with the steps of the folder that the job starts from.

    Raises:
        CheckpointError: the folder is missing, or changed since the job was created.
        PlanError, ProofError: as `opened_session`.
    """
    folder = source_of(parameters.module).folder / parameters.checkpoint
    demand_saved(folder)
    if parameters.sha256 not in ("", fingerprint(folder / WEIGHTS)):
        raise CheckpointError(f"{parameters.checkpoint} changed on disk since the job was created: start it again")
    with origin_named(Path(parameters.checkpoint)):
        return opened_session(parameters, read_plan(folder / PLAN).plain(), on_progress)


def opened_of(session: PruningSession) -> OpenedModule:
    """The module that a session is on."""
    opened = session.analysis.checkpoint
    assert isinstance(opened, OpenedModule)
    return opened


def module_at(
    source: NamedModule, checkpoint: str, plan: Mapping[str, Any] | None, on_progress: OnProgress, mask: bool = False
) -> nn.Module:
    """The module as it is built, under a proved plan, or as a folder has it; in evaluation mode, in its own dtypes on its own device."""
    if checkpoint != source.build:
        return source.stored_in(checkpoint).eval()
    if not plan or not plan.get("steps"):
        return source.built().eval()
    _, session = opened_session(JobParameters(checkpoint=checkpoint, sha256="", data="", imgsz=0, module=source.names), plan, on_progress)
    opened, coupling, removal = opened_of(session), session.analysis.coupling, session.removal
    made = masked_model(opened.model, coupling, removal, session.original()) if mask else cut(opened.model, coupling, removal)
    return opened.as_given(independent(made))


@dataclasses.dataclass(frozen=True)
class Evaluated:
    """The figures of a module by the user's function, the main one first; and one for each sample where it gives those."""

    metrics: dict[str, float]
    samples: Sequence[float] = ()


def evaluated(source: NamedModule, module: nn.Module) -> Evaluated:
    """Compute the figures of a module.

    Raises:
        RequestError: no function is named, it raises, or it gives no figure.
    """
    measure, name = source.measure(), source.names.evaluate
    if measure is None:
        raise RequestError("there is nothing to measure by: name a function that computes a figure (--evaluate package.module:evaluate)")
    with same_draws():
        value = measure(module)
    main = f"{NAMED}{name.rpartition(':')[2].rpartition('.')[2]}"
    try:
        found = figures_in(value, main)
    except (TypeError, ValueError, RuntimeError):
        raise RequestError(
            f"{name} gives a {type(value).__name__}: have it return a number, a number for each sample, or numbers by name"
        ) from None
    bad = next((key for key, figure in found.metrics.items() if not math.isfinite(figure)), None)
    if bad is not None:
        raise RequestError(f"{name} gives {found.metrics[bad]} as {bad.removeprefix(NAMED)}: have it return a finite number")
    return found


@contextmanager
def same_draws() -> Iterator[None]:
    """Begin random numbers at the same state each time: a function that draws its samples then measures all modules on the same ones."""
    states = random.getstate(), np.random.get_state()
    with torch.random.fork_rng(devices=[]):
        try:
            random.seed(SEED)
            np.random.seed(SEED)
            torch.manual_seed(SEED)
            yield
        finally:
            random.setstate(states[0])
            np.random.set_state(states[1])


def figures_in(value: Any, main: str) -> Evaluated:
    """What a user's function returned, as figures.

    Raises:
        TypeError, ValueError, RuntimeError: it is none.
    """
    if isinstance(value, str):
        raise TypeError("a text, even of a number")
    if isinstance(value, Mapping) and value:
        return Evaluated({f"{NAMED}{str(key).removeprefix(NAMED)}": float(figure) for key, figure in value.items()})
    several = value.detach().cpu().double().numpy() if isinstance(value, Tensor) else value
    if isinstance(several, (list, tuple, np.ndarray)) and np.ndim(several) == 1 and len(several):
        samples = np.asarray(several, dtype=np.float64)
        return Evaluated({main: float(samples.mean())}, samples.tolist())
    return Evaluated({main: float(value)})


def resampled_means(samples: Sequence[float]) -> list[float]:
    """The mean on draws of the samples with replacement, the same draws for every module; empty where there are too few samples."""
    if len(samples) < 2:
        return []
    values, draw = np.asarray(samples), np.random.default_rng(SEED)
    return [round(float(values[draw.integers(0, len(values), len(values))].mean()), 6) for _ in range(RESAMPLES)]


def run_validation(parameters: ValidationParameters, on_progress: OnProgress) -> ValidationResult:
    """Measure a module under a plan by the user's function.

    Raises:
        RequestError: none is named, it raises, or gives no figure.
        PlanError, ProofError: as `opened_session`.
    """
    started, source = time.perf_counter(), source_of(parameters.module)
    module = module_at(source, parameters.checkpoint, parameters.plan, on_progress, parameters.masked)
    on_progress(JobProgress(done=0, total=0, doing=f"running {source.names.evaluate or 'evaluate'}"))
    found = evaluated(source, module)
    draws = resampled_means(found.samples)
    seconds, interval = time.perf_counter() - started, percentiles(draws) if draws else None
    return ValidationResult(metrics=found.metrics, interval=interval, resamples=draws, images=len(found.samples), seconds=seconds)


def run_scan(parameters: ScanParameters, on_progress: OnProgress) -> ScanResult:
    """Measure each group alone at each ratio, cut, by the user's function; SIGTERM ends it with the results so far where that is allowed.

    Raises:
        RequestError: no function is named, no such criterion, or an invalid ratio.
    """
    started = time.perf_counter()
    source, session = opened_session(parameters, None, on_progress)
    analysis, opened = session.analysis, opened_of(session)
    if parameters.criterion in NEED_DATA:
        from tui_pruner.jobs.any_module.stages import scored

        analysis.ranking.calibrate(scored(source, session, [parameters.criterion], parameters.calibration_images, on_progress))
    trials, impossible = trials_of(analysis, parameters.ratios, parameters.criterion)

    def outcomes(context: ScanContext, missing: Sequence[Trial]) -> Generator[TrialResults, None, None]:
        whole = evaluated(source, source.built().eval())
        yield TrialResults({**whole.metrics, IMAGES: float(len(whole.samples)), SHARED: 1.0})
        for trial in missing:
            module = opened.as_given(independent(cut(opened.model, analysis.coupling, trial.removal)))
            try:
                yield TrialResults(outcomes={trial.digest: evaluated(source, module).metrics})
            except RequestError as error:
                yield TrialResults(outcomes={trial.digest: str(error)})

    no_images: Any = None  # the user's function has its own
    run = scanning.Scan(analysis, parameters, no_images, NotStored())
    found = scanning.Found(len({trial.digest for trial in trials}), {})
    distinct = list({trial.digest: trial for trial in trials}.values())
    scanning.measure(run, outcomes, scanning.costliest_first(run, distinct), found, scanning.ScanReporter(run, trials, found, on_progress))
    skipped = [scanning.failure_of(one, one.reason) for one in impossible]
    result = scanning.result_of(run, trials, found.metrics, [*scanning.failures(trials, found.broken), *skipped])
    left, seconds = found.total if found.stopped else 0, time.perf_counter() - started
    notes = nothing_to_lose({name: found.metrics[BASELINE][name] for name in result.metrics}, of_module=True)
    return result.model_copy(update={"notes": notes, "remarks": found.remarks, "seconds": seconds, "wanted": left})


class NotStored(ScanStore):
    """A store that keeps nothing: the user's code may give other figures the next time."""

    def __init__(self) -> None:
        """Need no folder."""

    def load(self, digest: str) -> None:
        """Nothing is known."""

    def keep(self, digest: str, metrics: Mapping[str, float]) -> None:
        """Store nothing."""


AS_CALLED = "timed as it is called: BatchNorm is not folded into convolutions"


def run_bench(parameters: BenchParameters, on_progress: OnProgress) -> BenchResult:
    """Time modules in turns on the example inputs, as they are called there.

    Raises:
        CheckpointError: a folder cannot be used.
        PlanError, ProofError: as `opened_session`.
    """
    source = source_of(parameters.module)
    inputs = source.given()
    models = [module_at(source, entry.checkpoint, entry.plan, on_progress) for entry in parameters.models]
    devices = [next((tensor.device for _, tensor in named_tensors(model)), inputs.tensors[0].device) for model in models]
    batches = [inputs.to(device) for device in devices]
    timings = time_in_turns(models, batches, parameters.runs, followed("timing", parameters, on_progress))
    about = followed("timing blocks", parameters, on_progress)
    blocks = time_blocks(models, batches, parameters.runs, about) if parameters.blocks else [{} for _ in models]
    shared = {
        "imgsz": 0,
        "batch": len(inputs),
        "device": device_name(str(devices[0])),
        "threads": torch.get_num_threads(),
        "runs": parameters.runs,
    }
    found = []
    for place, (entry, model) in enumerate(zip(parameters.models, models, strict=True)):
        suggestions = suggested(models[0], model, batches[place], parameters, on_progress)
        more = {**shared, "blocks": latencies(model, blocks[place]), "suggestions": suggestions}
        found.append(benched(entry, model, timings, place, more))
    folds = any(isinstance(part, _BatchNorm) for model in models for part in model.modules())
    return BenchResult(models=found, notes=[AS_CALLED] if folds else [])


def run_latency_search(parameters: LatencySearchParameters, on_progress: OnProgress) -> LatencySearchResult:
    """Find cuts that reach a latency of the module on its example inputs.

    Raises:
        DataError, RequestError: as `searched`.
        PlanError, ProofError: as `opened_session`.
    """
    source, session = opened_session(parameters, parameters.plan, on_progress)
    return searched(session, parameters, clock_on(source, session, parameters.runs, on_progress), str(opened_of(session).device))


def clock_on(source: NamedModule, session: PruningSession, runs: int, on_progress: OnProgress) -> Clock:
    """What times a cut module beside the original, on the example inputs."""
    opened = opened_of(session)

    def ready(model: nn.Module) -> nn.Module:
        return opened.as_given(independent(model)).eval()

    return Clock(session.analysis, ready, source.given().to(opened.device), runs, on_progress)


def run_gate(parameters: GateParameters, on_progress: OnProgress) -> GateResult:
    """Compare a folder with the module, or the folder, that it was cut from, by the user's function.

    Raises:
        RequestError: none is named, or it gives other figures for the two.
        CheckpointError: a folder cannot be used.
    """
    started, source = time.perf_counter(), source_of(parameters.module)
    models = [module_at(source, place, None, on_progress) for place in (parameters.against, parameters.checkpoint)]
    on_progress(JobProgress(done=0, total=0, doing=f"running {source.names.evaluate or 'evaluate'} on both"))
    before, after = (evaluated(source, model) for model in models)
    if before.metrics.keys() != after.metrics.keys() or len(before.samples) != len(after.samples):
        raise RequestError(f"{source.names.evaluate} gives other figures for the two modules: have it measure both on the same samples")
    drop = drop_between(before, after)
    metric = judged_metric(drop, parameters)
    if len(before.samples) < 2:
        within = not parameters.strict and metric.drop <= parameters.max_drop
        metric = metric.model_copy(update={"has_interval": False, "certain": False, "ok": within})
    latency = None
    if parameters.max_latency is not None:
        entries = [ModelToTime(checkpoint=place) for place in (parameters.against, parameters.checkpoint)]
        timing = BenchParameters(models=entries, runs=parameters.runs, module=parameters.module)
        latency = judged_latency(run_bench(timing, partial(every_nth, on_progress)), parameters)
    sizes = parameter_count(models[0]), parameter_count(models[1])
    result = verdict_on([metric], latency, parameters, sizes)
    more: dict[str, Any] = {"images": len(after.samples), "sample": "sample", "notes": nothing_to_lose(before.metrics, of_module=True)}
    if not metric.has_interval:
        more["rule"] = BY_FIGURES
    elif not metric.certain:
        more["images_needed"] = images_needed(drop, len(after.samples), parameters.max_drop)
    return result.model_copy(update={**more, "seconds": time.perf_counter() - started})


BY_FIGURES = "By the two figures alone: how much of their difference is chance is known only where there is a figure for each sample."


def drop_between(before: Evaluated, after: Evaluated) -> Drop:
    """The drop of the main figure, with its interval where it is known for each sample."""
    name, count = next(iter(before.metrics)), len(before.samples)
    first, last = before.metrics[name], after.metrics[name]
    if count < 2:
        return Drop(name, first, last, first - last, first - last)

    def on(figures: Evaluated) -> Metrics:
        values = np.asarray(figures.samples)
        return lambda places: {name: float(values[np.asarray(places)].mean())}

    resamples = max(FEWEST_RESAMPLES, min(MOST_RESAMPLES, WORK // count))
    return paired_drops(count, on(before), on(after), [name], resamples)[0]
