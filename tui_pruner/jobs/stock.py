"""Ultralytics' own tools (validators, predictors), which the jobs look up by the class of the model."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from tui_pruner.engine.job_messages import JobProgress
from tui_pruner.errors import RequestError
from tui_pruner.jobs.nms_limit import without_time_limit

if TYPE_CHECKING:
    from torch import nn

OnProgress = Callable[[JobProgress], None]


class StockTool(NamedTuple):
    """A tool for a model class, and the task that its data must have."""

    task: str
    module: str
    name: str

    def load(self) -> Any:
        """Return the class, whose results do not depend on how busy the machine is; Ultralytics is imported only now."""
        return without_time_limit(getattr(importlib.import_module(self.module), self.name))


def tool_for(model: nn.Module, tools: Mapping[str, StockTool], fault: str) -> StockTool:
    """The tool for a model's class, or for the class of Ultralytics that a user's own one extends.

    Raises:
        RequestError: there is none; `fault` says what cannot be done with such a model, and comes before those that there are.
    """
    name = next((kind.__name__ for kind in type(model).__mro__ if kind.__module__.startswith("ultralytics.")), type(model).__name__)
    if name not in tools:
        raise RequestError(f"a {name} {fault}: it can be done for {', '.join(tools)}")
    return tools[name]
