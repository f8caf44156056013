"""What a compression works on: a checkpoint on its data, or any module by the functions of its user."""

from __future__ import annotations

import dataclasses
import shutil
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

from tui_pruner.domain.errors import DataError
from tui_pruner.engine.recovery_messages import CompressParameters
from tui_pruner.jobs.data.dataset import read_data
from tui_pruner.jobs.validate import opened
from tui_pruner.storage.atomic import replace_file
from tui_pruner.storage.model_file import ModuleNames


class Compressible(Protocol):
    """What a compression works on: a checkpoint, or any module."""

    suffix: str
    """How the names of its files or folders end."""
    sample: str
    """What one of its inputs is called."""
    can_refit: bool

    @property
    def can_measure(self) -> bool:
        """Whether its metric can be measured."""

    def unmeasured(self, what: str) -> str:
        """Why this cannot be done, as its metric cannot be measured."""

    def size(self, plan: dict[str, Any] | None) -> dict[str, int]:
        """Its size, under a plan."""

    def copy(self, made: Path, output: Path) -> None:
        """Copy a file or folder of a stage."""


class CheckpointFile:
    """A checkpoint, with files of PyTorch as stages."""

    suffix, sample, can_refit = ".pt", "image", True

    def __init__(self, parameters: CompressParameters) -> None:
        self._asked = parameters

    @cached_property
    def can_measure(self) -> bool:
        """Whether the data has labels."""
        try:
            read_data(self._asked.data)
        except DataError:
            return False
        return True

    def unmeasured(self, what: str) -> str:
        """Why this cannot be done, as there are no labels."""
        return f"{self._asked.data} has no labels to validate on, and {what} needs them: leave it out, or give labelled data"

    def size(self, plan: dict[str, Any] | None) -> dict[str, int]:
        """The size of the checkpoint, under a plan."""
        from tui_pruner.core.model.analysis import analyse
        from tui_pruner.core.pruning.session import PruningSession

        session = PruningSession(analyse(opened(self._asked), self._asked.imgsz))
        session.load(plan or session.plan.plain())
        return dataclasses.asdict(session.widths.size)

    def copy(self, made: Path, output: Path) -> None:
        """Copy a stage's file."""
        replace_file(output, made.read_bytes())


class AnyModule:
    """A module, with folders as stages of its compression."""

    suffix, sample = ".tp", "sample"

    def __init__(self, parameters: CompressParameters, names: ModuleNames) -> None:
        self._asked = parameters
        self.can_measure, self.can_refit = bool(names.evaluate), bool(names.batches)

    def unmeasured(self, what: str) -> str:
        """Why this cannot be done, as there is no function."""
        return (
            f"the module has no function to measure it by, and {what} needs one: leave it out, or give --evaluate package.module:evaluate"
        )

    def size(self, plan: dict[str, Any] | None) -> dict[str, int]:
        """The size of the module, under a plan."""
        from tui_pruner.jobs.any_module.figures import opened_session

        _, session = opened_session(self._asked, plan, lambda progress: None)
        return dataclasses.asdict(session.widths.size)

    def copy(self, made: Path, output: Path) -> None:
        """Copy a stage's folder."""
        fresh = output.with_name(f".copy-{output.name}")
        shutil.rmtree(fresh, ignore_errors=True)
        shutil.copytree(made, fresh)
        shutil.rmtree(output, ignore_errors=True)
        fresh.replace(output)


def compressible(parameters: CompressParameters) -> Compressible:
    """What a compression with these parameters works on."""
    return CheckpointFile(parameters) if parameters.module is None else AnyModule(parameters, parameters.module)
