"""Fine-tuning: a pruned file trained by Ultralytics' own trainer with its structure kept, by a teacher if asked for."""

from __future__ import annotations

import contextlib
import copy
import csv
import dataclasses
import errno
import math
import shutil
import subprocess
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tui_pruner.domain.errors import JobError, RequestError
from tui_pruner.engine.job_messages import JobParameters, JobProgress, ValidationParameters
from tui_pruner.engine.recovery_messages import FinetuneParameters, FinetuneResult
from tui_pruner.jobs.data.dataset import renumbered
from tui_pruner.jobs.data.linked_copy import (
    TrainingData,
    View,
    labels_in_words,
    labels_of,
    nominal_batch,
    read_both,
    recipe_of,
    training_view,
)
from tui_pruner.jobs.recover import write_stage
from tui_pruner.jobs.tools import OnProgress, chosen_devices
from tui_pruner.jobs.training.run import Reporter, TrainingRun, forwarded_reports, run_of, stopping_on_signals
from tui_pruner.jobs.training.trainers import ExactState, forget_others, keeping_structure, trainer_of
from tui_pruner.jobs.validate import measure, opened
from tui_pruner.storage import paths

if TYPE_CHECKING:
    from torch import nn

    from tui_pruner.core.model.checkpoint import Checkpoint


METRICS = "metrics/"
FITNESS = "fitness"
"""The figure by which Ultralytics chooses the best epoch."""


@dataclass(frozen=True)
class Trained:
    """The source's network with trained weights, its metrics by Ultralytics' names, its fitness, and the trainer's settings."""

    model: nn.Module
    metrics: dict[str, float]
    settings: dict[str, Any]
    fitness: float


def read_trained(file: Path, source: Checkpoint) -> Trained:
    """The weights of a trainer's checkpoint in a copy of the source's network, without anything else that training attached.

    Raises:
        JobError: its structure differs, or it holds NaN.
    """
    import torch

    from tui_pruner.frameworks.ultralytics.building import stock_tasks

    content, _ = stock_tasks().torch_safe_load(str(file), safe_only=True)
    found = content.get("ema") or content["model"]
    state = getattr(found, "student_model", found).float().state_dict()
    if not all(bool(torch.isfinite(tensor).all()) for tensor in state.values()):
        raise JobError(f"{file} holds weights that are no numbers: lower the learning rate (--lr0)")
    model = copy.deepcopy(source.model)
    try:
        model.load_state_dict(state)
    except RuntimeError as error:
        raise JobError(f"{file} does not hold the pruned network any more: it was not written; train again without --resume") from error
    metrics = {name: float(value) for name, value in content["train_metrics"].items() if name.startswith(METRICS)}
    return Trained(model.eval(), metrics, dict(content["train_args"]), float(content["train_metrics"][FITNESS]))


OPTIMIZER = "AdamW"
"""Ultralytics' own choice for short trainings; it must be named where the user sets a learning rate."""


