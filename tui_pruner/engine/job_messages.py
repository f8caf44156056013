"""What travels between the program and its jobs: what to do, how far it is, and what came of it.

A job prints one JSON object a line, as the engine does; `jobs/__main__.py` has the kinds.
"""

from __future__ import annotations

from typing import Any

from tui_pruner.engine.protocol import Message, ScanDrops, TargetPlan, WriteResult


class JobParameters(Message):
    """What every job on a checkpoint and a data set starts from: the first `images` of a seeded order of its validation images."""

    checkpoint: str
    sha256: str
    data: str
    images: int | None = 64
    imgsz: int
    device: str = ""
    classes: int | None = None
    seed: int = 0


class ValidationParameters(JobParameters):
    """What a validation job is: a checkpoint, a plan and how to measure. Results are cached by these."""

    plan: dict[str, Any] | None = None


class CalibrationParameters(JobParameters):
    """What a calibration job is: a checkpoint, as it was trained, and the labelled images that its channels are scored on."""


class JobProgress(Message):
    """How far a job is: `done` of `total`, and by Ultralytics' names the metrics over what is done so far, where it tells them."""

    done: int
    total: int
    doing: str = ""
    metrics: dict[str, float] = {}


class CalibrationResult(Message):
    """The file with the scores, for the engine's `calibrate`; on how many images; and whether the cache had it."""

    scores: str
    images: int
    seconds: float
    cached: bool = False
    notes: list[str] = []


class ValidationResult(Message):
    """Metrics by Ultralytics' names ("metrics/mAP50-95(B)"), the number of images, and whether the cache had it.

    `interval`: where the main metric lies on other images of the same kind in 95 % of cases (bootstrap); None where that is not known.
    """

    metrics: dict[str, float]
    interval: tuple[float, float] | None = None
    images: int
    seconds: float
    cached: bool = False
    notes: list[str] = []


class ReportParameters(JobParameters):
    """What a report job is: a settled plan, how its file is called, the file to write, and how many pictures; no `data`, no images."""

    data: str = ""
    plan: dict[str, Any]
    plan_file: str
    output: str
    pictures: int = 6


class ReportResult(Message):
    """The written report: whether all its steps are proved, and how many they are."""

    output: str
    bytes: int
    proved: bool
    steps: int
    notes: list[str] = []


class PictureParameters(ValidationParameters):
    """What a picture job is: the first `pictures` of a seeded order of the images of a validation, drawn into `folder`."""

    pictures: int = 6
    folder: str


class Picture(Message):
    """One image with what the model finds on it without the plan and with it: files in the job's folder, detections by class name."""

    image: str
    before_file: str
    after_file: str
    before: dict[str, int]
    after: dict[str, int]


class PictureResult(Message):
    """The drawn images; those that could not be read are in `notes`."""

    pictures: list[Picture]
    confidence: float
    notes: list[str] = []


class RecalibrationParameters(JobParameters):
    """What a recalibration job is: a pruned file, the unlabelled images to measure its normalisation on, and the file to write."""

    images: int | None = 256
    output: str
    force: bool = False


class RecalibrationResult(WriteResult):
    """The written file: new statistics in so many layers, from so many images."""

    images: int
    layers: int
    seconds: float
    notes: list[str] = []


class FinetuneParameters(JobParameters):
    """What a fine-tuning job is: a pruned file, how to train it, and the file to write.

    `teacher`: a checkpoint to learn from, its part in the loss weighed by `teacher_weight`; `lr0`: Ultralytics' own choice where None;
    `project`: a folder where the run is kept, by default in the cache until the file is written; `resume`: go on with what an interrupted
    run of the same parameters left; `sparsity`: the strength of a penalty on normalisation scales, with which an uncut file may be
    trained too.
    """

    epochs: int
    batch: int = 16
    lr0: float | None = None
    teacher: str | None = None
    teacher_weight: float = 0.05
    sparsity: float = 0.0
    project: str | None = None
    resume: bool = False
    output: str
    force: bool = False


class FinetuneResult(WriteResult):
    """The written file: the best of so many epochs, its metrics by Ultralytics' names, and what every epoch came to.

    `stopped`: it was asked to end early.
    """

    metrics: dict[str, float]
    best_epoch: int
    epochs: int
    curve: list[dict[str, float]]
    stopped: bool = False
    seconds: float
    notes: list[str] = []


class BenchSubject(Message):
    """A model to time: a checkpoint or an architecture, under a plan or as it is."""

    checkpoint: str
    classes: int | None = None
    plan: dict[str, Any] | None = None


class BenchParameters(Message):
    """What a latency job is: models to time in turns, the first one the reference, and how often; no size: the first one's own."""

    subjects: list[BenchSubject]
    imgsz: int | None = None
    batch: int = 1
    runs: int = 50
    blocks: bool = False
    suggest: bool = False
    device: str = ""


class BlockLatency(Message):
    """The milliseconds that a block takes within a forward."""

    name: str
    type: str
    median_ms: float


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


class QuickenParameters(JobParameters):
    """What a search for a latency is: the checkpoint, the plan so far, what shall be left, and by what cuts are chosen; no `data`.

    `targets`: as they are written, one of them a latency; `scan`: prices the cuts; `scores`: the file of a calibration, for criteria
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
    """How long a model takes as a share of the checkpoint: the median, and the range that holds the true one in 95 % of cases."""

    median: float
    low: float
    high: float


class QuickenResult(Message):
    """The amounts that reach a latency, how long that model was measured to take, and how long the smallest one takes."""

    plan: TargetPlan
    latency: LatencyShare
    least: LatencyShare
    tries: int
    device: str
    threads: int


class ExportParameters(JobParameters):
    """What an export job is: a checkpoint, a format of Ultralytics, and the images to compare on; no `data`: drawn ones.

    `output`: beside the checkpoint under its name where None.
    """

    data: str = ""
    images: int | None = 8
    format: str = "onnx"
    output: str | None = None
    force: bool = False


class ExportResult(Message):
    """The exported file or folder, and how far what it computes is from the model; None: not written, or not compared."""

    output: str | None
    bytes: int
    source_bytes: int
    equal: bool | None
    max_abs_difference: float | None
    relative_difference: float | None
    images: int
    drawn: bool
    notes: list[str] = []


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
