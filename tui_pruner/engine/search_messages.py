"""Parameters and results of searches: scans, latencies, targets, measured plans, the gate."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import AliasChoices, Field

from tui_pruner.engine.job_messages import JobParameters
from tui_pruner.engine.messages import Message
from tui_pruner.storage.model_file import ModuleNames


class GateParameters(JobParameters):
    """Parameters of a gate: a pruned checkpoint, the one to compare it with (`against`), and the allowed loss and latency.

    `max_drop` is in the metric's own unit; `max_latency` a share of the original's. `strict`: what is not certain does not pass.
    """

    images: int | None = None
    against: str
    max_drop: float = 0.01
    max_latency: float | None = None
    strict: bool = False
    runs: int = 50


class GateMetric(Message):
    """One metric of both models on the same images: its drop with the 95 % interval, and the judgement against `allowed`.

    `certain`: the whole interval is on one side of what is allowed. `has_interval`: it is known, which takes a figure for each image; else
    `low` and `high` are the drop.
    """

    name: str
    original: float
    pruned: float
    drop: float
    low: float
    high: float
    allowed: float
    ok: bool
    certain: bool
    has_interval: bool = True


class GateLatency(Message):
    """The pruned model's latency as a share of the original's, with its 95 % interval, and the medians in milliseconds."""

    ratio: float
    low: float
    high: float
    allowed: float
    ok: bool
    certain: bool
    original_ms: float
    pruned_ms: float
    runs: int
    device: str


class GateResult(Message):
    """The verdict, and everything that it is based on: `drop` and `interval` are those of the metric that fell most.

    `reasons` has a sentence for each judgement; `images_needed`: about how many images would make it certain, where that is known.
    `sample`: what an image is called, where the models do not read images.
    """

    verdict: Literal["yes", "no"]
    certain: bool
    drop: float
    interval: tuple[float, float]
    latency: GateLatency | None
    metrics: list[GateMetric]
    reasons: list[str]
    rule: str
    images: int
    images_needed: int | None
    original: str
    pruned: str
    original_parameters: int
    pruned_parameters: int
    seconds: float
    notes: list[str] = []
    sample: str = "image"


class TrialDrop(Message):
    """A trial of a scan on one group: how many of its channels were gone, and the drop of the metric."""

    group: int
    channels: int
    drop: float


class ScanDrops(Message):
    """A scan in the form that planning needs: the metric with nothing gone, and every trial. `partial`: it was stopped early."""

    baseline: float
    trials: list[TrialDrop]
    partial: bool = False


class TargetReach(Message):
    """The least and the most that can remain of the checkpoint in addition to the session's steps, as shares by measure."""

    least: dict[str, float]
    most: dict[str, float]


class TargetPlan(Message):
    """The amounts that meet targets, by layer; none where they are out of reach, which `stopped` explains.

    `shares`: what remains by measure; `scanned`: whether a scan priced the cuts, or else the channels' importance.
    """

    amounts: dict[str, str]
    shares: dict[str, float]
    scanned: bool
    stopped: str = ""


class ScanExecutor(Message):
    """Where the trials of a scan run; no result depends on it.

    `name`: local or ray; `workers`: processes on this machine; `address`: of the Ray cluster; `gpus_per_task`, `cpus_per_task`: what Ray
    reserves for a task (by default a GPU where the device is one).
    """

    name: str = "local"
    workers: int = 1
    address: str = "auto"
    gpus_per_task: float | None = None
    cpus_per_task: float = 1.0


class ScanParameters(JobParameters):
    """Parameters of a scan: every prunable group alone at each of these shares of its channels, the weakest by the criterion.

    `stops_early`: SIGTERM ends it with the results so far.
    """

    ratios: list[float] = [0.1, 0.3, 0.5]
    criterion: str = "l2"
    calibration_images: int = 64
    executor: ScanExecutor = ScanExecutor()
    stops_early: bool = False


class ScanTrial(Message):
    """One group at one ratio: the metric with it gone, the drop against the baseline, and the size of the model.

    `layers`: all that produce its channels, the first one being `layer`; `along`: the other groups that its links cut too.
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


class ScanFound(Message):
    """Progress of a scan: the trials since the last report, of `wanted` different ones, and the baseline.

    `layers`: for every group of the scan the layers that produce its channels.
    """

    name: str
    baseline: float
    images: int
    wanted: int
    trials: list[ScanTrial]
    layers: dict[int, list[str]] = {}


class ScanFailure(Message):
    """A trial that was skipped, and why."""

    id: int
    layer: str
    ratio: float
    error: str


class ScanResult(Message):
    """All trials in the order of the groups; `name` is the metric's by Ultralytics' names, `cached` how many results were cached.

    `notes`: true of every run of this scan; `remarks`: of this run. `wanted`: the number of different trials, where the scan was stopped
    before the last of them; else 0.
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
    wanted: int = 0

    @property
    def distinct(self) -> list[ScanTrial]:
        """The trials without those that equal an earlier one, because another group loses the same channels."""
        return list({(frozenset((trial.id, *trial.along)), trial.ratio): trial for trial in reversed(self.groups)}.values())[::-1]


