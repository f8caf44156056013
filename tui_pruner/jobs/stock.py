"""Ultralytics' own tools (validators, predictors), which the jobs look up by the class of the model."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any, NamedTuple

from tui_pruner.engine.job_messages import JobProgress

OnProgress = Callable[[JobProgress], None]


class StockTool(NamedTuple):
    """A tool for a model class, and the task that its data must have."""

    task: str
    module: str
    name: str

    def load(self) -> Any:
        """The class itself; Ultralytics is imported only now."""
        return getattr(importlib.import_module(self.module), self.name)