def run_finetuning(parameters: FinetuneParameters, on_progress: OnProgress) -> FinetuneResult:
    """Run the job, until all epochs are trained, or SIGINT or SIGTERM asks for an early end.

    Raises:
        DataError: the data cannot be used.
        CheckpointError: the file or the teacher cannot be used, was not pruned, or changed since the job was created.
        RequestError: no such device, or a teacher for another task.
        JobError: the loss is NaN, the disk is full, or the same training is running already.
        OutputError: the file cannot be written.
        VerificationError: the new file failed its checks.
    """
    from tui_pruner.core.model.checkpoint import SPARSE, next_stage
    from tui_pruner.frameworks.ultralytics import check_output, require_writable
    from tui_pruner.frameworks.ultralytics.security.allowed_names import permitting

    started = time.perf_counter()
    check_output(parameters.output, parameters.checkpoint, parameters.force)
    data = read_both(parameters.data)
    on_progress(JobProgress(done=0, total=0, doing="reading the checkpoint", begun=False))
    checkpoint = opened(parameters)
    require_writable(checkpoint, parameters.output)
    data = TrainingData(*(renumbered(split, checkpoint.model) for split in data))
    stage = SPARSE if parameters.sparsity else "finetune"
    next_stage(checkpoint, stage)
    data.check(checkpoint.model, checkpoint.classes, trainer_of(checkpoint.model).task)
    teacher = open_teacher(parameters.teacher, checkpoint) if parameters.teacher else None
    run = run_of(parameters)
    with run.alone(), permitting(own_names_of(checkpoint, teacher)):
        start = None if parameters.sparsity else metrics_before(checkpoint, data, parameters, on_progress)
        on_progress(JobProgress(done=0, total=0, doing="preparing the training", begun=False))
        with training_view(data) as view:
            notes = train(checkpoint, teacher, view, parameters, run, on_progress)
        trained, best_epoch = best_of(start, checkpoint, read_trained(run.best, checkpoint), run.best_epoch)
        if best_epoch == 0:
            notes.append("no epoch was better than the file that was trained: its weights are kept")
        details = stage_details(parameters, teacher, trained, best_epoch)
        source = as_trained(checkpoint, details)
        written = write_stage(trained.model, source, parameters, next_stage(checkpoint, stage, **details), on_progress)
        notes += sparser(parameters.sparsity, checkpoint, trained)
        curve, stopped = curve_of(run), run.stop.exists()
        if not parameters.project:
            shutil.rmtree(run.folder, ignore_errors=True)
    return FinetuneResult(
        **written.model_dump(),
        metrics=trained.metrics,
        metrics_before=start or {},
        best_epoch=best_epoch,
        epochs=len(curve),
        curve=curve,
        stopped=stopped,
        seconds=time.perf_counter() - started,
        notes=notes,
    )


def metrics_before(checkpoint: Checkpoint, data: TrainingData, parameters: FinetuneParameters, on_progress: OnProgress) -> dict[str, float]:
    """Return the metrics of the file before training, on the images that choose the best epoch."""
    fields = parameters.model_dump(include=set(JobParameters.model_fields))

    def tell(progress: JobProgress) -> None:
        on_progress(progress.model_copy(update={"doing": f"before the training: {progress.doing}"}))

    return measure(checkpoint.model, data.validation, ValidationParameters(**fields), tell).metrics


def best_of(start: dict[str, float] | None, checkpoint: Checkpoint, trained: Trained, epoch: int) -> tuple[Trained, int]:
    """Return the best epoch, or epoch 0, the file before training, where no epoch was better."""
    if start is None or trained.fitness > start.get(FITNESS, -math.inf):
        return trained, epoch
    metrics = {name: value for name, value in start.items() if name.startswith(METRICS)}
    return dataclasses.replace(trained, model=checkpoint.model, metrics=metrics), 0


def train(
    checkpoint: Checkpoint,
    teacher: Checkpoint | None,
    view: View,
    parameters: FinetuneParameters,
    run: TrainingRun,
    on_progress: OnProgress,
) -> list[str]:
    """Train into the run's folder, or resume an interrupted training; return notes on what was adjusted."""
    from tui_pruner.core.model.layers import legal_side

    side = legal_side(parameters.imgsz, checkpoint.stride)
    notes = [] if side == parameters.imgsz else [f"image side {parameters.imgsz} rounded up to {side}, a multiple of the stride"]
    notes += labels_in_words(labels_of(checkpoint.model))
    goes_on = run.prepare(parameters.resume)
    if parameters.resume and not goes_on:
        notes.append("there was nothing to resume: trained from the first epoch")
    if run.done.exists():
        return notes
    device = devices(parameters.device)
    with explained(run, parameters), stopping_on_signals(run.stop), forwarded_reports(run.progress, on_progress):
        settings = {
            **recipe_of(checkpoint.content.get("train_args", {})),
            **settings_of(parameters, view, run),
            "imgsz": side,
            "device": device,
            **distillation_settings(teacher, parameters.teacher_weight, run),
        }
        prepared_trainer(checkpoint, settings, run, goes_on, parameters.sparsity, own_names_of(checkpoint, teacher)).train()
    forget_others(run.last.parent, epoch=-1)
    run.done.touch()
    return notes


