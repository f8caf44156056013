"""The sensitivity scan: every prunable group alone at several ratios, by the masked twin; results are stored as they arrive."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tui_pruner.domain.errors import Interruption, JobError
from tui_pruner.domain.formatting import plural
from tui_pruner.domain.results import main_metric, nothing_to_lose
from tui_pruner.engine.job_messages import JobProgress
from tui_pruner.engine.search_messages import ScanFailure, ScanFound, ScanParameters, ScanResult, ScanTrial
from tui_pruner.jobs.calibrate import rank_by
from tui_pruner.jobs.data.dataset import numbering_in_words, read_data, renumbered
from tui_pruner.jobs.data.linked_copy import labels_in_words, labels_of
from tui_pruner.jobs.scan.executors import BASELINE, IMAGES, SHARED, Executor, Metrics, ScanContext, ScanStore, TrialResults, executor_for
from tui_pruner.jobs.tools import OnProgress
from tui_pruner.jobs.validate import fitting_side, opened, skipped

if TYPE_CHECKING:
    from tui_pruner.core.pruning.preview import Arithmetic
    from tui_pruner.core.search.sensitivity import Skipped, Trial

APART = 1e-4
"""How far two workers' metrics of the unchanged checkpoint may differ without a remark."""


@dataclass(frozen=True)
class Scan(ScanContext):
    """A scan and its store of results."""

    store: ScanStore


@dataclass
class Found:
    """The results of a run with this many trials: metrics by digest, reasons of failures, and remarks."""

    total: int
    metrics: dict[str, Metrics]
    broken: dict[str, str] = field(default_factory=dict)
    remarks: list[str] = field(default_factory=list)
    stopped: bool = False


class ScanStopped(Interruption):
    """The scan shall end with its results so far. A BaseException, so that no error handling catches it."""


class StopSignal:
    """SIGTERM ends waiting for results at once; at any other moment it takes effect before the next wait."""

    def __init__(self) -> None:
        self._asked = False
        self._waiting = False

    def results(self, trial_results: Iterator[TrialResults]) -> Iterator[TrialResults]:
        """Results as they arrive, until all have arrived or the signal came.

        Raises:
            ScanStopped: the signal came.
        """
        while True:
            try:
                self._waiting = True
                if self._asked:
                    raise ScanStopped
                arrived = next(trial_results, None)
            finally:
                self._waiting = False
            if arrived is None:
                return
            yield arrived

    @contextlib.contextmanager
    def signal_handled(self) -> Iterator[None]:
        """Handle the signal."""
        before = signal.signal(signal.SIGTERM, self._take)
        try:
            yield
        finally:
            signal.signal(signal.SIGTERM, before)

    def _take(self, number: int, frame: object) -> None:
        self._asked = True
        if self._waiting:
            raise ScanStopped


def run_scan(parameters: ScanParameters, on_progress: OnProgress) -> ScanResult:
    """Run the job; trials that an earlier scan of the same parameters measured are not repeated.

    Raises:
        DataError: the data cannot be used for this model.
        CheckpointError: the checkpoint cannot be used, or changed since the job was created.
        RequestError: no such criterion, device or executor, an invalid ratio, or a model class that has no validator here.
    """
    from tui_pruner.core.model.analysis import analyse
    from tui_pruner.core.search.sensitivity import trials_of

    started = time.perf_counter()
    executor = executor_for(parameters.executor)
    data = read_data(parameters.data).subset(parameters.images, parameters.seed)
    on_progress(JobProgress(done=0, total=0, doing="reading the checkpoint", begun=False))
    analysis = analyse(opened(parameters), parameters.imgsz)
    rank_by(analysis, parameters.criterion, parameters, parameters.calibration_images, on_progress)
    scan = Scan(analysis, parameters, data, ScanStore(parameters, data.digest()))
    trials, impossible = trials_of(analysis, parameters.ratios, parameters.criterion)
    known = {digest: kept for digest in (BASELINE, *(t.digest for t in trials)) if (kept := scan.store.load(digest))}
    cached = len(known) - (BASELINE in known)
    missing = list({trial.digest: trial for trial in trials if trial.digest not in known or BASELINE not in known}.values())
    found = Found(len({trial.digest for trial in trials}), known)
    if missing or BASELINE not in known:
        measure(scan, executor, costliest_first(scan, missing), found, ScanReporter(scan, trials, found, on_progress))
    result = result_of(scan, trials, found.metrics, [*failures(trials, found.broken), *(failure_of(s, s.reason) for s in impossible)])
    wanted = found.total if found.stopped else 0
    run = {"remarks": found.remarks, "cached": cached, "seconds": time.perf_counter() - started, "wanted": wanted}
    return result.model_copy(update={"notes": notes_of(scan, found.metrics[BASELINE]), **run})


