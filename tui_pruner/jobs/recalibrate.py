"""Recalibration: a pruned file's normalisation statistics measured again on unlabelled images, and written as a file of its own."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from tui_pruner.engine.job_messages import JobProgress, RecalibrationParameters, RecalibrationResult
from tui_pruner.errors import DataError, RequestError
from tui_pruner.jobs.dataset import DataSet, without_labels
from tui_pruner.jobs.devices import choose_device
from tui_pruner.jobs.image_batches import image_batches
from tui_pruner.jobs.stock import OnProgress
from tui_pruner.jobs.validate import opened, skipped
from tui_pruner.jobs.writing import write_stage

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor, nn

    from tui_pruner.core.recalibration import Recalibrated

ONE_VALUE = "Expected more than 1 value per channel"


def run_recalibration(parameters: RecalibrationParameters, on_progress: OnProgress) -> RecalibrationResult:
    """The whole job: the file's model with new statistics and the same weights, verified and written.

    Raises:
        DataError: the data cannot be used.
        CheckpointError: the file cannot be used, was not pruned, or is no longer the one that the job was made for.
        RequestError: no such device, or a model without such statistics.
        OutputError: the file cannot be written.
        VerificationError: the new file failed its checks.
    """
    from tui_pruner.core.checkpoint import check_output, require_writable
    from tui_pruner.core.checkpoint.stages import next_stage

    started = time.perf_counter()
    check_output(parameters.output, parameters.checkpoint, parameters.force)
    data = unlabelled(parameters)
    on_progress(JobProgress(done=0, total=len(data.images), doing="reading the checkpoint"))
    checkpoint = opened(parameters)
    require_writable(checkpoint)
    next_stage(checkpoint, "recalibrate")
    found = recalibrated(checkpoint.model, data, parameters, on_progress)
    notes = [] if found.images == len(data.images) else [skipped(len(data.images) - found.images, data)]
    provenance = next_stage(checkpoint, "recalibrate", images=found.images, layers=found.layers)
    written = write_stage(found.model, checkpoint, parameters, provenance, on_progress)
    return RecalibrationResult(
        **written.model_dump(), images=found.images, layers=found.layers, seconds=time.perf_counter() - started, notes=notes
    )


def unlabelled(parameters: RecalibrationParameters) -> DataSet:
    """The first images of a seeded order of the training split; of the validation split where there is no other.

    Raises:
        DataError: the data has no images.
    """
    return without_labels(parameters.data).subset(parameters.images, parameters.seed)


def recalibrated(model: nn.Module, data: DataSet, parameters: RecalibrationParameters, on_progress: OnProgress) -> Recalibrated:
    """A copy of a model at hand with statistics from these images.

    Raises:
        DataError: none of the images can be used.
        RequestError: no such device, or a model without such statistics.
    """
    from tui_pruner.core.recalibration import recalibrate, statistics_of

    if not statistics_of(model):
        raise RequestError(f"{parameters.checkpoint} has no batch normalisation: there is nothing to recalibrate")
    device = choose_device(parameters.device)
    total = len(data.images)

    def counted() -> Iterator[Tensor]:
        done = 0
        for batch in image_batches(model, data.images, parameters.imgsz, device):
            done += len(batch)
            yield batch
            on_progress(JobProgress(done=done, total=total, doing="recalibrating"))

    try:
        found = recalibrate(model, counted(), device)
    except ValueError as error:
        if ONE_VALUE not in str(error):
            raise
        raise RequestError(f"{total} images of side {parameters.imgsz} are too few: give more --images or a larger --imgsz") from error
    if not found.images:
        raise DataError(f"{parameters.data}: none of the {total} images can be read")
    return found
