"""Validation: Ultralytics' own validator on a seeded subset of the user's images, with running metrics and their interval."""

from __future__ import annotations

import contextlib
import copy
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tui_pruner.domain.errors import CheckpointError, DataError
from tui_pruner.domain.results import percentiles
from tui_pruner.engine.job_messages import JobParameters, JobProgress, ValidationParameters, ValidationResult
from tui_pruner.jobs import cache
from tui_pruner.jobs.data.dataset import DataSet, check_fits, numbering_in_words, read_data, renumbered
from tui_pruner.jobs.data.linked_copy import labels_in_words, labels_of, meaning_of_labels, private_view
from tui_pruner.jobs.intervals import resampled
from tui_pruner.jobs.tools import OnProgress, StockTool, choose_device, tool_for

if TYPE_CHECKING:
    from torch import nn

    from tui_pruner.core.model.checkpoint import Checkpoint


SHARE = 0.05


class RunningMetrics:
    """Running metrics: the result if the validation ended now, computed while that takes a small share of the time.

    The cost grows with the images seen, so in a long validation most batches repeat what was computed last.
    """

    def __init__(self, validator: Any) -> None:
        self._validator = validator
        self._began = time.perf_counter()
        self._spent = self._last = 0.0
        self._metrics: dict[str, float] = {}

    def metrics(self) -> dict[str, float]:
        """The metrics by Ultralytics' names; the validation continues undisturbed."""
        began = time.perf_counter()
        if self._spent + self._last <= SHARE * (began - self._began):
            self._metrics = metrics_now(self._validator)
            self._last = time.perf_counter() - began
            self._spent += self._last
        return self._metrics


def metrics_now(validator: Any) -> dict[str, float]:
    """The final metrics of a copy that has seen the same images: computing them empties what a validator has collected."""
    twin = copy.copy(validator)
    twin.metrics = copy.deepcopy(validator.metrics)
    return {name: float(value) for name, value in twin.get_stats().items()}


BATCH = 16
NO_IMAGE_LEFT = ("No valid images found", "No images from the model's classes found")


VALIDATORS = {
    "DetectionModel": StockTool("detect", "ultralytics.models.yolo.detect", "DetectionValidator"),
    "SegmentationModel": StockTool("segment", "ultralytics.models.yolo.segment", "SegmentationValidator"),
    "PoseModel": StockTool("pose", "ultralytics.models.yolo.pose", "PoseValidator"),
    "ClassificationModel": StockTool("classify", "ultralytics.models.yolo.classify", "ClassificationValidator"),
    "OBBModel": StockTool("obb", "ultralytics.models.yolo.obb", "OBBValidator"),
    "RTDETRDetectionModel": StockTool("detect", "ultralytics.models.rtdetr.val", "RTDETRValidator"),
}


def run_validation(parameters: ValidationParameters, on_progress: OnProgress) -> ValidationResult:
    """Run the job: return the cached result, or validate the checkpoint under the plan and store the result.

    Raises:
        DataError: the data cannot be used.
        CheckpointError: the checkpoint cannot be used, or changed since the job was created.
    """
    data = read_data(parameters.data).subset(parameters.images, parameters.seed)
    key = cache.key_of(parameters, data.digest())
    known = cache.load(key)
    if known is not None:
        return known
    on_progress(JobProgress(done=0, total=len(data.images), doing="reading the checkpoint", begun=False))
    result = measure(_planned_model(parameters), data, parameters, on_progress)
    cache.store(key, result)
    return result


def validate(model: nn.Module, parameters: ValidationParameters, on_progress: OnProgress) -> ValidationResult:
    """Validate a loaded model by these parameters, whose checkpoint and plan are ignored; the model is unchanged."""
    data = read_data(parameters.data).subset(parameters.images, parameters.seed)
    return measure(model, data, parameters, on_progress)


def measure(model: nn.Module, data: DataSet, parameters: ValidationParameters, on_progress: OnProgress) -> ValidationResult:
    """Run the validator of the model's class over all images of `data`.

    Raises:
        DataError: the data is not for this model.
        RequestError: no such device, or a model class that has no validator here.
    """
    started = time.perf_counter()
    data = renumbered(data, model)
    on_progress(JobProgress(done=0, total=len(data.images), doing="preparing the validator", begun=False))
    with prepared(model, data, parameters.imgsz, parameters.device) as (validator, notes):
        inside = _report_to(on_progress, validator, len(data.images))
        resamples = _resamples(validator)
        # Ultralytics folds BatchNorm into the convolutions of the model that it validates.
        validated = copy.deepcopy(model)
        follow_blocks(validated, inside)
        validator(model=validated)
    seen = len(validator.dataloader.dataset)
    if seen < len(data.images):
        notes.append(skipped(len(data.images) - seen, data))
    metrics = {name: float(value) for name, value in validator.metrics.results_dict.items()}
    values = [round(value, 6) for value in (resamples[-1] if resamples else [])]
    interval = percentiles(values) if values else None
    seconds = time.perf_counter() - started
    return ValidationResult(metrics=metrics, interval=interval, resamples=values, images=seen, seconds=seconds, notes=notes)