def costliest_first(scan: Scan, trials: Sequence[Trial]) -> list[Trial]:
    """The trials by the FLOPs that their groups can save, largest first; the trials of a group one after the other."""
    from tui_pruner.core.pruning.preview import Arithmetic

    arithmetic, left = Arithmetic(scan.analysis), dict[int, int]()
    for trial in trials:
        flops = arithmetic.widths(trial.removal).size.flops
        left[trial.group] = min(flops, left.get(trial.group, flops))
    return sorted(trials, key=lambda trial: (left[trial.group], trial.group))


@dataclass
class ScanReporter:
    """Reports the progress of a scan, and the results since the last report."""

    scan: Scan
    trials: Sequence[Trial]
    found: Found
    on_progress: OnProgress
    _told: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        from tui_pruner.core.pruning.preview import Arithmetic

        self._rows = Rows(self.scan, Arithmetic(self.scan.analysis))

    @property
    def begun(self) -> bool:
        """Whether the baseline was reported."""
        return BASELINE in self._told

    def tell(self, done: int, doing: str, metrics: Metrics | None = None) -> None:
        """Report; the first report after the baseline has all results that were known before."""
        told = self._since() if BASELINE in self.found.metrics else None
        found = told.model_dump() if told is not None else None
        self.on_progress(JobProgress(done=done, total=self.found.total, doing=doing, metrics=metrics or {}, found=found))

    def _since(self) -> ScanFound | None:
        from tui_pruner.core.search.sensitivity import layers_of

        metrics, first = self.found.metrics, not self._told
        new = [trial for trial in self.trials if trial.digest in metrics and trial.digest not in self._told]
        if not new and not first:
            return None
        self._told |= {BASELINE, *(trial.digest for trial in new)}
        name, value = main_metric(metrics[BASELINE]) or ("", 0.0)
        groups = self.scan.analysis.coupling.groups
        layers = {trial.group: layers_of(self.scan.analysis, groups[trial.group]) for trial in self.trials} if first else {}
        return ScanFound(
            name=name, baseline=value, images=int(metrics[BASELINE][IMAGES]), wanted=self.found.total, layers=layers,
            trials=[self._rows.row(trial, name, value, metrics[trial.digest]) for trial in new],
        )  # fmt: skip


def measure(scan: Scan, executor: Executor, missing: Sequence[Trial], found: Found, reporter: ScanReporter) -> None:
    """Let the executor measure trials, and store each result; SIGTERM ends that where the parameters allow it.

    Raises:
        JobError: not even the unchanged checkpoint could be measured.
    """
    stop = StopSignal()
    with contextlib.ExitStack() as open_things:
        if scan.parameters.stops_early:
            open_things.enter_context(stop.signal_handled())
        trial_results = open_things.enter_context(contextlib.closing(executor(scan, missing)))
        try:
            take(scan, missing, stop.results(trial_results), found, reporter)
        except ScanStopped:
            found.stopped = True
    if found.stopped and BASELINE not in found.metrics:
        os.kill(os.getpid(), signal.SIGTERM)  # nothing to keep: end as the signal usually does
    if BASELINE not in found.metrics:
        raise JobError(f"no worker came back with a result: {next(iter(found.broken.values()), 'there was no task')}")


def take(scan: Scan, missing: Sequence[Trial], trial_results: Iterator[TrialResults], found: Found, reporter: ScanReporter) -> None:
    """Store and report results."""
    names = {trial.digest: f"{trial.layer} -{trial.ratio:.0%}" for trial in missing}
    tried = f"{plural(len({trial.group for trial in missing}), 'group')} x {plural(len({trial.ratio for trial in missing}), 'ratio')}"
    done = found.total - len(missing)
    reporter.tell(done, f"validating the checkpoint, then {tried}")
    for arrived in trial_results:
        for remark in (*arrived.remarks, *store_baseline(scan, arrived, found)):
            reporter.tell(done, remark)
            found.remarks += [remark] if remark not in found.remarks else []
        if not reporter.begun:
            reporter.tell(done, tried)
        for digest, outcome in arrived.outcomes.items():
            done += 1
            keep(scan, digest, outcome, found)
            metrics = {} if isinstance(outcome, str) else outcome
            reporter.tell(done, ", ".join(filter(None, (tried, names[digest], arrived.where))), metrics)


