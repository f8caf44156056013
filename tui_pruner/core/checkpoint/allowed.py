"""Which names a checkpoint may take from modules: those on Ultralytics' own list, and a few more that stock Ultralytics once wrote.

Everything here is built empty and filled. What may be called, and with what, `pickle_survey` says.
"""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, Any

import torch

from tui_pruner.core.checkpoint.pickle_survey import DILL_TYPE, PLAIN_TYPES
from tui_pruner.core.checkpoint.plain_weights import MADE_PLAIN
from tui_pruner.core.checkpoint.stock import stock_tasks
from tui_pruner.core.checkpoint.wrappers import WRAPPERS, Wrapper

RENAMED = {
    "ultralytics.yolo.utils": "ultralytics.utils",
    "ultralytics.yolo.data": "ultralytics.data",
    "ultralytics.yolo.v8": "ultralytics.models.yolo",
}
"""Packages of Ultralytics before 8.0.136, as its own loader finds them today."""
LOSSES = ("ultralytics.utils.loss", "ultralytics.utils.tal")
TRANSFORMS = "ultralytics.data.augment"
KINDS_OF_TRANSFORMS = ("CenterCrop", "ToTensor", "ClassifyLetterBox")
"""What prepared the images of classifiers in 8.0: each holds sizes and flags, and its call computes on an image."""
DTYPES = "?bhilqBHILQefdFD"


def beyond_ultralytics(file: Path | IO[bytes]) -> list[str]:
    """What a file takes from modules beyond Ultralytics' own list; the pickle is disassembled, not run.

    Raises:
        pickle.UnpicklingError: it has operations that PyTorch does not write.
    """
    with stock_tasks()._SafeLoad.loading(file):
        if not isinstance(file, Path):
            file.seek(0)
        return sorted(torch.serialization.get_unsafe_globals_in_checkpoint(file))


def once_stock(name: str) -> Any:
    """What a name stands for that Ultralytics once wrote, or PyTorch puts around or into models of it; None for any other name."""
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
    """A name under the package where Ultralytics has it today."""
    package = next((old for old in RENAMED if name.startswith(f"{old}.")), "")
    return RENAMED[package] + name.removeprefix(package) if package else name


@contextlib.contextmanager
def permitting(names: Iterable[str]) -> Iterator[None]:
    """Let PyTorch's restricted loader take these names too, here and wherever stock Ultralytics loads, until the block ends.

    Raises:
        ImportError: there is no such module.
        AttributeError: it has no such name.
    """
    import numpy as np

    dtypes = {type(np.dtype(letter)) for letter in DTYPES}  # a scalar's type is made when it is called for, so no file names it
    found = {(once_stock(name) or taken(name), name) for name in names}
    with torch.serialization.safe_globals([*(dtypes | found).difference(torch.serialization.get_safe_globals())]):
        yield


def taken(name: str) -> Any:
    """What a module has under a name."""
    module, _, attribute = name.rpartition(".")
    return getattr(importlib.import_module(module), attribute)


def plain_type(name: str) -> type:
    """One of Python's own types, as dill names it."""
    return PLAIN_TYPES[name]
