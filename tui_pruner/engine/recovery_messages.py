"""Parameters and results of the jobs that write a model: pruning, refit, recalibration, fine-tuning, and compression, which runs all."""

from __future__ import annotations

from typing import Any

from tui_pruner.engine.job_messages import JobParameters, StageFigures
from tui_pruner.engine.messages import Message, WriteResult


class RecalibrationParameters(JobParameters):
    """Parameters of a recalibration: a pruned file, the unlabelled images for its BatchNorm statistics, and the file to write."""

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
    """Parameters of a refit: a pruned file, the original that it was cut from, the unlabelled images, and the file to write.

    `original`: if None, the file of the recorded name beside the pruned file.
    """

    images: int | None = 64
    original: str | None = None
    batch: int = 16
    output: str
    force: bool = False


class LayerFit(Message):
    """One layer's relative squared error on held-out images before and after its refit; equal where the fit was discarded."""

    layer: str
    error_before: float
    error_after: float


class ReconstructionResult(WriteResult):
    """The written file: the number of images, each layer's fit, and which candidate was kept.

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
    """Parameters of a fine-tuning: a pruned file, how to train it, and the file to write.

    `teacher`: a checkpoint for distillation, with the weight `teacher_weight` in the loss; `lr0`: Ultralytics' own choice where None;
    `project`: a folder where the run is kept, by default in the cache until the file is written; `resume`: continue an interrupted
    run of the same parameters; `sparsity`: the strength of a penalty on normalisation scales, with which an uncut file may be
    trained too; `patience`: stop after this many epochs without a better one, 0: never; `freeze`: this many first blocks are not trained.
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
    """The written file: the best of this many epochs, its metrics by Ultralytics' names, and the metrics of every epoch.

    `best_epoch` is 0, with the weights of the file before training, where no epoch was better; `metrics_before` has that file's metrics.
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


class PruneParameters(JobParameters):
    """Parameters of a pruning: a checkpoint, a plan with its channels, and the file to write; no `data`, no images."""

    data: str = ""
    plan: dict[str, Any]
    output: str
    force: bool = False


class PruneResult(WriteResult):
    """The written file, the proof of the model in it, and its size beside the checkpoint's (parameters, flops, bytes)."""

    proof: dict[str, Any]
    before: dict[str, int]
    after: dict[str, int]


class CompressParameters(JobParameters):
    """Parameters of a compression: the checkpoint, the plan so far, the targets, and the folder that everything is written to.

    Plans are made and refitted on `images` of the training split, without labels. `max_drop`: how much of the original's main metric may
    be lost; the targets are then approached in points of `step` hundredths, and the last good point is taken. `epochs`: of fine-tuning with
    the original as teacher where `taught`; 0: none. `validated`: images of the validation split, None: all. `format`: of the export, empty:
    none. `bench`: samples of each model's latency, 0: none. `report`: the name of the report's file, empty: none. `scanned`: images of
    the validation split for a scan of `ratios` that the plans use, 0: none. `refit_images`: None: as many as for plans. Without `measured`
    nothing is validated. `storage.recipe` has the same as stages.
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
    """One finished stage, with the file that it wrote; `kept`: an earlier run did it."""

    output: str | None = None
    seconds: float = 0.0
    kept: bool = False


class CompressResult(Message):
    """All stages and the final file (None: no point met the limit, and `stopped` says why)."""

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