@contextlib.contextmanager
def prepared(model: nn.Module, data: DataSet, imgsz: int, device: str) -> Iterator[tuple[Any, list[str]]]:
    """Ultralytics' validator for the model's class, ready to read a private view of the data, and notes on what was adjusted.

    Raises:
        DataError: the data is not for this model, or none of its images can be used.
        RequestError: no such device, or a model class that has no validator here.
    """
    kind, labels = _validator_of(model), labels_of(model)
    data = renumbered(data, model)
    check_fits(data, len(model.names), kind.task, *meaning_of_labels(model))  # type: ignore[arg-type]
    side, notes = fitting_side(imgsz, model)
    notes += labels_in_words(labels)
    notes += numbering_in_words(data)
    with private_view(data) as view, tempfile.TemporaryDirectory() as run, without_fonts(), _usable_images(data):
        settings = {**_settings(view, kind.task, side, choose_device(device)), **labels}
        yield kind.load()(save_dir=Path(run), args=settings), notes


def skipped(count: int, data: DataSet) -> str:
    """The note on images that Ultralytics left out."""
    return f"{count} of {len(data.images)} images were skipped as damaged or wrongly labelled"


@contextlib.contextmanager
def _usable_images(data: DataSet) -> Iterator[None]:
    try:
        yield
    except (RuntimeError, FileNotFoundError) as error:
        if not any(words in str(error) for words in NO_IMAGE_LEFT):
            raise
        count = len(data.images)
        raise DataError(f"{data.yaml_file}: none of the {count} images can be used: all are damaged or wrongly labelled") from error


def opened(parameters: JobParameters) -> Checkpoint:
    """The checkpoint of a job.

    Raises:
        CheckpointError: it cannot be used, or changed since the job was created.
    """
    from tui_pruner.frameworks.ultralytics import open_model

    checkpoint = open_model(parameters.checkpoint, parameters.classes)
    if checkpoint.sha256 != parameters.sha256:
        raise CheckpointError(f"{parameters.checkpoint} changed on disk since it was opened: open it again")
    return checkpoint


def _planned_model(parameters: ValidationParameters) -> nn.Module:
    checkpoint = opened(parameters)
    if not parameters.plan:
        return checkpoint.model
    from tui_pruner.core.pruning.proved_cut import apply_plan

    return apply_plan(checkpoint, parameters.plan, parameters.masked)


def _validator_of(model: nn.Module) -> StockTool:
    return tool_for(model, VALIDATORS, "cannot be validated here")


def fitting_side(imgsz: int, model: nn.Module) -> tuple[int, list[str]]:
    """The image side rounded up to the model's stride, which its Concat layers need, and a note if it was rounded."""
    from tui_pruner.core.model.layers import legal_side, stride_of

    stride = stride_of(model)
    side = legal_side(imgsz, stride)
    return side, [] if side == imgsz else [f"image side {imgsz} rounded up to {side}, a multiple of the stride {stride}"]


def _settings(view: Path, task: str, imgsz: int, device: str) -> dict[str, Any]:
    """Ultralytics' own defaults of `val`, without plots, files and worker processes."""
    return {
        "mode": "val",
        "task": task,
        "data": str(view),
        "imgsz": imgsz,
        "batch": BATCH,
        "device": device,
        "rect": True,
        "workers": 0,
        "plots": False,
        "verbose": False,
    }


REPORT_SECONDS = 0.25
"""Seconds between two reports within a batch."""


def follow_blocks(model: nn.Module, tell: Callable[[float], None]) -> None:
    """Report after each block which share of a forward is done."""
    blocks = list(getattr(model, "model", None) or ())
    for number, block in enumerate(blocks, start=1):
        block.register_forward_hook(partial(_told_after, tell, number / len(blocks)))


def _told_after(tell: Callable[[float], None], share: float, *call: object) -> None:
    """A forward hook; returns None, so the block's output stays."""
    tell(share)


def _report_to(on_progress: OnProgress, validator: Any, images: int) -> Callable[[float], None]:
    """Report progress after each batch; return a function that reports within one."""
    so_far = RunningMetrics(validator)
    batches, told = -1, 0.0
    metrics: dict[str, float] = {}

    def report(done: float) -> None:
        nonlocal told
        told = time.perf_counter()
        on_progress(JobProgress(done=min(int(done), images), total=images, doing="validating", metrics=metrics))

    def begun(running: Any) -> None:
        nonlocal batches
        batches = 0
        report(0)

    def ended(running: Any) -> None:
        nonlocal batches, metrics
        batches, metrics = running.batch_i + 1, so_far.metrics()
        report(batches * BATCH)

    def inside(share: float) -> None:
        size = min(BATCH, images - batches * BATCH)
        if batches >= 0 and size > 0 and time.perf_counter() - told >= REPORT_SECONDS:  # forwards before that are the warm-up
            report(batches * BATCH + share * size)

    validator.add_callback("on_val_start", begun)
    validator.add_callback("on_val_batch_end", ended)
    return inside


def _resamples(validator: Any) -> list[list[float]]:
    """The list that will have the main metric on resampled images, once all images are seen."""
    found: list[list[float]] = []

    def look(running: Any) -> None:
        if running.batch_i + 1 == len(running.dataloader):
            found.append(resampled(running))

    validator.add_callback("on_val_batch_end", look)
    return found


@contextlib.contextmanager
def without_fonts() -> Iterator[None]:
    """Avoid a font for plots, which Ultralytics would download whenever it reads a data yaml; nothing is plotted here."""
    from ultralytics.data import utils

    look_up = utils.check_font
    utils.check_font = lambda font="": None
    try:
        yield
    finally:
        utils.check_font = look_up
