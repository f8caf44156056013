"""Where the trials of a scan run: a runner in this process, the interface of executors with a table of them, and the store of results."""

from __future__ import annotations

import contextlib
import importlib
import json
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from tui_pruner.domain.errors import JobError, RequestError, out_of_memory
from tui_pruner.domain.results import main_metric
from tui_pruner.engine.job_messages import JobParameters
from tui_pruner.engine.search_messages import ScanParameters
from tui_pruner.jobs.cache import digest_of
from tui_pruner.jobs.data.dataset import DataSet, read_data
from tui_pruner.jobs.validate import prepared
from tui_pruner.storage import paths
from tui_pruner.storage.atomic import replace_file

if TYPE_CHECKING:
    from torch import nn

    from tui_pruner.core.model.analysis import Analysis
    from tui_pruner.core.search.sensitivity import Sensitivity, Trial
    from tui_pruner.engine.search_messages import ScanExecutor
    from tui_pruner.frameworks.ultralytics.validation import SharedRun


BASELINE = "baseline"
IMAGES = "images"
SHARED = "shared"
"""Key beside the baseline's metrics: how many images could be used, and whether trials share unchanged blocks (1 or 0)."""
Metrics = dict[str, float]


class ScanStore:
    """The metrics of a checkpoint's trials on one subset of one data set, by the digest of what a trial removes."""

    def __init__(self, parameters: JobParameters, data_digest: str) -> None:
        self.folder: Path = paths.cache_folder() / "scan" / digest_of(parameters, data_digest)

    def load(self, digest: str) -> Metrics | None:
        """A trial's metrics; None where there are none, or the file is damaged."""
        try:
            content = json.loads((self.folder / f"{digest}.json").read_bytes())
        except (OSError, ValueError):
            return None
        sound = isinstance(content, dict) and all(isinstance(value, (int, float)) for value in content.values())
        return {str(name): float(value) for name, value in content.items()} if sound else None

    def keep(self, digest: str, metrics: Mapping[str, float]) -> None:
        """Store a trial, completely or not at all; if the cache cannot be written, the result is still used."""
        with contextlib.suppress(OSError):
            replace_file(self.folder / f"{digest}.json", json.dumps(dict(metrics)).encode())


LOOKED_FOR = tuple(percent / 100 for percent in range(5, 95, 5))


def known_sensitivity(analysis: Analysis, parameters: ScanParameters) -> Sensitivity | None:
    """The stored results of this checkpoint, data, images, size and criterion at multiples of 5 %; None where there are none.

    Raises:
        DataError: the data cannot be used.
    """
    from tui_pruner.core.search.sensitivity import Sensitivity, trials_of

    store = ScanStore(parameters, read_data(parameters.data).subset(parameters.images, parameters.seed).digest())
    baseline = main_metric(store.load(BASELINE) or {})
    if baseline is None:
        return None
    name, value = baseline
    drops: dict[int, dict[float, float]] = {}
    for trial in trials_of(analysis, LOOKED_FOR, parameters.criterion)[0]:
        known = store.load(trial.digest)
        if known is not None and name in known:
            share = len(trial.removal.places[trial.group]) / analysis.coupling.groups[trial.group].channels
            drops.setdefault(trial.group, {})[share] = value - known[name]
    return Sensitivity(value, drops)


T = TypeVar("T")
Outcome = Metrics | str
"""The metrics of a trial, or the reason why it failed."""
SIDE_BY_SIDE = 8
SIDE_BY_SIDE_BYTES = 1 << 30
"""Bytes of the weights of networks that see a batch one after the other; a crash loses the results of that many networks."""


@dataclass(frozen=True)
class Failure:
    """Why networks could not be measured together, in a line; and whether memory was short."""

    reason: str
    memory: bool


