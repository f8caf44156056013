"""Makes surgery wrong in every Python process that has this folder on its path: one weight of what it cuts is damaged.

The program has no switch for it. Python imports this file by itself at its start, and the damage is in place before anything else
imports the surgery.
"""

from __future__ import annotations

import importlib.abc
import importlib.util
import sys
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

SURGERY = "tui_pruner.core.pruning.surgery"


class Damaging(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Loads the surgery as it is, then wraps its `cut`."""

    def find_spec(self, name: str, path: Any, target: ModuleType | None = None) -> ModuleSpec | None:
        if name != SURGERY:
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        assert spec is not None
        self.inner = spec.loader
        spec.loader = self
        return spec

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self.inner.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        self.inner.exec_module(module)
        right = module.cut

        def wrong(model: Any, coupling: Any, removal: Any) -> Any:
            pruned = right(model, coupling, removal)
            cut = next(iter(removal.kept(coupling)), None)
            if cut is not None:
                pruned.get_parameter(cut).data[0].mul_(1.5)
            return pruned

        module.cut = wrong


sys.meta_path.insert(0, Damaging())
