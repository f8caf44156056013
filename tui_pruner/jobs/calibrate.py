"""Calibration: cached scores of a checkpoint's channels from images: by gradients of its loss, or by the error that no refit repairs."""

from __future__ import annotations

import copy
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tui_pruner.domain.errors import DataError, JobError
from tui_pruner.engine.job_messages import CalibrationParameters, CalibrationResult, JobParameters, JobProgress
from tui_pruner.jobs import cache
from tui_pruner.jobs.data.dataset import DataSet, read_data, renumbered, without_labels
from tui_pruner.jobs.data.linked_copy import number_of
from tui_pruner.jobs.data.pictures import StoredImages
from tui_pruner.jobs.tools import OnProgress, choose_device
from tui_pruner.jobs.validate import fitting_side, opened, prepared, skipped
from tui_pruner.storage.atomic import replace_file

if TYPE_CHECKING:
    from torch import nn

    from tui_pruner.core.model.analysis import Analysis
    from tui_pruner.core.pruning.importance import Calibration
    from tui_pruner.core.tracing.coupling_map import CouplingMap

REPORT_EVERY = 4


def run_calibration(parameters: CalibrationParameters, on_progress: OnProgress) -> CalibrationResult:
    """Run the job: read the cached scores, or score the checkpoint's channels and store the scores.

    Raises:
        DataError: the data cannot be used, or the loss on it is NaN.
        CheckpointError: the checkpoint cannot be used, or changed since the job was created.
        RequestError: no such device, or a model class whose data cannot be read here.
        JobError: the scores cannot be written.
    """
    from tui_pruner.core.model.analysis import trace_checkpoint
    from tui_pruner.core.pruning.proved_cut import removal_of_all_but, with_some_classes

    started = time.perf_counter()
    data, file = _subset(parameters), place_of(parameters)
    on_progress(JobProgress(done=0, total=len(data.images), doing="reading the checkpoint", begun=False))
    checkpoint = opened(parameters)
    coupling = trace_checkpoint(checkpoint)[1]
    checkpoint = with_some_classes(checkpoint, coupling, removal_of_all_but(coupling, parameters.kept_classes))
    found = known = cached_scores(file, parameters.sha256, coupling, parameters.criteria)
    if found is None:
        score = calibrate_without_labels if reads_no_labels(parameters) else calibrate
        found = score(checkpoint.model, coupling, data, parameters, on_progress)
        _keep(file, found)
    seconds = time.perf_counter() - started
    return CalibrationResult(scores=str(file), images=found.images, seconds=seconds, cached=known is not None, notes=list(found.notes))


def rank_by(
    analysis: Analysis,
    criterion: str,
    job: JobParameters,
    images: int | None,
    on_progress: OnProgress,
    kept_classes: Sequence[int] = (),
) -> str:
    """Load or compute the scores that a criterion needs, from this many images; return their file, "" where it needs none.

    `kept_classes`: the numbers of the classes that stay, where others are to be cut.

    Raises:
        DataError: the data cannot be used.
        JobError: the scores cannot be written.
    """
    from tui_pruner.core.pruning.importance import calibration_for
    from tui_pruner.domain.criteria import NEED_DATA

    if criterion not in NEED_DATA:
        return ""
    fields = job.model_dump(include=set(JobParameters.model_fields))
    wanted = CalibrationParameters(**{**fields, "images": images}, criteria=criteria_with(criterion), kept_classes=list(kept_classes))
    scores = run_calibration(wanted, on_progress).scores
    analysis.ranking.calibrate(calibration_for(scores, job.sha256, analysis.coupling))
    return scores


def place_of(parameters: CalibrationParameters) -> Path:
    """The file of a calibration's scores, whether or not it exists.

    Raises:
        DataError: the data cannot be used.
    """
    return cache.calibration_file(parameters, _subset(parameters).digest())


def reads_no_labels(parameters: CalibrationParameters) -> bool:
    """Whether the criteria need images without labels only."""
    from tui_pruner.domain.criteria import FROM_IMAGES

    return set(parameters.criteria) <= set(FROM_IMAGES)


def criteria_with(criterion: str) -> list[str]:
    """The criteria that are scored together with this one: those that read the same data."""
    from tui_pruner.core.pruning.importance import FROM_LABELS
    from tui_pruner.domain.criteria import FROM_IMAGES

    return list(FROM_IMAGES if criterion in FROM_IMAGES else FROM_LABELS)


def cached_scores(file: Path, sha256: str, coupling: CouplingMap, criteria: Sequence[str]) -> Calibration | None:
    """The scores of an earlier job; None when the file does not exist, is damaged or does not fit this model."""
    from tui_pruner.core.pruning.importance import calibration_for

    try:
        return calibration_for(file, sha256, coupling, criteria)
    except DataError:
        return None


def calibrate(
    model: nn.Module, coupling: CouplingMap, data: DataSet, parameters: CalibrationParameters, on_progress: OnProgress
) -> Calibration:
    """Score the channels of a loaded model, one image at a time; the model is unchanged.

    Raises:
        DataError: the data is not for this model, or the loss on it is NaN.
        RequestError: no such device, or a model class whose data cannot be read here.
    """
    from tui_pruner.core.pruning.importance import Calibration, calibrated_axes, gradients
    from tui_pruner.frameworks.ultralytics.validation import differentiable

    data = renumbered(data, model)
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


def calibrate_without_labels(
    model: nn.Module, coupling: CouplingMap, data: DataSet, parameters: CalibrationParameters, on_progress: OnProgress
) -> Calibration:
    """Score the channels of a loaded model by the error that no refit of their readers repairs; the model is unchanged.

    Raises:
        DataError: none of the images can be read.
        RequestError: no such device, or a model class whose images cannot be read here.
    """
    from tui_pruner.core.pruning.importance import Calibration, Ranking, by_axis
    from tui_pruner.core.recovery.damage import WeightReaders, obs_scores

    device = choose_device(parameters.device)
    side, notes = fitting_side(parameters.imgsz, model)
    images = StoredImages(model, data, side)
    if not images.total:
        raise DataError(f"{parameters.data}: none of the {len(data.images)} images can be read")
    if images.total < len(data.images):
        notes.append(skipped(len(data.images) - images.total, data))
    on_progress(JobProgress(done=0, total=0, doing="reading the layers' inputs"))
    readers, ranking = WeightReaders(copy.deepcopy(model).to(device), images), Ranking(model)
    try:
        otherwise = {group.number: ranking.scores(group) for group in coupling.groups if group.prunable}
        axes = by_axis("obs", coupling, obs_scores(coupling, readers, otherwise))
    finally:
        readers.close()
    return Calibration(parameters.sha256, images.total, tuple(notes), axes)


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
    if reads_no_labels(parameters):
        return without_labels(parameters.data).subset(parameters.images, parameters.seed)
    return read_data(parameters.data).subset(parameters.images, parameters.seed)


def _keep(file: Path, found: Calibration) -> None:
    try:
        replace_file(file, found.to_bytes())
    except OSError as error:
        raise JobError(
            f"the calibrated scores cannot be kept in {file.parent} ({error.strerror}): make room or set XDG_CACHE_HOME"
        ) from error
