"""What jobs are told and what they answer: validation, calibration, report, pictures, export, detections."""

from __future__ import annotations

from typing import Any

from tui_pruner.engine.messages import Message


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
