"""What a file with a model would take from modules, found by pickling it without its numbers: whether it can be written at all."""

from __future__ import annotations

import collections
import io
import pickle
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any, cast

import torch
from torch import nn

from tui_pruner.core.checkpoint.allowed import beyond_ultralytics

OURS = "tui_pruner."
LONGEST_REASON = 160


class Outlining(pickle.Pickler):
    """Leaves the numbers out."""

    def reducer_override(self, value: Any) -> Any:
        """An empty dictionary for a tensor; everything else as always."""
        return (collections.OrderedDict, ()) if isinstance(value, torch.Tensor) else NotImplemented


def own_names(model: nn.Module, arguments: Mapping[str, Any], taken: Mapping[str, Any]) -> tuple[tuple[str, ...], str]:
    """What a file made from a model names beyond Ultralytics' own list, and why none can be made; empty where one can.

    It may name what the model's own file took from modules (`taken`), under the names that this has today, and nothing else.
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
