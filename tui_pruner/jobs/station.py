"""A checkpoint on a data set in this process, ready to measure trials of a scan: side by side, as many as memory allows."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from tui_pruner.errors import JobError, out_of_memory
from tui_pruner.jobs.dataset import DataSet
from tui_pruner.jobs.scan_store import IMAGES, SHARED, Metrics
from tui_pruner.jobs.validate import prepared

if TYPE_CHECKING:
    from torch import nn

    from tui_pruner.core.analysis import Analysis
    from tui_pruner.core.sensitivity import Trial
    from tui_pruner.core.sensitivity_run import SharedRun
    from tui_pruner.engine.scan_messages import ScanParameters

T = TypeVar("T")
Outcome = Metrics | str
"""The metrics of a trial, or the reason why it failed."""
SIDE_BY_SIDE = 8
SIDE_BY_SIDE_BYTES = 1 << 30
"""How many networks see a batch one after the other, and the bytes of their weights: the results of so many are lost in a crash."""


@dataclass(frozen=True)
class Failure:
    """Why networks could not be measured together, in a line; whether memory was short."""

    reason: str
    memory: bool


@dataclass
class Station:
    """The unchanged network, validated once, and what measures its changed copies, `most` of them side by side."""

    analysis: Analysis
    shared: SharedRun
    most: int

    @property
    def baseline(self) -> Metrics:
        """The metrics of the unchanged network, on how many images, and whether trials share its work."""
        return {**self.shared.baseline, IMAGES: float(self.shared.images), SHARED: float(self.shared.can_share)}

    def outcomes(self, trials: Sequence[Trial]) -> Iterator[tuple[Trial, Outcome]]:
        """Each trial with its metrics, or with the reason why it failed, wave after wave.

        Where memory is short, first what is only kept to save time is given up, then waves get smaller, then nothing is shared.

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
        """The metrics of trials side by side. An error is not handed on: it would hold all that was in memory where it was raised."""
        from tui_pruner.core.sensitivity_run import Variant
        from tui_pruner.core.skeleton import owners_of_tensors
        from tui_pruner.core.twin import masked_twin

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
def station(analysis: Analysis, data: DataSet, parameters: ScanParameters) -> Iterator[Station]:
    """Validate the unchanged network, and be ready for trials.

    Raises:
        DataError: the data is not for this model, or none of its images can be used.
        RequestError: no such device, or a model class that has no validator here.
    """
    from tui_pruner.core.sensitivity_run import SharedRun

    model = analysis.checkpoint.model
    with prepared(model, data, parameters.imgsz, parameters.device) as (validator, _):
        yield Station(analysis, SharedRun(validator, model), side_by_side(model))


def side_by_side(model: nn.Module) -> int:
    """How many networks of this size may be in memory at once."""
    size = sum(parameter.nbytes for parameter in model.parameters())
    return max(1, min(SIDE_BY_SIDE, SIDE_BY_SIDE_BYTES // max(1, size)))


def parts(trials: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    """A sequence in parts of at most so many."""
    return (trials[start : start + size] for start in range(0, len(trials), size))
