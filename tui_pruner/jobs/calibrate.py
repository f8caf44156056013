"""Calibration: gradients of a checkpoint's own loss on a seeded subset of the validation images, as scores of its channels, cached."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tui_pruner.engine.job_messages import CalibrationParameters, CalibrationResult, JobProgress
from tui_pruner.errors import DataError, JobError
from tui_pruner.jobs import cache
from tui_pruner.jobs.dataset import DataSet, read_data
from tui_pruner.jobs.devices import choose_device
from tui_pruner.jobs.stock import OnProgress
from tui_pruner.jobs.validate import opened, prepared, skipped
from tui_pruner.jobs.view import number_of
from tui_pruner.whole_file import replace_file

if TYPE_CHECKING:
    from torch import nn

    from tui_pruner.core.calibrated import Calibration
    from tui_pruner.core.groups import CouplingMap

REPORT_EVERY = 4


def run_calibration(parameters: CalibrationParameters, on_progress: OnProgress) -> CalibrationResult:
    """The whole job: the cached scores, or the checkpoint's channels scored and the scores kept.

    Raises:
        DataError: the data cannot be used, or the loss on it is no number.
        CheckpointError: the checkpoint cannot be used, or is no longer the one that the job was made for.
        RequestError: no such device, or a model class whose data cannot be read here.
        JobError: the scores cannot be written.
    """
    from tui_pruner.core.analysis import trace_checkpoint

    started = time.perf_counter()
    data, file = _subset(parameters), place_of(parameters)
    on_progress(JobProgress(done=0, total=len(data.images), doing="reading the checkpoint"))
    checkpoint = opened(parameters)
    coupling = trace_checkpoint(checkpoint)[1]
    found = known = cached_scores(file, parameters.sha256, coupling)
    if found is None:
        found = calibrate(checkpoint.model, coupling, data, parameters, on_progress)
        _keep(file, found)
    seconds = time.perf_counter() - started
    return CalibrationResult(scores=str(file), images=found.images, seconds=seconds, cached=known is not None, notes=list(found.notes))


def place_of(parameters: CalibrationParameters) -> Path:
    """The file that a calibration's scores are kept in, whether or not it is there.

    Raises:
        DataError: the data cannot be used.
    """
    return cache.calibration_file(parameters, _subset(parameters).digest())


def cached_scores(file: Path, sha256: str, coupling: CouplingMap) -> Calibration | None:
    """What an earlier job found; None when there is no such file, or it is damaged or no good for this model."""
    from tui_pruner.core.calibrated import calibration_for
    from tui_pruner.core.importance import NEED_DATA

    try:
        return calibration_for(file, sha256, coupling, NEED_DATA)
    except DataError:
        return None


def calibrate(
    model: nn.Module, coupling: CouplingMap, data: DataSet, parameters: CalibrationParameters, on_progress: OnProgress
) -> Calibration:
    """Score the channels of a model that is at hand, one image at a time; the model stays as it is.

    Raises:
        DataError: the data is not for this model, or the loss on it is no number.
        RequestError: no such device, or a model class whose data cannot be read here.
    """
    from tui_pruner.core.calibrated import Calibration
    from tui_pruner.core.calibration import calibrated_axes, differentiable, gradients

    total = len(data.images)

    def report(done: int) -> None:
        if done % REPORT_EVERY == 0 or done == total:
            on_progress(JobProgress(done=done, total=total, doing="calibrating"))

    with prepared(model, data, parameters.imgsz, parameters.device) as (validator, notes):
        twin = differentiable(model, choose_device(parameters.device))
        report(0)
        found = gradients(twin, batches(validator, twin, data), report)
    if found.images < total:
        notes.append(skipped(total - found.images, data))
    return Calibration(parameters.sha256, found.images, tuple(notes), calibrated_axes(twin, coupling, found))


def batches(validator: Any, model: nn.Module, data: DataSet) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every image with its labels as a batch of one, on the model's device, as Ultralytics' validator reads it; and its path."""
    from ultralytics.data.utils import check_cls_dataset, check_det_dataset

    classify = validator.args.task == "classify"
    validator.data = check_cls_dataset(validator.args.data, split="val") if classify else check_det_dataset(validator.args.data)
    validator.device = next(model.parameters()).device
    validator.stride = int(max(model.stride))  # type: ignore[arg-type]
    validator.names = model.names
    validator.training = False
    loader = validator.get_dataloader(validator.data["val"], 1)  # its order is random for classification
    files = [sample[0] for sample in loader.dataset.samples] if classify else loader.dataset.im_files
    for place, file in enumerate(files):
        yield str(data.images[number_of(file)]), validator.preprocess(loader.collate_fn([loader.dataset[place]]))


def _subset(parameters: CalibrationParameters) -> DataSet:
    return read_data(parameters.data).subset(parameters.images, parameters.seed)


def _keep(file: Path, found: Calibration) -> None:
    try:
        replace_file(file, found.to_bytes())
    except OSError as error:
        raise JobError(
            f"the calibrated scores cannot be kept in {file.parent} ({error.strerror}): make room or set XDG_CACHE_HOME"
        ) from error
