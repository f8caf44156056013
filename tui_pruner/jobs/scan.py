"""The sensitivity scan: every prunable group alone at several ratios, by the masked twin, each result kept as it lands."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from tui_pruner.engine.job_messages import CalibrationParameters, JobProgress, ScanFailure, ScanParameters, ScanResult, ScanTrial
from tui_pruner.errors import JobError
from tui_pruner.jobs.dataset import DataSet, read_data
from tui_pruner.jobs.scan_store import BASELINE, IMAGES, Metrics, ScanStore
from tui_pruner.jobs.stock import OnProgress, out_of_memory
from tui_pruner.jobs.validate import opened, prepared, skipped
from tui_pruner.metrics import main_metric

if TYPE_CHECKING:
    from torch import nn

    from tui_pruner.core.analysis import Analysis
    from tui_pruner.core.sensitivity import Skipped, Trial
    from tui_pruner.core.sensitivity_run import SharedRun

T = TypeVar("T")
SIDE_BY_SIDE = 8
SIDE_BY_SIDE_BYTES = 1 << 30
"""How many networks see a batch one after the other, and the bytes of their weights: the results of so many are lost in a crash."""


@dataclass(frozen=True)
class Scan:
    """What is scanned, and where the results are."""

    analysis: Analysis
    parameters: ScanParameters
    data: DataSet
    store: ScanStore


def run_scan(parameters: ScanParameters, on_progress: OnProgress) -> ScanResult:
    """The whole job; what an earlier one of the same parameters found is not measured again.

    Raises:
        DataError: the data cannot be used for this model.
        CheckpointError: the checkpoint cannot be used, or is no longer the one that the job was made for.
        RequestError: no such criterion or device, a ratio that is none, or a model class that has no validator here.
    """
    from tui_pruner.core.analysis import analyse
    from tui_pruner.core.sensitivity import trials_of

    started = time.perf_counter()
    data = read_data(parameters.data).subset(parameters.images, parameters.seed)
    on_progress(JobProgress(done=0, total=0, doing="reading the checkpoint"))
    analysis = analyse(opened(parameters), parameters.imgsz)
    calibrate(analysis, parameters, on_progress)
    scan = Scan(analysis, parameters, data, ScanStore(parameters, data.digest()))
    trials, impossible = trials_of(analysis, parameters.ratios, parameters.criterion)
    known = {digest: kept for digest in (BASELINE, *(t.digest for t in trials)) if (kept := scan.store.load(digest))}
    cached = len(known) - (BASELINE in known)
    missing = list({trial.digest: trial for trial in trials if trial.digest not in known or BASELINE not in known}.values())
    found, broken, notes = measure(scan, missing, len({trial.digest for trial in trials}), on_progress) if missing else ({}, {}, [])
    result = result_of(scan, trials, {**found, **known}, [*failures(trials, broken), *(failure_of(s, s.reason) for s in impossible)])
    return result.model_copy(update={"notes": notes, "cached": cached, "seconds": time.perf_counter() - started})


def calibrate(analysis: Analysis, parameters: ScanParameters, on_progress: OnProgress) -> None:
    """Give an analysis the scores that the criterion needs, if it needs any."""
    from tui_pruner.core.calibrated import calibration_for
    from tui_pruner.core.importance import NEED_DATA
    from tui_pruner.jobs.calibrate import run_calibration

    if parameters.criterion in NEED_DATA:
        subject = parameters.model_dump(exclude={"ratios", "criterion", "calibration_images"})
        wanted = CalibrationParameters(**{**subject, "images": parameters.calibration_images})
        scores = run_calibration(wanted, on_progress).scores
        analysis.ranking.calibrate(calibration_for(scores, parameters.sha256, analysis.coupling, NEED_DATA))


def measure(
    scan: Scan, missing: Sequence[Trial], total: int, on_progress: OnProgress
) -> tuple[dict[str, Metrics], dict[str, str], list[str]]:
    """The metrics of trials by their digests, those that failed with the reason, and notes."""
    from tui_pruner.core.sensitivity_run import SharedRun

    model, parameters = scan.analysis.checkpoint.model, scan.parameters
    found: dict[str, Metrics] = {}
    broken: dict[str, str] = {}
    done = total - len(missing)
    on_progress(JobProgress(done=done, total=total, doing="validating the checkpoint"))
    with prepared(model, scan.data, parameters.imgsz, parameters.device) as (validator, notes):
        shared = SharedRun(validator, model)
        found[BASELINE] = {**shared.baseline, IMAGES: float(shared.images)}
        scan.store.keep(BASELINE, found[BASELINE])
        if not shared.shares:
            notes.append(f"every trial ran the whole {type(model).__name__}: its blocks cannot be shared without changing what it predicts")
        for trial, outcome in outcomes(scan, shared, missing):
            done += 1
            if isinstance(outcome, str):
                broken[trial.digest] = outcome
            else:
                found[trial.digest] = outcome
                scan.store.keep(trial.digest, outcome)
            metrics = {} if isinstance(outcome, str) else outcome
            on_progress(JobProgress(done=done, total=total, doing=f"{trial.layer} -{trial.ratio:.0%}", metrics=metrics))
        if shared.images < len(scan.data.images):
            notes.append(skipped(len(scan.data.images) - shared.images, scan.data))
    return found, broken, notes


def outcomes(scan: Scan, shared: SharedRun, missing: Sequence[Trial]) -> Iterator[tuple[Trial, Metrics | str]]:
    """Each trial with its metrics, or with the reason why it failed, wave after wave."""
    from tui_pruner.core.proof import masked_twin
    from tui_pruner.core.sensitivity_run import Variant
    from tui_pruner.core.skeleton import owners_of_tensors

    model, coupling = scan.analysis.checkpoint.model, scan.analysis.coupling
    owners = owners_of_tensors(model)

    def variant_of(trial: Trial) -> Variant:
        changed = {owner for member, _ in trial.removal.members(coupling) for owner in owners.get(member.axis.parameter, ())}
        return Variant(masked_twin(model, coupling, trial.removal, owners), frozenset(changed))

    def run(trials: Sequence[Trial]) -> Iterator[tuple[Trial, Metrics | str]]:
        try:
            yield from zip(trials, list(shared.wave([variant_of(trial) for trial in trials])), strict=True)
        except (RuntimeError, ValueError, IndexError, MemoryError) as error:
            if len(trials) == 1:
                yield trials[0], reason_of(error)
                return
            half = len(trials) // 2
            yield from run(trials[:half])
            yield from run(trials[half:])

    for part in parts(missing, side_by_side(model)):
        yield from run(part)


def reason_of(error: Exception) -> str:
    """Why a trial failed, in a line; where memory is short, no other trial would do better.

    Raises:
        JobError: there is not enough memory for a single network.
    """
    if out_of_memory(error):
        raise JobError("not enough memory to scan: free some, choose another --device or a smaller --imgsz") from error
    return str(error).splitlines()[0] if str(error) else type(error).__name__


def side_by_side(model: nn.Module) -> int:
    """How many networks of this size may be in memory at once."""
    size = sum(parameter.nbytes for parameter in model.parameters())
    return max(1, min(SIDE_BY_SIDE, SIDE_BY_SIDE_BYTES // max(1, size)))


def parts(trials: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    """A sequence in parts of at most so many."""
    return (trials[start : start + size] for start in range(0, len(trials), size))


def failures(trials: Sequence[Trial], broken: Mapping[str, str]) -> list[ScanFailure]:
    """The trials that failed while they ran."""
    return [failure_of(trial, broken[trial.digest]) for trial in trials if trial.digest in broken]


def failure_of(trial: Trial | Skipped, reason: str) -> ScanFailure:
    """A trial that was skipped, as a message."""
    return ScanFailure(id=trial.group, layer=trial.layer, ratio=trial.ratio, error=reason)


def result_of(scan: Scan, trials: Sequence[Trial], metrics: Mapping[str, Metrics], failed: Sequence[ScanFailure]) -> ScanResult:
    """Everything that was measured as rows in the order of the groups."""
    from tui_pruner.core.preview import Arithmetic
    from tui_pruner.core.sensitivity import layers_of

    arithmetic = Arithmetic(scan.analysis)
    baseline = {name: value for name, value in metrics[BASELINE].items() if name != IMAGES}
    name, value = main_metric(baseline) or ("", 0.0)

    def row(trial: Trial) -> ScanTrial:
        size, metric = arithmetic.widths(trial.removal).size, metrics[trial.digest].get(name, 0.0)
        return ScanTrial(
            id=trial.group,
            layer=trial.layer,
            layers=layers_of(scan.analysis, scan.analysis.coupling.groups[trial.group]),
            ratio=trial.ratio,
            channels=len(trial.removal.places[trial.group]),
            along=sorted(set(trial.removal.places) - {trial.group}),
            metric=metric,
            drop=value - metric,
            parameters=size.parameters,
            flops=size.flops,
        )

    return ScanResult(
        name=name,
        baseline=value,
        metrics=baseline,
        images=int(metrics[BASELINE][IMAGES]),
        parameters=arithmetic.whole.size.parameters,
        flops=arithmetic.whole.size.flops,
        groups=[row(trial) for trial in trials if trial.digest in metrics],
        failed=list(failed),
    )
