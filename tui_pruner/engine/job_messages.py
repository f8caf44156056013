"""What jobs are told and what they answer: validation, calibration, recovery, export, pruning, compression."""

from __future__ import annotations

from typing import Any

from tui_pruner.engine.messages import Message, WriteResult


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
    """What a validation job is: a checkpoint, a plan and how to measure. Results are cached by these.

    `masked`: what the plan removes is at zero in the model that is measured, and all shapes stay.
    """

    plan: dict[str, Any] | None = None
    masked: bool = False


class CalibrationParameters(JobParameters):
    """What a calibration job is: a checkpoint, as it was trained, and the images that its channels are scored on.

    `criteria`: those that read gradients of the loss on labelled validation images, or `obs`, which reads training images without labels.
    `kept_classes`: the numbers of the classes that count, where others are to go.
    """

    criteria: list[str] = ["taylor", "hessian"]
    kept_classes: list[int] = []


class JobProgress(Message):
    """How far a job is: `done` of `total`, and by Ultralytics' names the metrics over what is done so far, where it tells them.

    `found`: what was found since the last report, as plain data, of jobs whose results are of use before the end.
    `stage`: the one of its recipe that it is at; `figure`: what that came to, once it is done.
    """

    done: int
    total: int
    doing: str = ""
    metrics: dict[str, float] = {}
    found: dict[str, Any] | None = None
    stage: str = ""
    figure: str = ""


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
    `resamples`: the main metric on each of its draws, which are the same for every model on these images.
    """

    metrics: dict[str, float]
    interval: tuple[float, float] | None = None
    resamples: list[float] = []
    images: int
    seconds: float
    cached: bool = False
    notes: list[str] = []


class StageFigures(Message):
    """One stage of the way from the original to the result, and the model after it.

    `metrics` by Ultralytics' names, empty where nothing was validated; `details` has what else the stage came to, a line each; `curve` what
    every epoch of a training came to, `interval` where the main metric lies on other images in 95 % of cases, `latency` its share of the
    original's.
    """

    name: str
    metrics: dict[str, float] = {}
    flops: int = 0
    parameters: int = 0
    details: list[str] = []
    curve: list[dict[str, float]] = []
    interval: tuple[float, float] | None = None
    latency: float | None = None


class ReportParameters(JobParameters):
    """What a report job is: a settled plan, how its file is called, the file to write, and how many pictures; no `data`, no images.

    `stages`: what came before and after the cut, where a compression made them; `redact`: with neutral names; `recovered`: the plan's model
    after a refit or a training, which is measured too.
    """

    data: str = ""
    plan: dict[str, Any]
    plan_file: str
    output: str
    pictures: int = 6
    stages: list[StageFigures] = []
    redact: bool = False
    recovered: str | None = None


class ReportResult(Message):
    """The written report: whether all its steps are proved, and how many they are."""

    output: str
    bytes: int
    proved: bool
    steps: int
    notes: list[str] = []


class PictureParameters(JobParameters):
    """What a picture job is: the first `pictures` of a seeded order of the images of a validation, drawn into `folder`.

    `redact`: with neutral names of the classes.
    """

    plan: dict[str, Any] | None = None
    pictures: int = 6
    folder: str
    redact: bool = False


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
    """The written file: new statistics in this many layers, from this many images."""

    images: int
    layers: int
    seconds: float
    notes: list[str] = []


class ReconstructionParameters(JobParameters):
    """What a refit is: a pruned file, the original that it was cut from, the unlabelled images to refit on, and the file to write.

    `original`: beside the pruned file under its recorded name where None.
    """

    images: int | None = 64
    original: str | None = None
    batch: int = 16
    output: str
    force: bool = False


class LayerFit(Message):
    """One layer's relative squared error on held-out images before and after its refit; equal where the fit was not taken."""

    layer: str
    error_before: float
    error_after: float


class ReconstructionResult(WriteResult):
    """The written file: on how many images it was refitted, each layer's fit, and which candidate was kept.

    `kept` is cut, recalibrated, refitted or both; `distance` has the distance of each from the original's outputs on held-out images, and
    `outputs` the same for each output of the task.
    """

    images: int
    held_out: int
    seconds: float
    layers: list[LayerFit]
    kept: str
    distance: dict[str, float]
    outputs: dict[str, dict[str, float]]
    notes: list[str] = []


