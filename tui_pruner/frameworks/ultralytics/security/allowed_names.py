"""The allow-list: which names a checkpoint may import, why others are refused, and what a user's trust allows."""

from __future__ import annotations

import collections
import contextlib
import functools
import importlib
import io
import pickle
import re
import sys
import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import IO, Any, cast

import torch
from torch import nn

from tui_pruner.core.tracing.cache import LIBRARIES, code_of, module_spec
from tui_pruner.domain.errors import CheckpointError, UntrustedError
from tui_pruner.frameworks.ultralytics.building import stock_tasks
from tui_pruner.frameworks.ultralytics.security.archive import PICKLE, Contents, names_in
from tui_pruner.frameworks.ultralytics.security.model_scan import COMPILER, MADE_PLAIN, WRAPPERS, Ignored, Wrapper
from tui_pruner.frameworks.ultralytics.security.pickle_scan import CALLS, DILL_TYPE, PLAIN_TYPES, todays_name
from tui_pruner.storage.model_file import RETRAIN

RENAMED = {
    "ultralytics.yolo.utils": "ultralytics.utils",
    "ultralytics.yolo.data": "ultralytics.data",
    "ultralytics.yolo.v8": "ultralytics.models.yolo",
}
"""Packages of Ultralytics before 8.0.136, and where its own loader finds them today."""
LOSSES = ("ultralytics.utils.loss", "ultralytics.utils.tal")
TRANSFORMS = "ultralytics.data.augment"
KINDS_OF_TRANSFORMS = ("CenterCrop", "ToTensor", "ClassifyLetterBox")
"""Transforms of classifiers' images in 8.0: they hold sizes and flags, and calling them computes on an image."""
DTYPES = "?bhilqBHILQefdFD"


def beyond_ultralytics(file: Path | IO[bytes]) -> list[str]:
    """The names that a file imports beyond Ultralytics' own list; the pickle is disassembled, not run.

    Raises:
        pickle.UnpicklingError: it has operations of another protocol than that of `torch.save`.
    """
    with stock_tasks()._SafeLoad.loading(file):
        if not isinstance(file, Path):
            file.seek(0)
        return sorted(torch.serialization.get_unsafe_globals_in_checkpoint(file))


def once_stock(name: str) -> Any:
    """The object for a name that Ultralytics once wrote, or that PyTorch wraps around models or adds to them; None for any other name."""
    if name == DILL_TYPE:
        return plain_type
    if name in WRAPPERS:
        return Wrapper
    if name in MADE_PLAIN:
        return MADE_PLAIN[name]
    module, _, kind = todays_place(name).rpartition(".")
    if module not in (*LOSSES, TRANSFORMS) or (module == TRANSFORMS and kind not in KINDS_OF_TRANSFORMS):
        return None
    found = getattr(importlib.import_module(module), kind, None)
    return found if isinstance(found, type) and found.__module__ == module else None


def todays_place(name: str) -> str:
    """The name in the package where Ultralytics has it today."""
    package = next((old for old in RENAMED if name.startswith(f"{old}.")), "")
    return RENAMED[package] + name.removeprefix(package) if package else name


@contextlib.contextmanager
def permitting(names: Iterable[str]) -> Iterator[None]:
    """Add names to those that PyTorch's restricted loader accepts, here and wherever stock Ultralytics loads, within the `with` block.

    Raises:
        ImportError: the module does not exist.
        AttributeError: it has no such name.
    """
    import numpy as np

    dtypes = {type(np.dtype(letter)) for letter in DTYPES}  # a scalar's type is made on demand, so no file names it
    found = {(once_stock(name) or taken(name), name) for name in names}
    with torch.serialization.safe_globals([*(dtypes | found).difference(torch.serialization.get_safe_globals())]):
        yield


def taken(name: str) -> Any:
    """Import a name from its module."""
    module, _, attribute = name.rpartition(".")
    return getattr(importlib.import_module(module), attribute)


def plain_type(name: str) -> type:
    """One of Python's own types, as dill names it."""
    return PLAIN_TYPES[name]


OURS = "tui_pruner."
LONGEST_REASON = 160


class Outlining(pickle.Pickler):
    """Pickles a model without the numbers in its tensors."""

    def reducer_override(self, value: Any) -> Any:
        """An empty dictionary for a tensor; everything else as usual."""
        return (collections.OrderedDict, ()) if isinstance(value, torch.Tensor) else NotImplemented


def own_names(model: nn.Module, arguments: Mapping[str, Any], taken: Mapping[str, Any]) -> tuple[tuple[str, ...], str]:
    """The names that a file made from a model would import beyond Ultralytics' own list, and why no file can be made; empty otherwise.

    It may import what the model's own file imported (`taken`), under today's names, and nothing else.
    """
    stream = io.BytesIO()
    try:
        torch.save({"model": model, "train_args": arguments}, stream, pickle_module=_PICKLING)
    except (pickle.PicklingError, AttributeError, TypeError, RecursionError) as error:
        return (), " ".join(str(error).split())[:LONGEST_REASON]
    stream.seek(0)
    named = beyond_ultralytics(stream)
    known = {*taken, *(f"{value.__module__}.{value.__qualname__}" for value in taken.values() if hasattr(value, "__qualname__"))}
    if more := [name for name in named if name not in known or name.startswith(OURS)]:
        return (), f"it would name {', '.join(more)}, which the original does not"
    return tuple(named), ""