def prepared_trainer(
    checkpoint: Checkpoint,
    settings: dict[str, Any],
    run: TrainingRun,
    goes_on: bool = False,
    sparsity: float = 0.0,
    own_names: Iterable[str] = (),
) -> Any:
    """A trainer that has the pruned network itself, or will read it from the run's last checkpoint."""
    from tui_pruner.frameworks.ultralytics.building import stock_tasks

    stock_tasks()
    kind = trainer_of(checkpoint.model)
    trainer = keeping_structure(kind.load(), sparsity, own_names)(
        overrides={"task": kind.task, **settings, **({"resume": str(run.last)} if goes_on else {})}
    )
    if not goes_on:
        trainer.model = copy.deepcopy(checkpoint.model)
    Reporter(run.progress, run.stop).attach(trainer)
    ExactState().attach(trainer)
    return trainer


def settings_of(parameters: FinetuneParameters, view: View, run: TrainingRun) -> dict[str, Any]:
    """Ultralytics' own defaults of `train`, writing only below the run's folder."""
    learning = {} if parameters.lr0 is None else {"optimizer": OPTIMIZER, "lr0": parameters.lr0, "warmup_bias_lr": 0.0}
    return {
        "mode": "train",
        "model": parameters.checkpoint,
        "data": view.data,
        "epochs": parameters.epochs,
        "batch": parameters.batch,
        "patience": parameters.patience or parameters.epochs,
        "freeze": parameters.freeze or None,
        "nbs": nominal_batch(view.images, parameters.epochs, parameters.batch),
        "seed": parameters.seed,
        "save_dir": str(run.ultralytics),
        "plots": False,
        "verbose": False,
        **learning,
    }


def devices(asked: str) -> str:
    """The device to train on, or several GPUs as Ultralytics names them: "0,1".

    Raises:
        RequestError: a device does not exist, or several need a package that is not installed.
    """
    import importlib.util

    found = chosen_devices(asked)
    if len(found) == 1:
        return found[0]
    if importlib.util.find_spec("cloudpickle") is None:
        raise RequestError("training on several GPUs needs the package cloudpickle: pip install 'tui-pruner[gpus]'")
    return ",".join(one.removeprefix("cuda:") for one in found)


@contextlib.contextmanager
def explained(run: TrainingRun, parameters: FinetuneParameters) -> Any:
    """Failures of a training in one sentence; one that was asked to stop and has a complete epoch has not failed."""
    kept = f"what was trained is in {run.folder}, go on with --resume"
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise JobError(f"no space left for the training in {run.folder}: free some, then go on with --resume") from error
    except subprocess.CalledProcessError as error:
        if not (run.stop.exists() and run.best.exists()):
            raise JobError(f"a process of the training ended with status {error.returncode}; {kept}; see {paths.log_file()}") from error
    except RuntimeError as error:
        if "NaN" not in str(error):
            raise
        rate = "" if parameters.lr0 is None else f" (--lr0, now {parameters.lr0:g})"
        raise JobError(f"the loss became no number, again after going back: lower the learning rate{rate}; {kept}") from error


def stage_details(parameters: FinetuneParameters, teacher: Checkpoint | None, trained: Trained, best_epoch: int) -> dict[str, Any]:
    """What the file's history records of a training."""
    from tui_pruner.core.model.checkpoint import file_name

    return {
        "data": Path(parameters.data).name,
        "epochs": parameters.epochs,
        "best_epoch": best_epoch,
        "imgsz": trained.settings["imgsz"],
        "batch": trained.settings["batch"],
        "nbs": trained.settings["nbs"],
        **({"sparsity": parameters.sparsity} if parameters.sparsity else {}),
        "optimizer": trained.settings["optimizer"],
        "lr0": trained.settings["lr0"],
        "teacher": {"name": file_name(teacher), "sha256": teacher.sha256, "weight": parameters.teacher_weight} if teacher else None,
        "metrics": trained.metrics,
    }


