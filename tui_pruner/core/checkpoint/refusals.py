"""Why a file is not loaded, by the names that it takes from modules: only a user who trusts it may load it, or nobody here can."""

from __future__ import annotations

import contextlib
import pickle
import re
import sys
from collections.abc import Iterable, Sequence
from importlib.machinery import ModuleSpec
from pathlib import Path

from tui_pruner.core.checkpoint.allowed import beyond_ultralytics, once_stock, todays_place
from tui_pruner.core.checkpoint.container import RETRAIN
from tui_pruner.core.checkpoint.members import Contents
from tui_pruner.core.checkpoint.pickle_survey import CALLS
from tui_pruner.core.checkpoint.wrappers import COMPILER
from tui_pruner.errors import CheckpointError, UntrustedError

MOST_NAMED = 4
LIBRARIES = ("torch", "torchvision", "ultralytics")
OTHER_REPOSITORY = re.compile(r"models\.(yolo|common|experimental)\.")
STOCK = tuple(f"{library}." for library in LIBRARIES)


def names_beyond(neutral: Path, contents: Contents) -> list[str]:
    """What a file takes from modules beyond what stock Ultralytics writes, or ever wrote."""
    try:
        strange = beyond_ultralytics(neutral)
    except ImportError:  # of a module of Ultralytics that is not there
        strange = [name for name in contents.survey.names if name not in CALLS]
    except (ValueError, RuntimeError, pickle.UnpicklingError):  # not as PyTorch writes it, which the survey has told too
        strange = [name for name in contents.survey.names if name not in CALLS and not name.startswith(STOCK)]
    return [name for name in strange if once_stock(name) is None]


def refusal_of(neutral: Path, file: Path, contents: Contents) -> CheckpointError | None:
    """Why a file is not loaded unless it is trusted (UntrustedError), or not at all; None where nothing speaks against it.

    Read under the name `neutral`, spoken of as `file`.
    """
    strange = names_beyond(neutral, contents)
    if other := [name for name in strange if OTHER_REPOSITORY.match(name)]:
        return CheckpointError(
            f"{file} was saved by the code of another repository (it names {listed(other)}), as YOLOv5's, YOLOv7's and YOLOv9's own do, "
            "which Ultralytics cannot open: train the model with the package ultralytics and give that best.pt"
        )
    if lost := [name for name in strange if not name.startswith(COMPILER) and is_lost(name)]:
        return CheckpointError(f"{file} {what_is_lost(lost)}")
    if contents.refusal:
        more = [name for name in strange if name not in contents.refusal]
        named = f" (it names {listed(more)} too)" if more else ""
        return UntrustedError(f"{file} {contents.refusal}{named}, so it was not loaded: {RETRAIN} with stock classes only")
    if strange:
        return UntrustedError(
            f"{file} names {listed(strange)}, which Ultralytics' own files do not, so it was not loaded: {RETRAIN} with stock classes only"
        )
    return None


def what_is_lost(names: Sequence[str]) -> str:
    """What is wrong with names that nothing here has, where they were looked for, and what to do; it follows the file's name."""
    if scripts := [name for name in names if name.startswith("__main__.")]:
        return (
            f"names {listed(scripts)}, which the script that saved it defined, and which no other program can find: define it in a module "
            "that the script imports, or give the model a class of Ultralytics (model.__class__ = DetectionModel), and save it again"
        )
    if stock := [name for name in names if name.startswith(STOCK)]:
        library = stock[0].partition(".")[0]
        return (
            f"names {listed(stock)}, which {library} {_version(library)} does not have: it was saved by a fork or by another version, "
            "so install that one here, or put its folder first on PYTHONPATH"
        )
    module = names[0].rpartition(".")[0]
    place = _place(module)
    if place:
        return f"names {listed(names)}, which {place} does not define: put the folder of the version that saved it first on PYTHONPATH"
    missing = _first_missing(module) or module
    return (
        f"names {listed(names)}, and there is no module {missing} here: it is looked for on PYTHONPATH, so put the folder that holds it "
        "there, or install it"
    )


def is_lost(name: str) -> bool:
    """Whether nothing here has that name; no module is imported for the answer, so one that was not yet may lack it."""
    module, _, attribute = todays_place(name).rpartition(".")
    if module == "__main__":
        return True
    if module in sys.modules:
        return not hasattr(sys.modules[module], attribute)
    return _first_missing(module) is not None


def listed(names: Sequence[str]) -> str:
    """The first few of several names."""
    return ", ".join(names[:MOST_NAMED]) + (", ..." if len(names) > MOST_NAMED else "")


def _first_missing(module: str) -> str | None:
    """The first part of a dotted name for which no importer of this process knows a module; None where it has all."""
    parts = module.split(".")
    where: Iterable[str] | None = None
    for length in range(1, len(parts) + 1):
        name = ".".join(parts[:length])
        spec = module_spec(name, where)
        if spec is None:
            return name
        where = spec.submodule_search_locations
        if where is None and length < len(parts):
            return ".".join(parts[: length + 1])
    return None


def module_spec(name: str, where: Iterable[str] | None = None) -> ModuleSpec | None:
    """What the import system would load under a name, `where` its package is; found without importing anything.

    A file chooses the name, so whatever a finder makes of it means that there is no such module.
    """
    known = getattr(sys.modules.get(name), "__spec__", None)
    if known is not None:
        return known  # type: ignore[no-any-return]
    for finder in sys.meta_path:
        with contextlib.suppress(Exception):
            spec = finder.find_spec(name, None if where is None else list(where))
            if spec is not None:
                return spec
    return None


def _place(module: str) -> str:
    """The file of a module that was imported; empty where it was not."""
    return str(getattr(sys.modules.get(module), "__file__", "") or "")


def _version(library: str) -> str:
    return str(getattr(sys.modules.get(library), "__version__", "") or "as installed here")