class FinetuneParameters(JobParameters):
    """What a fine-tuning job is: a pruned file, how to train it, and the file to write.

    `teacher`: a checkpoint to learn from, its part in the loss weighed by `teacher_weight`; `lr0`: Ultralytics' own choice where None;
    `project`: a folder where the run is kept, by default in the cache until the file is written; `resume`: go on with what an interrupted
    run of the same parameters left; `sparsity`: the strength of a penalty on normalisation scales, with which an uncut file may be
    trained too; `patience`: stop after this many epochs without a better one, 0: never; `freeze`: this many first blocks stay as they are.
    """

    epochs: int
    batch: int = 16
    lr0: float | None = None
    patience: int = 0
    freeze: int = 0
    teacher: str | None = None
    teacher_weight: float = 0.05
    sparsity: float = 0.0
    project: str | None = None
    resume: bool = False
    output: str
    force: bool = False


class FinetuneResult(WriteResult):
    """The written file: the best of this many epochs, its metrics by Ultralytics' names, and what every epoch came to.

    `best_epoch` is 0, and the weights are those of the file that was trained, where no epoch was better; `metrics_before` has that one's.
    `stopped`: it was asked to end early.
    """

    metrics: dict[str, float]
    metrics_before: dict[str, float] = {}
    best_epoch: int
    epochs: int
    curve: list[dict[str, float]]
    stopped: bool = False
    seconds: float
    notes: list[str] = []


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


class StageFile(Message):
    """A stage as a job finds it: a file with a plan on it; `sha256` is empty where no one has looked at the file yet."""

    checkpoint: str
    sha256: str = ""
    classes: int | None = None
    plan: dict[str, Any] | None = None


class DetectionParameters(JobParameters):
    """What a job on detections is: two stages, the first of which is to be compared with. Detections are cached by stage and images."""

    stages: tuple[StageFile, StageFile]


class Box(Message):
    """One detection: the left, upper, right and lower side as shares of the image, the class, and how sure the model is.

    `matched`: the other stage has it too, of the same class in nearly the same place.
    """

    sides: tuple[float, float, float, float]
    label: str
    score: float
    matched: bool = False


class DetectedImage(Message):
    """One image with the detections of both stages; `file` is a small picture of it, `changed` how far they differ."""

    image: str
    file: str
    before: list[Box]
    after: list[Box]
    changed: float


class DetectionResult(Message):
    """All images, those whose detections changed most first; those that could not be read are in `notes`."""

    images: list[DetectedImage]
    confidence: float
    cached: bool = False
    notes: list[str] = []


class PruneParameters(JobParameters):
    """What a pruning job is: a checkpoint, a settled plan, and the file to write; no `data`, no images."""

    data: str = ""
    plan: dict[str, Any]
    output: str
    force: bool = False


class PruneResult(WriteResult):
    """The written file, the proof of the very model in it, and its size beside the checkpoint's (parameters, flops, bytes)."""

    proof: dict[str, Any]
    before: dict[str, int]
    after: dict[str, int]


class CompressParameters(JobParameters):
    """What a compression is: the checkpoint, the plan so far, what shall be left, and the folder that everything is written to.

    Plans are made and refitted on `images` of the training split, without labels. `max_drop`: how much of the original's main metric may
    be lost; the targets are then approached in points of `step` hundredths, and the last good one is taken. `epochs`: of fine-tuning, with
    the original as teacher where `taught`; 0: none. `validated`: images of the validation split, None: all. `format`: of the export, empty:
    none. `bench`: samples of each model's latency, 0: none. `report`: how the report's file is called, empty: none. `scanned`: images of
    the validation split for a scan of `ratios` that the plans go by, 0: none. `refit_images`: None: as many as plans are made on. Without
    `measured` nothing is validated. `storage.recipe` has the same as stages.
    """

    images: int | None = 64
    plan: dict[str, Any] | None = None
    targets: list[str]
    max_drop: float | None = None
    step: int = 10
    criterion: str = "obs"
    round_to: int = 1
    floor: float = 0.25
    protect: list[str] = []
    fast: bool = False
    epochs: int = 0
    lr0: float | None = None
    taught: bool = True
    batch: int = 16
    validated: int | None = None
    format: str = "onnx"
    bench: int = 50
    report: str = "report.html"
    folder: str
    force: bool = False
    scanned: int = 0
    ratios: list[float] = [0.1, 0.3, 0.5]
    refit: bool = True
    refit_images: int | None = None
    patience: int = 0
    measured: bool = True
    redact: bool = False


class CompressStage(StageFigures):
    """One stage that is done, with the file that it wrote; `kept`: it was done by an earlier run."""

    output: str | None = None
    seconds: float = 0.0
    kept: bool = False


class CompressResult(Message):
    """All stages, the file that came out of them (None: no point of the way was good enough, and `stopped` says why)."""

    stages: list[CompressStage]
    output: str | None
    original: dict[str, float]
    metrics: dict[str, float]
    flops: dict[str, int] = {}
    parameters: dict[str, int] = {}
    latency: float | None = None
    exported: str | None = None
    report: str | None = None
    stopped: str = ""
    seconds: float
    notes: list[str] = []
