"""Break the program where it stands: its functions get the code of a changed tree, or one of its tables loses an entry.

For a forked child, which is thrown away afterwards.
"""

from __future__ import annotations

import ast
import importlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from types import CodeType, FunctionType
from typing import Any

import numpy as np
from torch import Tensor
from torch.utils._python_dispatch import _disable_current_modes

from tests.mutation.changes import PASSES, SCRAMBLES, Change, changes
from tui_pruner.core.tracing.values import (
    Computed,
)

ROOT = Path(__file__).parent.parent.parent
REACHED = "__reached__"
Place = tuple[str, int]


def path_of(module: str) -> Path:
    """The file of a module."""
    return ROOT.joinpath(*module.split(".")).with_suffix(".py")


def tree_of(module: str) -> ast.Module:
    """Its syntax tree."""
    return ast.parse(path_of(module).read_text(encoding="utf-8"))


def break_module(module: str, number: int) -> None:
    """Apply the change of this number."""
    tree = tree_of(module)
    change = changes(module, tree)[number]
    if change.drops is not None:
        drop(change)
        return
    assert change.apply is not None
    change.apply()
    replace_code(module, tree, {SCRAMBLES[0]: rolled, SCRAMBLES[1]: mirrored, PASSES: passes_through})


def watch_module(module: str, reached: Callable[[int, int], None]) -> None:
    """From now on, every statement in the module's functions says its first and last line before it runs."""
    tree = tree_of(module)
    for node in [node for node in ast.walk(tree) if not isinstance(node, (ast.Module, ast.ClassDef))]:
        for name in ("body", "orelse", "finalbody"):
            block = getattr(node, name, None)
            if isinstance(block, list):
                setattr(node, name, [told for statement in block for told in (tell_of(statement), statement)])
    replace_code(module, tree, {REACHED: reached})


def tell_of(statement: ast.stmt) -> ast.stmt:
    """The call that says a statement's lines; of one with a body, those of its head."""
    body = getattr(statement, "body", None)
    last = body[0].lineno - 1 if body else statement.end_lineno
    call = ast.parse(f"{REACHED}({statement.lineno}, {max(statement.lineno, last or 0)})").body[0]
    return ast.copy_location(call, statement)


def replace_code(module: str, tree: ast.Module, helpers: dict[str, Any]) -> None:
    """Give the module's functions the code that they have in this tree, which may call the helpers."""
    path = str(path_of(module))
    vars(importlib.import_module(module)).update(helpers)
    changed = dict(codes(compile(ast.fix_missing_locations(tree), path, "exec")))
    for function in functions_of(vars(importlib.import_module(module))):
        code = changed.get((function.__code__.co_name, function.__code__.co_firstlineno))
        if code is not None and function.__code__.co_filename == path:
            function.__code__ = code


def functions_of(names: Mapping[str, Any]) -> Iterator[FunctionType]:
    """The functions of a module or a class, its classes' methods and properties among them, without what decorators put around them."""
    for thing in names.values():
        if isinstance(thing, type):
            yield from functions_of(vars(thing))
            continue
        for inner in (thing, *(getattr(thing, name, None) for name in ("__wrapped__", "__func__", "fget", "func"))):
            if isinstance(inner, FunctionType):
                yield inner


def codes(code: CodeType) -> Iterator[tuple[Place, CodeType]]:
    """Every function's code in a module's, by name and first line."""
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield (constant.co_name, constant.co_firstlineno), constant
            yield from codes(constant)


def drop(change: Change) -> None:
    """Take an entry out of a table, for an operation with its in-place form."""
    assert change.drops is not None
    place, key = change.drops
    module, _, name = place.partition(" ")
    table: dict[Any, Any] = getattr(importlib.import_module(module), name)
    gone = [entry for entry in table if entry in (key, f"{key}_") or getattr(entry, "__name__", "") == key]
    if not gone:
        raise LookupError(f"{name} has no {key}")
    for entry in gone:
        del table[entry]


def rolled(labels: Any) -> Any:
    """Labels off by one along every dimension in which they change."""
    return scrambled(labels, lambda tensor, dim: tensor.roll(1, dim), lambda vector: np.roll(vector, 1))


def mirrored(labels: Any) -> Any:
    """Labels back to front along every dimension in which they change."""
    return scrambled(labels, lambda tensor, dim: tensor.flip(dim), lambda vector: vector[::-1].copy())


def scrambled(labels: Any, tensors: Callable[[Tensor, int], Tensor], vectors: Callable[[Any], Any]) -> Any:
    """Labels in any form, rearranged."""
    if isinstance(labels, Tensor):
        with _disable_current_modes():
            for dim in (d for d in range(labels.ndim) if labels.stride(d) and labels.shape[d] > 1):
                labels = tensors(labels, dim)
        return labels
    if isinstance(labels, np.ndarray):
        return vectors(labels)
    if isinstance(labels, Computed):
        return Computed(tuple(replace(strand, labels=scrambled(strand.labels, tensors, vectors)) for strand in labels.strands))
    return type(labels)(labels.shape, tuple(None if vector is None else vectors(vector) for vector in labels.vectors))


def passes_through(flow: Any, call: Any) -> None:
    """The laziest rule: what comes out carries the labels of what went in, where the shape is the same."""
    first = next((tensor for tensor in call.tensors if flow.has_labels(tensor) and flow.weight(tensor) is None), None)
    for out in call.outputs:
        if first is not None and out.shape == first.shape:
            flow.put(out, flow.elements(first))
