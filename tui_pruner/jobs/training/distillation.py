"""Distillation: the teacher that a training compares the features of its detection head with, and its settings for Ultralytics."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tui_pruner.domain.errors import RequestError
from tui_pruner.jobs.training.run import TrainingRun

if TYPE_CHECKING:
    from tui_pruner.core.model.checkpoint import Checkpoint


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
