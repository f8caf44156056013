"""A checkpoint on a data set in this process, ready to measure trials of a scan: side by side, as many as memory allows."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from tui_pruner.errors import JobError
from tui_pruner.jobs.dataset import DataSet
from tui_pruner.jobs.scan_store import IMAGES, SHARED, Metrics
from tui_pruner.jobs.stock import out_of_memory
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
class Station:
    """The unchanged network, validated once, and what measures its changed copies."""

    analysis: Analysis
    shared: SharedRun

    @property
    def baseline(self) -> Metrics:
        """The metrics of the unchanged network, on how many images, and whether trials share its work."""
        return {**self.shared.baseline, IMAGES: float(self.shared.images), SHARED: float(self.shared.shares)}

    def outcomes(self, trials: Sequence[Trial]) -> Iterator[tuple[Trial, Outcome]]:
        """Each trial with its metrics, or with the reason why it failed, wave after wave."""
        from tui_pruner.core.sensitivity_run import Variant
        from tui_pruner.core.skeleton import owners_of_tensors
        from tui_pruner.core.twin import masked_twin

        model, coupling = self.analysis.checkpoint.model, self.analysis.coupling
        owners = owners_of_tensors(model)

        def variant_of(trial: Trial) -> Variant:
            changed = {owner for member, _ in trial.removal.members(coupling) for owner in owners.get(member.axis.parameter, ())}
            return Variant(masked_twin(model, coupling, trial.removal, owners), frozenset(changed))

        def run(part: Sequence[Trial]) -> Iterator[tuple[Trial, Outcome]]:
            try:
                yield from zip(part, list(self.shared.wave([variant_of(trial) for trial in part])), strict=True)
            except (RuntimeError, ValueError, IndexError, MemoryError) as error:
                if len(part) == 1:
                    yield part[0], reason_of(error)
                    return
                half = len(part) // 2
                yield from run(part[:half])
                yield from run(part[half:])

        for part in parts(trials, side_by_side(model)):
            yield from run(part)


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
        yield Station(analysis, SharedRun(validator, model))


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
