"""A look at a model that was just loaded and has not run yet: it calls nothing but its own layers, and is no larger than its file."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import nn

from tui_pruner.core.checkpoint.container import RETRAIN
from tui_pruner.core.skeleton import OWN_TABLES
from tui_pruner.errors import CheckpointError, UntrustedError

HOOKS = tuple(name for name in vars(nn.Module()) if "hook" in name)
REPLACES_CALL = "_compiled_call_impl"
MOST_VALUES = 1_000_000
LONGEST_NAME = 200
MADE_TO_BE_CALLED = ("torchvision.transforms.",)
"""A classifier's file holds what prepares its images."""


def require_modest(file: Path, content: Any) -> None:
    """Refuse data that is nested in itself, or that a few shared parts make endless: whoever walked it would never come back.

    Raises:
        CheckpointError: it is.
    """
    for number, _ in enumerate(values_in(content)):
        if number > MOST_VALUES:
            raise CheckpointError(f"{file} holds data without end (lists within themselves): {RETRAIN}")


def require_modest_model(file: Path, model: nn.Module, stored: int) -> None:
    """Refuse a model whose layers cannot be named, or that has more numbers than its `stored` bytes can hold.

    Raises:
        CheckpointError: it does.
    """
    tensors: dict[int, torch.Tensor] = {}
    for path, module in model.named_modules():
        if path and not is_a_name(path.rpartition(".")[2]):
            raise CheckpointError(f"{file} has a layer without a proper name ({path[:LONGEST_NAME]!r}): {RETRAIN}")
        if broken := broken_part(module):
            raise CheckpointError(f"{file} is damaged ({broken} in {path or 'the model itself'}): fetch it again, or {RETRAIN}")
        tensors |= {id(tensor): tensor for tensor in own_tensors(module)}
        require_modest(file, [value for name, value in vars(module).items() if name not in OWN_TABLES])
    numbers = sum(tensor.numel() for tensor in tensors.values())
    if numbers > stored:
        raise CheckpointError(f"{file} is damaged (its tensors claim {numbers:,} numbers, there are {stored:,} bytes): fetch it again")


def broken_part(module: nn.Module) -> str:
    """What is not as in any module: a table that is none, or a tensor that is none or empty; nothing where all is well."""
    state = vars(module)
    if odd := [table for table in OWN_TABLES if not isinstance(state.get(table), dict)]:
        return f"no table {odd[0]}"
    tensors = {**module._parameters, **module._buffers}
    odd = [name for name, tensor in tensors.items() if tensor is not None and not (isinstance(tensor, torch.Tensor) and tensor.numel())]
    return f"no numbers as {odd[0]}" if odd else ""


def require_own_calls(file: Path, model: nn.Module) -> None:
    """Refuse a model in which something else would be called than the methods of its stock layers.

    Raises:
        UntrustedError: a hook, a replaced method, or a function among the values.
    """
    for path, module in model.named_modules():
        for what in foreign_calls(module):
            at = path or "the model itself"
            raise UntrustedError(f"{file} {what} in {at}, which no stock Ultralytics model has, so it was not used: {RETRAIN}")


def foreign_calls(module: nn.Module) -> Iterator[str]:
    """What a module would call that is none of its own methods."""
    state = vars(module)
    if any(state.get(name) for name in HOOKS) or any(tensor._backward_hooks for tensor in own_tensors(module)):
        yield "has a hook"
    if state.get(REPLACES_CALL) is not None:
        yield "has a call of its own"
    for name, value in state.items():
        replaces = callable(value) and inspect.isfunction(inspect.getattr_static(type(module), name, None))
        if replaces and not is_own_method(module, value):
            yield f"has a {name!r} of its own"
        elif not replaces and name not in OWN_TABLES and any(is_foreign(one) for one in values_in(value)):
            yield f"has a function as {name!r}"


def is_own_method(module: nn.Module, value: Any) -> bool:
    """Whether it is a forward that the module's class has, as Ultralytics puts a fast one in the place of another."""
    return inspect.ismethod(value) and value.__self__ is module and value.__name__.startswith("forward")


def is_foreign(value: Any) -> bool:
    """Whether it can be called and is neither a layer nor a layer's forward."""
    if not callable(value) or isinstance(value, (nn.Module, torch.Tensor)):
        return False
    return not (getattr(value, "__name__", "").startswith("forward") or type(value).__module__.startswith(MADE_TO_BE_CALLED))


def own_tensors(module: nn.Module) -> Iterator[torch.Tensor]:
    """A module's parameters and buffers, without those of its children."""
    for table in (module._parameters, module._buffers):
        yield from (tensor for tensor in table.values() if tensor is not None)


def values_in(content: Any) -> Iterator[Any]:
    """Everything in lists and dictionaries, however deep; what is shared comes as often as it is met."""
    waiting = [content]
    while waiting:
        value = waiting.pop()
        yield value
        if isinstance(value, dict):
            waiting += [*value.keys(), *value.values()]
        elif isinstance(value, (list, tuple, set, frozenset)):
            waiting += value


def is_a_name(text: str) -> bool:
    """Whether a layer can be called so, by people and on a command line."""
    return 0 < len(text) <= LONGEST_NAME and text.isprintable() and " " not in text