@dataclass
class TrialRunner:
    """The unchanged network, validated once, and a measurement of changed copies, `most` of them side by side."""

    analysis: Analysis
    shared: SharedRun
    most: int

    @property
    def baseline(self) -> Metrics:
        """The metrics of the unchanged network, the number of images, and whether trials share its activations."""
        return {**self.shared.baseline, IMAGES: float(self.shared.images), SHARED: float(self.shared.can_share)}

    def outcomes(self, trials: Sequence[Trial]) -> Iterator[tuple[Trial, Outcome]]:
        """Each trial with its metrics, or with the reason why it failed, wave after wave.

        Where memory is short, first caches that only save time are dropped, then waves get smaller, then nothing is shared.

        Raises:
            JobError: there is not enough memory for a single network.
        """
        done = 0
        while done < len(trials):
            part = trials[done : done + self.most]
            found = self._measured(part)
            if isinstance(found, Failure) and found.memory:
                self._save_memory(len(part))
                continue
            yield from self._one_by_one(part) if isinstance(found, Failure) else zip(part, found, strict=True)
            done += len(part)

    def _measured(self, part: Sequence[Trial]) -> list[Metrics] | Failure:
        """The metrics of trials side by side. An error is returned as text: the exception would keep everything in memory."""
        from tui_pruner.core.model.copies import owners_of_tensors
        from tui_pruner.core.pruning.twin import masked_twin
        from tui_pruner.frameworks.ultralytics.validation import Variant

        model, coupling = self.analysis.checkpoint.model, self.analysis.coupling
        owners = owners_of_tensors(model)

        def variant_of(trial: Trial) -> Variant:
            changed = {owner for member, _ in trial.removal.members(coupling) for owner in owners.get(member.axis.parameter, ())}
            return Variant(masked_twin(model, coupling, trial.removal, owners), frozenset(changed))

        try:
            return list(self.shared.wave([variant_of(trial) for trial in part]))
        except (RuntimeError, ValueError, IndexError, MemoryError) as error:
            return Failure(str(error).splitlines()[0] if str(error) else type(error).__name__, out_of_memory(error))

    def _one_by_one(self, part: Sequence[Trial]) -> Iterator[tuple[Trial, Outcome]]:
        """The outcomes of trials that could not be measured together."""
        for trial in part:
            while isinstance(found := self._measured([trial]), Failure) and found.memory:
                self._save_memory(1)
            yield trial, found.reason if isinstance(found, Failure) else found[0]

    def _save_memory(self, tried: int) -> None:
        if self.shared.keep_nothing():
            return
        if tried > 1:
            self.most = tried // 2
        elif not self.shared.share_nothing():
            raise JobError("not enough memory to scan: free some, choose another --device or a smaller --imgsz")


@contextlib.contextmanager
def trial_runner(analysis: Analysis, data: DataSet, parameters: ScanParameters) -> Iterator[TrialRunner]:
    """Validate the unchanged network, and prepare for trials.

    Raises:
        DataError: the data is not for this model, or none of its images can be used.
        RequestError: no such device, or a model class that has no validator here.
    """
    from tui_pruner.frameworks.ultralytics.validation import SharedRun

    model = analysis.checkpoint.model
    with prepared(model, data, parameters.imgsz, parameters.device) as (validator, _):
        yield TrialRunner(analysis, SharedRun(validator, model), side_by_side(model))


def side_by_side(model: nn.Module) -> int:
    """How many networks of this size may be in memory at once."""
    size = sum(parameter.nbytes for parameter in model.parameters())
    return max(1, min(SIDE_BY_SIDE, SIDE_BY_SIDE_BYTES // max(1, size)))


def parts(trials: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    """A sequence in parts of at most this size."""
    return (trials[start : start + size] for start in range(0, len(trials), size))


@dataclass(frozen=True)
class ScanContext:
    """The scan: an open checkpoint, on the images of a data set."""

    analysis: Analysis
    parameters: ScanParameters
    data: DataSet


@dataclass(frozen=True)
class TrialResults:
    """Results: metrics or a reason by the digests of trials, with the baseline of the process that measured them.

    `baseline`: None where it was not measured; `where`: by which process; `remarks`: problems for the user to know.
    """

    baseline: Metrics | None = None
    outcomes: Mapping[str, Metrics | str] = field(default_factory=dict)
    where: str = ""
    remarks: tuple[str, ...] = ()


Executor = Callable[[ScanContext, "Sequence[Trial]"], Generator[TrialResults, None, None]]
"""Measures trials in any order and yields results as they arrive; closing it ends all that it started.

Each trial arrives at least once. Others may measure the same trial:
a result depends on the checkpoint, the data and the trial alone.
"""
EXECUTORS = {
    "local": "tui_pruner.jobs.scan.executors",
    "ray": "tui_pruner.jobs.scan.ray_cluster",
}
"""The module of each executor; its function is `trial_results`."""


def executor_for(wanted: ScanExecutor) -> Executor:
    """The executor of this name.

    Raises:
        RequestError: there is none.
    """
    if wanted.name not in EXECUTORS:
        raise RequestError(f"no executor {wanted.name!r}: it is one of {', '.join(EXECUTORS)}")
    executor: Executor = importlib.import_module(EXECUTORS[wanted.name]).trial_results
    return executor


def trial_results(context: ScanContext, trials: Sequence[Trial]) -> Generator[TrialResults, None, None]:
    """The baseline first, then trial by trial; from several processes, task by task as they finish."""
    if context.parameters.executor.workers > 1:
        from tui_pruner.jobs.scan import workers

        yield from workers.results_of_workers(context, trials)
        return
    with trial_runner(context.analysis, context.data, context.parameters) as found:
        yield TrialResults(found.baseline)
        for trial, outcome in found.outcomes(trials):
            yield TrialResults(found.baseline, {trial.digest: outcome})
