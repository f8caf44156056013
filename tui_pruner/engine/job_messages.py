"""Parameters and results of jobs: validation, calibration, report, pictures, export, detections."""

from __future__ import annotations

from typing import Any

from tui_pruner.engine.messages import Message
from tui_pruner.storage.model_file import ModuleNames


class JobParameters(Message):
    """Parameters of every job on a checkpoint and a data set: the first `images` of a seeded order of its validation images.

    `module`: where the checkpoint is any module. `checkpoint` is then the name of what builds it, or a folder that was written from it.
    """

    checkpoint: str
    sha256: str
    data: str
    images: int | None = 64
    imgsz: int
    device: str = ""
    classes: int | None = None
    seed: int = 0
    module: ModuleNames | None = None


OF_IMAGES = ("checkpoint", "data", "images", "imgsz", "seed", "module", "classes")


def told_of(parameters: Message) -> dict[str, Any]:
    """The parameters of a job without the empty ones and the plan, those of a module by its names."""
    fields = parameters.model_dump(exclude={"plan"}, exclude_none=True)
    if names := fields.get("module"):
        start = {"checkpoint": fields["checkpoint"]} if fields.get("checkpoint", names["build"]) != names["build"] else {}
        fields = {**names, **start, **{name: value for name, value in fields.items() if name not in OF_IMAGES}}
    return {name: value for name, value in fields.items() if value not in ("", None)}


class ValidationParameters(JobParameters):
    """Parameters of a validation: a checkpoint, a plan and how to measure. Results are cached by these.

    `masked`: measure the masked twin in place of the pruned model.
    """

    plan: dict[str, Any] | None = None
    masked: bool = False


class CalibrationParameters(JobParameters):
    """Parameters of a calibration: a checkpoint as it was trained, and the images that its channels are scored on.

    `criteria`: those that read gradients of the loss on labelled validation images, or `obs`, which reads training images without labels.
    `kept_classes`: the numbers of the classes that stay, where others are to be cut.
    """

    criteria: list[str] = ["taylor", "hessian"]
    kept_classes: list[int] = []


class JobProgress(Message):
    """The progress of a job: `done` of `total`, and by Ultralytics' names the metrics so far, where the job computes them.

    `found`: results since the last report, as plain data, for jobs whose partial results are useful.
    `stage`: the current stage of its recipe; `figure`: the result of that stage, once it is done.
    `begun`: false while input is read and may still be refused.
    """

    done: int
    total: int
    doing: str = ""
    metrics: dict[str, float] = {}
    found: dict[str, Any] | None = None
    stage: str = ""
    figure: str = ""
    begun: bool = True


class CalibrationResult(Message):
    """The file with the scores, for the engine's `calibrate`; the number of images; and whether the result was cached."""

    scores: str
    images: int
    seconds: float
    cached: bool = False
    notes: list[str] = []


class ValidationResult(Message):
    """Metrics by Ultralytics' names ("metrics/mAP50-95(B)"), the number of images, and whether the result was cached.

    `interval`: 95 % interval of the main metric over images of the same kind (bootstrap); None where it is not known.
    `resamples`: the main metric on each draw of the bootstrap; the draws are the same for every model on these images.
    """

    metrics: dict[str, float]
    interval: tuple[float, float] | None = None
    resamples: list[float] = []
    images: int
    seconds: float
    cached: bool = False
    notes: list[str] = []


class StageFigures(Message):
    """One stage on the way from the original to the result, and the model after it.

    `metrics` by Ultralytics' names, empty where nothing was validated; `details` has further results, a line each; `curve` has the metrics
    of every epoch of a training, `interval` is the 95 % interval of the main metric, `latency` the share of the original's latency.
    """

    name: str
    metrics: dict[str, float] = {}
    flops: int = 0
    parameters: int = 0
    details: list[str] = []
    curve: list[dict[str, float]] = []
    interval: tuple[float, float] | None = None
    latency: float | None = None


class PicturedFile(Message):
    """The file whose model a report's pictures show, with its SHA-256 and the name of the stage that wrote it."""

    path: str
    sha256: str
    stage: str


class ReportParameters(JobParameters):
    """Parameters of a report: a plan with its channels, the name of its file, the file to write, and the number of pictures (0 without
    `data`).

    `stages`: those before and after the cut, if a compression made them; `redact`: with neutral names; `recovered`: the plan's model
    after a refit or a training, which is measured too; `pictured`: the file of such a model that only the pictures show, since `stages`
    has its figures.
    """

    data: str = ""
    plan: dict[str, Any]
    plan_file: str
    output: str
    pictures: int = 6
    stages: list[StageFigures] = []
    redact: bool = False
    recovered: str | None = None
    pictured: PicturedFile | None = None


class ReportResult(Message):
    """The written report: whether all steps are proved, and the number of steps."""

    output: str
    bytes: int
    proved: bool
    steps: int
    notes: list[str] = []


class PictureParameters(JobParameters):
    """Parameters of a picture job: the first `pictures` of a seeded order of the validation images, drawn into `folder`.

    `redact`: with neutral names of the classes; `recovered`: a file that is drawn after the plan, instead of the cut model;
    `recovered_sha256`: that of this file when the job was created, if it is known.
    """

    plan: dict[str, Any] | None = None
    recovered: str | None = None
    recovered_sha256: str = ""
    pictures: int = 6
    folder: str
    redact: bool = False


class Picture(Message):
    """One image with the model's detections with and without the plan: files in the job's folder, detections by class name."""

    image: str
    before_file: str
    after_file: str
    before: dict[str, int]
    after: dict[str, int]


class PictureResult(Message):
    """The drawn images; `notes` names those that could not be read."""

    pictures: list[Picture]
    confidence: float
    notes: list[str] = []


class ExportParameters(JobParameters):
    """Parameters of an export: a checkpoint, a format of Ultralytics, and the images to compare on; random images without `data`.

    `output`: if None, beside the checkpoint under its name.
    """

    data: str = ""
    images: int | None = 8
    format: str = "onnx"
    output: str | None = None
    force: bool = False


class ExportResult(Message):
    """The exported file or folder, and how far its outputs are from the model's; None where it was not written or not compared."""

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
    """A stage for a job: a file with a plan on it; `sha256` is empty where the file was not read yet."""

    checkpoint: str
    sha256: str = ""
    classes: int | None = None
    plan: dict[str, Any] | None = None


class DetectionParameters(JobParameters):
    """Parameters of a detection job: two stages to compare, the reference first. Detections are cached by stage and images."""

    stages: tuple[StageFile, StageFile]


class Box(Message):
    """One detection: the left, upper, right and lower side as shares of the image, the class, and the confidence.

    `matched`: the other stage has a detection of the same class in nearly the same place.
    """

    sides: tuple[float, float, float, float]
    label: str
    score: float
    matched: bool = False


class DetectedImage(Message):
    """One image with the detections of both stages; `file` is a small picture of it, `changed` how far the detections differ."""

    image: str
    file: str
    before: list[Box]
    after: list[Box]
    changed: float


class DetectionResult(Message):
    """All images, those with the largest changes first; `notes` names those that could not be read."""

    images: list[DetectedImage]
    confidence: float
    cached: bool = False
    notes: list[str] = []