_PICKLING = cast("Any", SimpleNamespace(__name__="pickle", Pickler=Outlining, dump=pickle.dump))


MOST_NAMED = 4
OTHER_REPOSITORY = re.compile(r"models\.(yolo|common|experimental)\.")
STOCK = tuple(f"{library}." for library in LIBRARIES)


def names_beyond(neutral: Path, contents: Contents) -> list[str]:
    """The names that a file imports beyond what stock Ultralytics writes, or ever wrote."""
    try:
        strange = beyond_ultralytics(neutral)
    except ImportError:  # of a module of Ultralytics that does not exist here
        strange = [name for name in contents.survey.names if name not in CALLS]
    except (ValueError, RuntimeError, pickle.UnpicklingError):  # not as PyTorch writes it, which the survey has found too
        strange = [name for name in contents.survey.names if name not in CALLS and not name.startswith(STOCK)]
    return [name for name in strange if once_stock(name) is None]


def refusal_of(neutral: Path, file: Path, contents: Contents) -> CheckpointError | None:
    """Why a file is not loaded unless it is trusted (UntrustedError), or not at all; None where it can be loaded.

    Read under the name `neutral`; messages call it `file`.
    """
    strange = names_beyond(neutral, contents)
    if other := [name for name in strange if OTHER_REPOSITORY.match(name)]:
        return CheckpointError(
            f"{file} was saved by the code of another repository (it names {listed(other)}), as YOLOv5's, YOLOv7's and YOLOv9's own do, "
            "which Ultralytics cannot open: open it as any module, with that code on PYTHONPATH (--model FILE --inputs "
            "package.module:inputs), or train the model with the package ultralytics and give that best.pt"
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
    """The end of a message about names that do not exist here: where they were looked for, and what to do."""
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
        f"names {listed(names)}, and no module {missing} here: it is looked for on PYTHONPATH, so put the folder that holds it "
        "there, or install it"
    )


def is_lost(name: str) -> bool:
    """Whether a name does not exist here; no module is imported to find out, so a module not yet imported may still lack it."""
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
    """The first part of a dotted name that this process cannot import; None where all can be found."""
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


def _place(module: str) -> str:
    """The file of an imported module; empty where it was not imported."""
    return str(getattr(sys.modules.get(module), "__file__", "") or "")


def _version(library: str) -> str:
    return str(getattr(sys.modules.get(library), "__version__", "") or "as installed here")


def load_in_full(file: Path, neutral: Path) -> tuple[Any, dict[str, Any]]:
    """Load a file without restrictions; return its content and all imported objects by name. `neutral`: a link that Ultralytics loads.

    Wrappers that a training put around the model are left out.

    Raises:
        CheckpointError: it imports what does not exist here.
        Exception: any, as the file raises it.
    """
    taken: dict[str, Any] = {}

    class Unpickler(pickle.Unpickler):
        def find_class(self, module: str, name: str) -> Any:
            full = todays_name(module, name)
            if full in WRAPPERS:
                return Wrapper
            if full.startswith(COMPILER):
                return Ignored
            try:
                taken[full] = super().find_class(module, name)
            except (AttributeError, ModuleNotFoundError) as error:
                if isinstance(error, ModuleNotFoundError) and not full.startswith(f"{error.name}."):
                    raise CheckpointError(f"{file} needs a module that is not installed here ({error}): install it first") from error
                raise CheckpointError(f"{file} {what_is_lost([full])}") from error
            return taken[full]

    tasks: Any = stock_tasks()
    plainly = tasks.torch_load
    tasks.torch_load = functools.partial(plainly, pickle_module=_as_module(Unpickler))
    try:
        return tasks.torch_safe_load(str(neutral), safe_only=False)[0], taken
    finally:
        tasks.torch_load = plainly


def _as_module(unpickler: type[pickle.Unpickler]) -> ModuleType:
    """An unpickler as the module that `torch.load` takes."""
    return cast("ModuleType", SimpleNamespace(__name__="pickle", Unpickler=unpickler, load=pickle.load))


def code_of_file(checkpoint: Path) -> str:
    """A digest of the code of the classes that a file names; empty where all are those of Ultralytics and its libraries."""
    try:
        with zipfile.ZipFile(checkpoint) as archive:
            pickled = archive.read(next(name for name in archive.namelist() if name.partition("/")[2] == PICKLE))
    except (OSError, zipfile.BadZipFile, StopIteration):  # opening the file reports the error
        return ""
    return code_of(names_in(pickled))
