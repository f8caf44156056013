"""Import one module with one change: a finder that comes before all others. Must be in place before the module is imported."""

from __future__ import annotations

import ast
import importlib.util
import sys
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, SourceFileLoader
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tests.mutation.changes import PASSES, SCRAMBLES, changes

ROOT = Path(__file__).parent.parent.parent


def path_of(module: str) -> Path:
    """The file of a module, found without importing its packages."""
    return ROOT.joinpath(*module.split(".")).with_suffix(".py")


class Broken(SourceFileLoader):
    """Loads a module's source with the change of this number."""

    def __init__(self, name: str, number: int) -> None:
        super().__init__(name, str(path_of(name)))
        self.number = number

    def get_code(self, fullname: str) -> CodeType:
        """The changed code, never from a cache."""
        tree = ast.parse(Path(self.path).read_text(encoding="utf-8"))
        changes(fullname, tree)[self.number].apply()
        return compile(ast.fix_missing_locations(tree), self.path, "exec")

    def exec_module(self, module: ModuleType) -> None:
        """Run it, with the helpers that changes call."""
        vars(module).update({SCRAMBLES[0]: rolled, SCRAMBLES[1]: mirrored, PASSES: passes_through})
        super().exec_module(module)


class Finder(MetaPathFinder):
    """Finds the one module that is to be broken."""

    def __init__(self, name: str, number: int) -> None:
        self.loader = Broken(name, number)

    def find_spec(self, fullname: str, path: object = None, target: object = None) -> ModuleSpec | None:
        """Its specification, or None for every other module."""
        return importlib.util.spec_from_loader(fullname, self.loader) if fullname == self.loader.name else None


def break_module(name: str, number: int) -> None:
    """From now on, importing the module gives the broken one."""
    if name in sys.modules:
        raise RuntimeError(f"{name} is imported already")
    sys.meta_path.insert(0, Finder(name, number))


def rolled(labels: Any) -> Any:
    """Labels off by one along every dimension in which they change."""
    return scrambled(labels, lambda tensor, dim: tensor.roll(1, dim), lambda vector: np.roll(vector, 1))


def mirrored(labels: Any) -> Any:
    """Labels back to front along every dimension in which they change."""
    return scrambled(labels, lambda tensor, dim: tensor.flip(dim), lambda vector: vector[::-1].copy())


def scrambled(labels: Any, tensors: Any, vectors: Any) -> Any:
    """Labels in any form, rearranged."""
    if isinstance(labels, Tensor):
        with torch._C._DisableTorchDispatch():
            for dim in (d for d in range(labels.ndim) if labels.stride(d) and labels.shape[d] > 1):
                labels = tensors(labels, dim)
        return labels
    if isinstance(labels, np.ndarray):
        return vectors(labels)
    return type(labels)(labels.shape, tuple(None if vector is None else vectors(vector) for vector in labels.vectors))


def passes_through(flow: Any, call: Any) -> None:
    """The laziest rule: what comes out carries the labels of what went in, where the shape is the same."""
    first = next((tensor for tensor in call.tensors if flow.has_labels(tensor) and flow.weight(tensor) is None), None)
    for out in call.outputs:
        if first is not None and out.shape == first.shape:
            flow.put(out, flow.elements(first))
