"""The original as the teacher of a pruned model: whether Ultralytics' distillation can have the one learn from the other."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tui_pruner.errors import RequestError

if TYPE_CHECKING:
    from tui_pruner.core.checkpoint import Checkpoint


def open_teacher(name: str, student: Checkpoint) -> Checkpoint:
    """The checkpoint that a pruned model can learn from.

    Raises:
        CheckpointError: it cannot be used.
        RequestError: it was trained for something else, or one of them has no detection head to compare features at.
    """
    from tui_pruner.core.checkpoint import read_checkpoint
    from tui_pruner.core.some_classes import as_numbered_in

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
