"""What travels between the program and a sensitivity scan: what to try, who tries it, and what each trial came to."""

from __future__ import annotations

from tui_pruner.engine.job_messages import JobParameters
from tui_pruner.engine.protocol import Message


class ScanExecutor(Message):
    """Who runs the trials of a scan; no result depends on it.

    `name`: local or ray; `workers`: processes on this machine; `address`: of the Ray cluster; `gpus_per_task`, `cpus_per_task`: what Ray
    reserves for a task (by default a GPU where the device is one).
    """

    name: str = "local"
    workers: int = 1
    address: str = "auto"
    gpus_per_task: float | None = None
    cpus_per_task: float = 1.0


class ScanParameters(JobParameters):
    """What a scan is: every prunable group alone at each of these shares of its channels, the weakest by the criterion."""

    ratios: list[float] = [0.1, 0.3, 0.5]
    criterion: str = "l2"
    calibration_images: int = 64
    executor: ScanExecutor = ScanExecutor()


class ScanTrial(Message):
    """One group at one ratio: the metric with it gone, the drop against the baseline, and what is left of the model.

    `layers`: all that produce its channels, the first one being `layer`; `along`: the other groups that its links take along.
    """

    id: int
    layer: str
    layers: list[str]
    ratio: float
    channels: int
    along: list[int]
    metric: float
    drop: float
    parameters: int
    flops: int


class ScanFailure(Message):
    """A trial that was skipped, and why."""

    id: int
    layer: str
    ratio: float
    error: str


class ScanResult(Message):
    """All trials in the order of the groups; `name` is the metric's by Ultralytics' names, `cached` how many results were there already.

    `notes`: what holds for every run of this scan; `remarks`: what happened in this one.
    """

    name: str
    baseline: float
    metrics: dict[str, float]
    images: int
    parameters: int
    flops: int
    groups: list[ScanTrial]
    failed: list[ScanFailure] = []
    notes: list[str] = []
    remarks: list[str] = []
    cached: int = 0
    seconds: float = 0.0
