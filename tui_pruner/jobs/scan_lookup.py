"""What earlier scans know of a checkpoint on a data set, whatever ratios they were made at."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tui_pruner.engine.scan_messages import ScanParameters
from tui_pruner.jobs.dataset import read_data
from tui_pruner.jobs.scan_store import BASELINE, ScanStore
from tui_pruner.metrics import main_metric

if TYPE_CHECKING:
    from tui_pruner.core.analysis import Analysis
    from tui_pruner.core.budget.costs import Sensitivity

LOOKED_FOR = tuple(percent / 100 for percent in range(5, 95, 5))


def known_sensitivity(analysis: Analysis, parameters: ScanParameters) -> Sensitivity | None:
    """The kept results of this checkpoint, data, images, size and criterion at multiples of 5 %; None where there are none.

    Raises:
        DataError: the data cannot be used.
    """
    from tui_pruner.core.budget.costs import Sensitivity
    from tui_pruner.core.sensitivity import trials_of

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
