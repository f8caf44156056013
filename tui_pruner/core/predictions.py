"""What a model predicts: every tensor in its output, whatever holds it, but for the features that a detection head hands through.

An output is taken apart into its leaves, each under its place such as `output[1]['boxes']`. What could hide a tensor and cannot be
looked into is an error: nothing would lock the channels in it, and a proof would not see them.
"""

from __future__ import annotations

import functools
import sys
import types
from collections.abc import ItemsView, Iterator, KeysView, Mapping, Sequence, Set, ValuesView
from contextlib import ExitStack, contextmanager
from enum import Enum
from typing import Any

import torch
from torch import Tensor, nn

ROOT = "output"
MOST_LEAVES = 100_000
CONSTANTS = (
    bool, int, float, complex, str, bytes, type(None), type, Enum, range, slice, nn.Module, types.ModuleType, torch.Size,
    torch.dtype, torch.device, torch.layout, torch.memory_format,
)  # fmt: skip
"""What holds no output: a module is part of the model, and what a forward leaves in it is no output."""
Leaves = dict[str, Any]


class Unseen(Exception):
    """An output in which no tensor can be found, or not all of them."""


def leaves_of(output: Any) -> Leaves:
    """Return the tensors and constants of an output by their places.

    Mappings, sequences, iterators (which are run to their end), objects with attributes and closures are looked into.

    Raises:
        Unseen: it holds what cannot be looked into, or more than there is room for.
    """
    found: Leaves = {}
    for place, leaf in _walk(output, ROOT, set()):
        found[place] = leaf
        if len(found) > MOST_LEAVES:
            raise Unseen(f"the forward gives more than {MOST_LEAVES:,} outputs: return tensors")
    return found


def tensors(output: Any) -> list[Tensor]:
    """Return all tensors of an output, in their order."""
    return [leaf for leaf in leaves_of(output).values() if isinstance(leaf, Tensor)]


def predicted(output: Any, features: Mapping[int, Tensor]) -> Leaves:
    """Return the leaves of an output that are predictions: all but some features.

    Raises:
        Unseen: there is no tensor among them, or what cannot be looked into.
    """
    leaves = leaves_of(output)
    found = {place: leaf for place, leaf in leaves.items() if id(leaf) not in features}
    if not any(isinstance(leaf, Tensor) for leaf in found.values()):
        kind = type(output).__name__
        raise Unseen(f"no tensor is found in what the forward returns ({kind}): return tensors, in tuples, lists, dicts or dataclasses")
    return found


@contextmanager
def handed_through(model: nn.Module) -> Iterator[dict[int, Tensor]]:
    """Collect, by identity, the features that Ultralytics' detection heads hand from their inputs into their outputs while the block runs.

    The loss reads their shapes; no prediction comes of them. Only those heads do so: anything else that a model returns is a prediction,
    be it also what its last module reads.
    """
    features: dict[int, Tensor] = {}
    with ExitStack() as hooks:
        for module in model.modules():
            if is_detection_head(module):
                hooks.callback(module.register_forward_hook(functools.partial(_collect, features)).remove)
        yield features


def is_detection_head(module: nn.Module) -> bool:
    """Whether a module is Ultralytics' `Detect` or an heir of it."""
    heads: Any = sys.modules.get("ultralytics.nn.modules.head")
    return heads is not None and isinstance(module, heads.Detect)


def _collect(features: dict[int, Tensor], module: nn.Module, args: Any, output: Any) -> None:
    entered = {storage_of(tensor) for tensor in tensors(args)}
    for place, leaf in leaves_of(output).items():
        if "['feats']" in place and isinstance(leaf, Tensor) and storage_of(leaf) in entered:
            features[id(leaf)] = leaf


def storage_of(tensor: Tensor) -> int:
    """Return the identity of a tensor's memory, which it shares with its views and with itself detached."""
    return int(tensor.untyped_storage()._cdata)


def _walk(value: Any, place: str, above: set[int]) -> Iterator[tuple[str, Any]]:
    """Go through all that a value holds; `above` are the values around it, for what holds itself."""
    if isinstance(value, (Tensor, *CONSTANTS)):
        yield place, value
    if isinstance(value, CONSTANTS) or id(value) in above:
        return
    for below, part in attributes_of(value, place) if isinstance(value, Tensor) else _parts(value, place):
        yield from _walk(part, below, above | {id(value)})


def _parts(value: Any, place: str) -> Iterator[tuple[str, Any]]:
    """What a value holds directly: its entries, and its attributes."""
    if isinstance(value, Mapping):
        yield from ((f"{place}[{key!r}]", entry) for key, entry in value.items())
    elif isinstance(value, (Sequence, Iterator, KeysView, ItemsView, ValuesView)):
        for number, entry in enumerate(value):
            if number > MOST_LEAVES:
                raise Unseen(f"{place} of the forward's output has no end: return tensors")
            yield f"{place}[{number}]", entry
    elif isinstance(value, Set):
        if any(not isinstance(entry, CONSTANTS) for entry in value):
            raise Unseen(f"{place} of the forward's output is a {type(value).__name__}, which has no order: return a list")
    elif isinstance(value, functools.partial):
        yield from ((f"{place}.{name}", getattr(value, name)) for name in ("func", "args", "keywords"))
    elif isinstance(value, (types.MethodType, types.BuiltinFunctionType)):
        yield f"{place}.__self__", value.__self__
    elif isinstance(value, types.FunctionType):
        cells = [(name, cell) for name, cell in zip(value.__code__.co_freevars, value.__closure__ or ()) if cell != types.CellType()]
        yield from ((f"{place}.{name}", cell.cell_contents) for name, cell in cells)
        yield from ((f"{place}.__defaults__[{number}]", default) for number, default in enumerate(value.__defaults__ or ()))
    elif not hasattr(value, "__dict__") and not slots_of(value) and type(value) is not object:
        raise Unseen(f"{place} of the forward's output is a {type(value).__name__}, in which no tensor can be looked for: return tensors")
    yield from attributes_of(value, place)


def slots_of(value: Any) -> list[str]:
    """Return the names of the slots that a value's classes declare, private ones as Python stores them."""
    declared = [(base, vars(base).get("__slots__", ())) for base in type(value).__mro__]
    names = [(base, name) for base, given in declared for name in ([given] if isinstance(given, str) else given)]
    private = {(base, name): name.startswith("__") and not name.endswith("__") for base, name in names}
    own = [f"_{base.__name__.lstrip('_')}{name}" if private[base, name] else name for base, name in names]
    return [name for name in own if name not in ("__dict__", "__weakref__")]


def attributes_of(value: Any, place: str) -> Iterator[tuple[str, Any]]:
    """Go through what a value keeps in attributes of its own, by their places."""
    kept = {**getattr(value, "__dict__", {}), **{name: getattr(value, name) for name in slots_of(value) if hasattr(value, name)}}
    yield from ((f"{place}.{name}", entry) for name, entry in kept.items())