def store_baseline(scan: Scan, arrived: TrialResults, found: Found) -> list[str]:
    """Store the first baseline; add a remark where another one differs, since drops would then be of two models."""
    if arrived.baseline is None:
        return []
    known = found.metrics.setdefault(BASELINE, arrived.baseline)
    if known is arrived.baseline:
        scan.store.keep(BASELINE, known)
    (name, value), (_, first) = main_metric(arrived.baseline) or ("", 0.0), main_metric(known) or ("", 0.0)
    remark = (
        f"{arrived.where or 'this run'} has {name} {value:.4f} for the checkpoint instead of {first:.4f}: its trials are off by as much"
    )
    return [remark] if abs(value - first) > APART and remark not in found.remarks else []


def keep(scan: Scan, digest: str, outcome: Metrics | str, found: Found) -> None:
    """Store a result; a failed trial is tried again by the next run."""
    if isinstance(outcome, str):
        found.broken[digest] = outcome
        return
    found.metrics[digest] = outcome
    scan.store.keep(digest, outcome)


def notes_of(scan: Scan, baseline: Metrics) -> list[str]:
    """Notes that are true of every run of this scan, however often it was interrupted."""
    model, images = scan.analysis.checkpoint.model, int(baseline[IMAGES])
    notes = fitting_side(scan.parameters.imgsz, model)[1] + labels_in_words(labels_of(model))
    if not baseline.get(SHARED, 1.0):
        notes.append(f"every trial ran the whole {type(model).__name__}: its blocks cannot be shared without changing what it predicts")
    data = renumbered(scan.data, model)
    notes += numbering_in_words(data)
    notes += nothing_to_lose({name: value for name, value in baseline.items() if name not in (IMAGES, SHARED)})
    if images < len(data.images):
        notes.append(skipped(len(data.images) - images, data))
    return notes


def failures(trials: Sequence[Trial], broken: Mapping[str, str]) -> list[ScanFailure]:
    """The trials that failed during the run."""
    return [failure_of(trial, broken[trial.digest]) for trial in trials if trial.digest in broken]


def failure_of(trial: Trial | Skipped, reason: str) -> ScanFailure:
    """A trial that was skipped, as a message."""
    return ScanFailure(id=trial.group, layer=trial.layer, ratio=trial.ratio, error=reason)


@dataclass(frozen=True)
class Rows:
    """Converts measurements to messages."""

    scan: Scan
    arithmetic: Arithmetic

    def row(self, trial: Trial, name: str, baseline: float, metrics: Metrics) -> ScanTrial:
        """A trial as a message; `name` and `baseline` are the main metric's."""
        from tui_pruner.core.search.sensitivity import layers_of

        size, metric = self.arithmetic.widths(trial.removal).size, metrics.get(name, 0.0)
        return ScanTrial(
            id=trial.group,
            layer=trial.layer,
            layers=layers_of(self.scan.analysis, self.scan.analysis.coupling.groups[trial.group]),
            ratio=trial.ratio,
            channels=len(trial.removal.places[trial.group]),
            along=sorted(set(trial.removal.places) - {trial.group}),
            metric=metric,
            drop=baseline - metric,
            parameters=size.parameters,
            flops=size.flops,
        )


def result_of(scan: Scan, trials: Sequence[Trial], metrics: Mapping[str, Metrics], failed: Sequence[ScanFailure]) -> ScanResult:
    """All measurements as messages, in the order of the groups."""
    from tui_pruner.core.pruning.preview import Arithmetic

    rows = Rows(scan, Arithmetic(scan.analysis))
    baseline = {name: value for name, value in metrics[BASELINE].items() if name not in (IMAGES, SHARED)}
    name, value = main_metric(baseline) or ("", 0.0)
    return ScanResult(
        name=name,
        baseline=value,
        metrics=baseline,
        images=int(metrics[BASELINE][IMAGES]),
        parameters=rows.arithmetic.whole.size.parameters,
        flops=rows.arithmetic.whole.size.flops,
        groups=[rows.row(trial, name, value, metrics[trial.digest]) for trial in trials if trial.digest in metrics],
        failed=list(failed),
    )
