"""What travels to a worker and back: a wave of trials as plain data, and its outcomes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tui_pruner import __version__
from tui_pruner.engine.protocol import Message
from tui_pruner.engine.scan_messages import ScanParameters
from tui_pruner.jobs.data_yaml import everywhere
from tui_pruner.jobs.dataset import read_data
from tui_pruner.jobs.executors import Subject
from tui_pruner.jobs.station import parts, side_by_side
from tui_pruner.trust import is_trusted
from tui_pruner.versions import version_of

if TYPE_CHECKING:
    from tui_pruner.core.sensitivity import Trial

LIBRARIES = ("ultralytics", "torch")


class TaskTrial(Message):
    """A trial as plain data: what it removes of which groups. Its digest is its key."""

    digest: str
    group: int
    layer: str
    ratio: float
    places: dict[int, list[int]]


class Task(Message):
    """A wave of trials. It may run twice, or for two drivers: its result depends on the order and these trials alone."""

    trials: list[TaskTrial]


class Order(Message):
    """What all tasks of a scan share: the checkpoint and the data with the digest that it must have, and the versions that decide.

    `trusted`: whether the driver's user trusts the checkpoint; a node of a cluster runs whatever its driver says anyway.
    """

    parameters: ScanParameters
    data_digest: str
    versions: dict[str, str]
    trusted: bool = False


class TaskResult(Message):
    """The outcomes of a task by the digests of its trials, and the baseline of the one who measured them."""

    baseline: dict[str, float]
    metrics: dict[str, dict[str, float]]
    reasons: dict[str, str]
    where: str
    seconds: float


def versions() -> dict[str, str]:
    """What must be equal for groups to have equal numbers; a build's own suffix, such as +cu128, does not matter."""
    return {"tui-pruner": __version__, **{name: version_of(name).partition("+")[0] for name in LIBRARIES}}


def order_of(subject: Subject, device: str) -> Order:
    """The order, with paths that hold in any working directory."""
    parameters = subject.parameters
    data = everywhere(parameters.data)
    checkpoint = Path(parameters.checkpoint).expanduser()
    changes = {"data": data, "checkpoint": str(checkpoint.absolute()) if checkpoint.is_file() else parameters.checkpoint, "device": device}
    seen = read_data(data).subset(parameters.images, parameters.seed)
    trusted = is_trusted(parameters.sha256)
    return Order(parameters=parameters.model_copy(update=changes), data_digest=seen.digest(), versions=versions(), trusted=trusted)


def tasks_of(subject: Subject, trials: Sequence[Trial], slots: int) -> list[Task]:
    """Trials cut into waves: as many side by side as memory allows, but no fewer waves than there are to run them."""
    size = max(1, min(side_by_side(subject.analysis.checkpoint.model), -(-len(trials) // max(1, slots))))
    return [Task(trials=[plain(trial) for trial in part]) for part in parts(trials, size)]


def plain(trial: Trial) -> TaskTrial:
    """A trial as plain data."""
    places = {number: found.tolist() for number, found in trial.removal.places.items()}
    return TaskTrial(digest=trial.digest, group=trial.group, layer=trial.layer, ratio=trial.ratio, places=places)


def revived(trial: TaskTrial) -> Trial:
    """A trial from plain data."""
    import numpy as np

    from tui_pruner.core.removal import Removal
    from tui_pruner.core.sensitivity import Trial

    removal = Removal({number: np.asarray(found, dtype=np.int64) for number, found in trial.places.items()})
    return Trial(trial.group, trial.layer, trial.ratio, removal)
