"""Loads a file that its user trusts as plain `torch.load` does, and keeps in mind what it took from modules."""

from __future__ import annotations

import functools
import pickle
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, cast

from tui_pruner.core.checkpoint.pickle_survey import todays_name
from tui_pruner.core.checkpoint.refusals import what_is_lost
from tui_pruner.core.checkpoint.stock import stock_tasks
from tui_pruner.core.checkpoint.wrappers import COMPILER, WRAPPERS, Ignored, Wrapper
from tui_pruner.errors import CheckpointError


def load_in_full(file: Path, neutral: Path) -> tuple[Any, dict[str, Any]]:
    """What is in a file, and everything that it took from modules, by name; `neutral` is a link that Ultralytics loads it through.

    What a model was wrapped in for a training is left out.

    Raises:
        CheckpointError: it takes what is nowhere here.
        Exception: whatever the file raises.
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
    """What `torch.load` takes as a module for pickling."""
    return cast("ModuleType", SimpleNamespace(__name__="pickle", Unpickler=unpickler, load=pickle.load))