class ModelToTime(Message):
    """A model to time: a checkpoint or an architecture, under a plan or as it is."""

    checkpoint: str
    classes: int | None = None
    plan: dict[str, Any] | None = None


class BenchParameters(Message):
    """Parameters of a latency measurement: models to time in turns, the first one the reference, and the number of runs; no size: the first
    model's own.

    A log or file of 0.1.0 calls the models `subjects`.
    """

    models: list[ModelToTime] = Field(validation_alias=AliasChoices("models", "subjects"))
    imgsz: int | None = None
    batch: int = 1
    runs: int = 50
    blocks: bool = False
    suggest: bool = False
    device: str = ""
    module: ModuleNames | None = None


class BlockLatency(Message):
    """The milliseconds of a block within a forward; 80 % of the runs are from `low_ms` to `high_ms`."""

    name: str
    type: str
    median_ms: float
    low_ms: float = 0.0
    high_ms: float = 0.0


class WidthSuggestion(Message):
    """A cut layer that, timed alone, is faster at another width, and the ratio of the two with its upper 95 % bound."""

    layer: str
    width: int
    median_ms: float
    faster: int
    faster_median_ms: float
    ratio: float
    ratio_high: float


class BenchedModel(Message):
    """A model's latency in milliseconds for a batch, and as a share of the reference's with its 95 % interval.

    `verdict`: reference, faster, slower or no difference.
    """

    model: str
    parameters: int
    median_ms: float
    p90_ms: float
    runs: int
    device: str
    threads: int
    imgsz: int
    batch: int
    ratio: float
    ratio_low: float
    ratio_high: float
    verdict: str
    blocks: list[BlockLatency] = []
    suggestions: list[WidthSuggestion] = []


class BenchResult(Message):
    """The timed models in the order of the parameters."""

    models: list[BenchedModel]
    notes: list[str] = []


class LatencySearchParameters(JobParameters):
    """Parameters of a latency search: the checkpoint, the plan so far, the targets, and how channels are ranked; no `data`.

    `targets`: as text, one of them a latency; `scan`: prices the cuts; `scores`: the file of a calibration, for criteria
    that need one; `runs`: samples of the checkpoint and of each plan that is tried, in turns.
    """

    data: str = ""
    plan: dict[str, Any] | None = None
    targets: list[str]
    criterion: str = "l2"
    round_to: int = 1
    scan: ScanDrops | None = None
    scores: str | None = None
    runs: int = 50


class LatencyShare(Message):
    """A model's latency as a share of the checkpoint's: the median, and its 95 % interval."""

    median: float
    low: float
    high: float


class LatencySearchResult(Message):
    """The amounts that reach a latency, that model's measured latency, and that of the smallest model."""

    plan: TargetPlan
    latency: LatencyShare
    least: LatencyShare
    tries: int
    device: str
    threads: int


class PlanningParameters(JobParameters):
    """Parameters of a search for plans: the checkpoint, the plan so far, and the targets of each point of the front.

    Damage is measured, and plans are refitted, on `images` of the training split without labels; they are compared on others. `fast`: the
    plan by measured damage is taken without a trial. `validated`: the taken plan is also validated, refitted, on this many images of the
    validation split; 0: not at all. A scan competes too: `scan`, or a cached one on `scanned` validation images.
    """

    images: int | None = 64
    plan: dict[str, Any] | None = None
    points: list[list[str]]
    criterion: str = "obs"
    round_to: int = 1
    floor: float = 0.25
    protect: list[str] = []
    scan: ScanDrops | None = None
    scanned: int | None = 64
    fast: bool = False
    validated: int | None = 0
    batch: int = 16


class RivalResult(Message):
    """One competing plan: the way that found it, and its distance from the original on held-out images, cut and refitted."""

    name: str
    shares: dict[str, float]
    distance_cut: float
    distance: float
    outputs: dict[str, float]


class PlanPoint(Message):
    """One point: the plan that was taken (None: out of reach, and `stopped` says why) and its rivals.

    `amounts` has its last step by layer; `measured` the metrics of the refitted model, where it was validated.
    """

    targets: list[str]
    plan: dict[str, Any] | None
    amounts: dict[str, str] = {}
    shares: dict[str, float] = {}
    parameters: int = 0
    flops: int = 0
    bytes: int = 0
    chosen: str = ""
    rivals: list[RivalResult] = []
    measured: dict[str, float] | None = None
    stopped: str = ""


class PlanningResult(Message):
    """All points, the file with the scores of the channels, where the criterion needs one, and how they were computed."""

    points: list[PlanPoint]
    scores: str
    original: dict[str, float] | None
    images: int
    held_out: int
    trials: int
    cached: bool
    seconds: float
    notes: list[str] = []