def sparser(sparsity: float, before: Checkpoint, after: Trained) -> list[str]:
    """The effect of a sparsity penalty, as a note; empty without one."""
    from tui_pruner.core.recovery.reconstruction import SMALL, small_share

    if not sparsity:
        return []
    shares = f"{small_share(before.model):.1%} of the channels before, {small_share(after.model):.1%} now"
    return [f"scales below {SMALL:.0%} of their layer's largest: {shares}; prune by --criterion bn-scale"]


def as_trained(checkpoint: Checkpoint, details: dict[str, Any]) -> Checkpoint:
    """The source with the arguments of its training updated, above all the size of its images."""
    arguments = {**checkpoint.content.get("train_args", {}), **{name: details[name] for name in ("imgsz", "epochs", "batch")}}
    return dataclasses.replace(checkpoint, content={**checkpoint.content, "train_args": arguments})


def curve_of(run: TrainingRun) -> list[dict[str, float]]:
    """Losses, metrics and learning rates of every epoch, as Ultralytics recorded them."""
    with (run.ultralytics / "results.csv").open(encoding="utf-8", newline="") as stream:
        return [{name.strip(): float(value) for name, value in row.items()} for row in csv.DictReader(stream)]


def open_teacher(name: str, student: Checkpoint) -> Checkpoint:
    """The checkpoint that a pruned model is distilled from.

    Raises:
        CheckpointError: it cannot be used.
        RequestError: it was trained for another task, or one of them has no detection head whose features could be compared.
    """
    from tui_pruner.core.pruning.proved_cut import as_numbered_in
    from tui_pruner.frameworks.ultralytics import read_checkpoint

    levels_of(student)
    teacher = as_numbered_in(read_checkpoint(name), student)
    of = f"the teacher {name}"
    if teacher.task != student.task:
        raise RequestError(f"{of} is for {teacher.task}, but {student.path} for {student.task}: give the original that was pruned")
    if teacher.classes != student.classes:
        raise RequestError(f"{of} knows {teacher.classes} classes, but {student.path} {student.classes}: give the original that was pruned")
    if levels_of(teacher) != levels_of(student):
        raise RequestError(
            f"{of} detects at strides {levels_of(teacher)}, but {student.path} at {levels_of(student)}: give the original that was pruned"
        )
    return teacher


def levels_of(checkpoint: Checkpoint) -> list[int]:
    """The strides that a model detects at.

    Raises:
        RequestError: it has no detection head.
    """
    from ultralytics.nn.modules.head import Detect

    model: Any = checkpoint.model
    if not isinstance(model.model[-1], Detect):
        raise RequestError(
            f"{checkpoint.path} has no detection head, which Ultralytics' distillation needs: leave --teacher out for {checkpoint.task}"
        )
    return [int(stride) for stride in model.stride.tolist()]


def distillation_settings(teacher: Checkpoint | None, weight: float, run: TrainingRun) -> dict[str, Any]:
    """The settings for distillation by Ultralytics, with a fresh copy of the teacher, so that it need not read the original file."""
    from tui_pruner.frameworks.ultralytics.contents import save_for_ultralytics

    if teacher is None:
        return {}
    file = run.folder / "teacher.pt"
    save_for_ultralytics(teacher, file)
    return {"distill_model": str(file), "dis": weight}


def own_names_of(checkpoint: Checkpoint, teacher: Checkpoint | None) -> list[str]:
    """The names that the files of a training import beyond Ultralytics' own list."""
    return sorted({*checkpoint.own_names, *(teacher.own_names if teacher else ())})
