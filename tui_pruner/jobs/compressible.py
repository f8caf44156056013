"""What a compression works on: a checkpoint on its data, or any module by the functions of its user."""

from __future__ import annotations

import ast
import dataclasses
import hashlib
import os
import shutil
import sys
from collections.abc import Iterable, Iterator
from functools import cached_property
from importlib.machinery import PathFinder
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from tui_pruner.domain.criteria import REPAIR
from tui_pruner.domain.errors import DataError, RequestError
from tui_pruner.engine.recovery_messages import CompressParameters
from tui_pruner.jobs.cache import sha256_of
from tui_pruner.jobs.data.dataset import content_of, read_data
from tui_pruner.jobs.validate import opened
from tui_pruner.storage.atomic import replace_file
from tui_pruner.storage.model_file import ModuleNames

if TYPE_CHECKING:
    from tui_pruner.core.pruning.session import PruningSession


BY_WEIGHTS = "l2"
INSTALLED = {"site-packages", "dist-packages", Path(os.__file__).parent.name}
"""Folders of code that is not the user's: what it imports is not followed."""


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

    @property
    def content(self) -> str:
        """A digest of what its results depend on besides the parameters."""

    def demand_possible(self, asked: CompressParameters) -> None:
        """Refuse stages that it has nothing for."""

    def criterion_for(self, asked: CompressParameters) -> str:
        """The criterion that ranks channels."""

    def export_to(self, output: Path, format: str) -> str | None:
        """The file of the export of a result; None where the exporter names it."""

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

    @property
    def content(self) -> str:
        """A digest of the images and labels."""
        return content_of(self._asked.data)

    def demand_possible(self, asked: CompressParameters) -> None:
        """Every stage is possible."""

    def export_to(self, output: Path, format: str) -> None:
        """None: each of Ultralytics' formats has names of its own."""

    def criterion_for(self, asked: CompressParameters) -> str:
        """The criterion that was asked for."""
        return asked.criterion

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
        self._asked, self._names = parameters, names
        self.can_measure, self.can_refit = bool(names.evaluate), bool(names.batches)

    def unmeasured(self, what: str) -> str:
        """Why this cannot be done, without a function for it."""
        return (
            f"the module has no function to measure it by, and {what} needs one: leave it out, or give --evaluate package.module:evaluate"
        )

    @property
    def content(self) -> str:
        """A digest of the files that its functions are in, of those that they import from there, and of its numbers."""
        from tui_pruner.frameworks.plain.named_module import NamedModule

        names = self._names
        used = (names.build, names.inputs, names.forward, names.batches, names.evaluate, names.loss, names.train)
        files = code_files(name.partition(":")[0] for name in used if ":" in name)
        weights = NamedModule(names).identity(self._session.analysis)["weights"]
        return hashlib.sha256("".join([*map(sha256_of, files), weights]).encode()).hexdigest()

    def demand_possible(self, asked: CompressParameters) -> None:
        """Refuse to train without a function for it, and a format that no module is exported to.

        Raises:
            RequestError: that is asked for.
        """
        from tui_pruner.jobs.any_module.export import demand_format

        if asked.epochs and not self._names.train:
            raise RequestError(
                "the module has no function to train it by, and fine-tuning needs one: leave it out, or give --train package.module:train"
            )
        if asked.format:
            demand_format(asked.format)

    def export_to(self, output: Path, format: str) -> str:
        """A file beside the result."""
        return str(output.with_suffix(f".{format}"))

    def criterion_for(self, asked: CompressParameters) -> str:
        """The criterion that was asked for; by weights in place of the default one, where there are no batches for it."""
        return BY_WEIGHTS if asked.criterion == REPAIR and not self._names.batches else asked.criterion

    def size(self, plan: dict[str, Any] | None) -> dict[str, int]:
        """The size of the module, under a plan."""
        from tui_pruner.jobs.any_module.figures import opened_session

        session = opened_session(self._asked, plan, lambda progress: None)[1] if plan else self._session
        return dataclasses.asdict(session.widths.size)

    @cached_property
    def _session(self) -> PruningSession:
        """A session on the module without steps."""
        from tui_pruner.jobs.any_module.figures import opened_session

        return opened_session(self._asked, None, lambda progress: None)[1]

    def copy(self, made: Path, output: Path) -> None:
        """Copy a stage's folder."""
        fresh = output.with_name(f".copy-{output.name}")
        shutil.rmtree(fresh, ignore_errors=True)
        shutil.copytree(made, fresh)
        shutil.rmtree(output, ignore_errors=True)
        fresh.replace(output)


def code_files(packages: Iterable[str]) -> list[Path]:
    """The files of Python modules, and of all that they import, beyond the installed ones; found by reading, nothing is run."""
    found: dict[Path, None] = {}
    queue = list(packages)
    while queue:
        name = queue.pop(0)
        for place in range(1, name.count(".") + 2):  # a package before what is in it, as Python runs them
            part = ".".join(name.split(".")[:place])
            file = file_of(part)
            if file is None or file in found:
                continue
            found[file] = None
            if INSTALLED.isdisjoint(file.parts):
                queue += imports_in(file, part if file.name == "__init__.py" else part.rpartition(".")[0])
    return sorted(found)


def file_of(name: str) -> Path | None:
    """The file of a Python module by its full name; None where it has none."""
    folder, places, found = str(Path.cwd()), None, None
    begin = sys.path if folder in sys.path else [folder, *sys.path]
    for place in range(1, name.count(".") + 2):
        found = PathFinder.find_spec(".".join(name.split(".")[:place]), begin if places is None else places)
        if found is None:
            return None
        places = found.submodule_search_locations or []
    return Path(found.origin) if found is not None and found.has_location and found.origin else None


def imports_in(file: Path, package: str) -> Iterator[str]:
    """The full names that a file imports, which may be of Python modules or of what is in one; `package`: the one that it is in."""
    try:
        parts = list(ast.walk(ast.parse(file.read_bytes())))
    except (OSError, ValueError, SyntaxError):
        return
    for part in parts:
        if isinstance(part, ast.Import):
            yield from (alias.name for alias in part.names)
        elif isinstance(part, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) - part.level + 1] if part.level else []
            base = ".".join([*filter(None, above), *([part.module] if part.module else [])])
            yield from (f"{base}.{alias.name}" if base else alias.name for alias in part.names)


def compressible(parameters: CompressParameters) -> Compressible:
    """What a compression with these parameters works on."""
    return CheckpointFile(parameters) if parameters.module is None else AnyModule(parameters, parameters.module)
