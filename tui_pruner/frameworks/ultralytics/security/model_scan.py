"""Checks of a loaded model before it runs, after its wrappers were removed.

It may call nothing but its own layers, and hold no more numbers than its file.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn.utils import prune, remove_spectral_norm, remove_weight_norm
from torch.nn.utils.spectral_norm import SpectralNorm
from torch.nn.utils.weight_norm import WeightNorm

from tui_pruner.core.model.copies import OWN_TABLES
from tui_pruner.core.model.layers import computing_hooks
from tui_pruner.domain.errors import CheckpointError, UntrustedError
from tui_pruner.storage.model_file import RETRAIN

WRAPPERS = {
    "torch.nn.parallel.data_parallel.DataParallel",
    "torch.nn.parallel.distributed.DistributedDataParallel",
    "torch.optim.swa_utils.AveragedModel",
    "torch._dynamo.eval_frame.OptimizedModule",
}
COMPILER = ("torch._dynamo.", "torch._inductor.", "torch._TorchCompile")
"""Modules of a compiled model's other parts: they differ between versions of PyTorch, and are not needed here."""
INSIDE = ("module", "_orig_mod")


class Wrapper(nn.Module):
    """Replaces a module that only calls another one, without loading what it needs: processes, devices, a compiler."""

    def __init__(self, inside: nn.Module | None = None, *others: object) -> None:
        super().__init__()
        if inside is not None:
            self.module = inside

    def __setstate__(self, state: dict[str, Any]) -> None:
        inside = self.__dict__.get("_modules") or {}
        self.__dict__.update(state)
        self.__dict__["_modules"] = {**inside, **state.get("_modules", {})}

    @property
    def inside(self) -> nn.Module | None:
        """The module that it calls."""
        held = self.__dict__.get("_modules") or {}
        return next((held[name] for name in INSIDE if isinstance(held.get(name), nn.Module)), None)


class Ignored:
    """Replaces a part of a compiled model."""

    def __init__(self, *arguments: object, **options: object) -> None:
        """Accept any arguments."""

    def __setstate__(self, state: object) -> None:
        """Ignore the state."""

    def __getattr__(self, name: str) -> Ignored:
        if name.startswith("__"):
            raise AttributeError(name)
        return Ignored()


def unwrapped(model: nn.Module) -> nn.Module:
    """The model without wrappers around it or its parts; one that wraps itself stays as it is."""
    model = innermost(model)
    for module in list(model.modules()):
        for name, part in module._modules.items():
            if isinstance(part, Wrapper):
                module._modules[name] = innermost(part)
    return model


def innermost(model: nn.Module) -> nn.Module:
    """The module inside one or more wrappers."""
    met: set[int] = set()
    while isinstance(model, Wrapper) and model.inside is not None and id(model) not in met:
        met.add(id(model))
        model = model.inside
    return model


MASKING = [
    prune.Identity, prune.RandomUnstructured, prune.L1Unstructured, prune.RandomStructured, prune.LnStructured, prune.CustomFromMask,
    prune.PruningContainer,
]  # fmt: skip
KINDS: dict[type, tuple[str, str, Callable[..., Any], str]] = {
    prune.BasePruningMethod: ("carry masks that torch.nn.utils.prune left", "torch.nn.utils.prune.remove", prune.remove, "_tensor_name"),
    WeightNorm: ("have their weights computed by weight_norm", "torch.nn.utils.remove_weight_norm", remove_weight_norm, "name"),
    SpectralNorm: ("have their weights computed by spectral_norm", "torch.nn.utils.remove_spectral_norm", remove_spectral_norm, "name"),
}
"""By class of hook: what the layers do, how PyTorch would remove it, the function, and the attribute that names the weight."""
MADE_PLAIN = {f"{kind.__module__}.{kind.__qualname__}": kind for kind in (*MASKING, WeightNorm)}
"""Classes of hooks that any file may name: they hold numbers, and are checked before they are called."""
MOST_NAMED = 3


def make_plain(model: nn.Module) -> tuple[str, ...]:
    """Give every layer the weight that a hook of PyTorch would compute, and remove the hook; return what was found, in words."""
    found: dict[type, list[tuple[str, str]]] = {kind: [] for kind in KINDS}
    for path, module in model.named_modules():
        for kind, hook in known_hooks(module):
            _, _, remove, names = KINDS[kind]
            tensor = str(getattr(hook, names))
            remove(module, tensor)
            found[kind].append((path, tensor))
    return tuple(in_words(kind, layers) for kind, layers in found.items() if layers)


def known_hooks(module: nn.Module) -> Iterator[tuple[type, Any]]:
    """The hooks of a module that can be removed, with their kind; a hook with its own methods is left for `require_own_calls` to refuse."""
    for hook in computing_hooks(module):
        if all(is_value(part) for part in vars(hook).values()):
            yield next(kind for kind in KINDS if isinstance(hook, kind)), hook


def is_value(part: Any) -> bool:
    """Whether it is a number, a name, a mask, a list of such, or another hook of PyTorch that holds nothing else."""
    if isinstance(part, (tuple, list)):
        return all(is_value(one) for one in part)
    if isinstance(part, tuple(KINDS)):
        return all(is_value(one) for one in vars(part).values())
    return isinstance(part, (str, int, float, bool, type(None), torch.Tensor))


def in_words(kind: type, layers: list[tuple[str, str]]) -> str:
    """What was found and done, and how to avoid it."""
    doing, ending, _, _ = KINDS[kind]
    paths = list(dict.fromkeys(path for path, _ in layers))
    named = ", ".join(paths[:MOST_NAMED]) + (", ..." if len(paths) > MOST_NAMED else "")
    tensors = " and ".join(f"{ending}(module, {tensor!r})" for tensor in dict.fromkeys(tensor for _, tensor in layers))
    one = len(paths) == 1
    verb = doing.replace("carry", "carries", 1).replace("have", "has", 1) if one else doing
    layers_named = f"{len(paths)} layer{'' if one else 's'} {verb} ({named})"
    return f"{layers_named}: made permanent here and in what is written, as {tensors} does before saving"


HOOKS = tuple(name for name in vars(nn.Module()) if "hook" in name)
REPLACES_CALL = "_compiled_call_impl"
MOST_VALUES = 1_000_000
LONGEST_NAME = 200
MADE_TO_BE_CALLED = ("torchvision.transforms.",)
"""A classifier's file contains the transforms of its images."""


def require_modest(file: Path, content: Any) -> None:
    """Refuse data that is nested in itself, or expands without limit through shared parts.

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
    """What is malformed in a module: a missing table, or a tensor that is missing or empty; empty where nothing is."""
    state = vars(module)
    if odd := [table for table in OWN_TABLES if not isinstance(state.get(table), dict)]:
        return f"no table {odd[0]}"
    tensors = {**module._parameters, **module._buffers}
    odd = [name for name, tensor in tensors.items() if tensor is not None and not (isinstance(tensor, torch.Tensor) and tensor.numel())]
    return f"no numbers as {odd[0]}" if odd else ""


def require_own_calls(file: Path, model: nn.Module) -> None:
    """Refuse a model that would call anything but the methods of its stock layers.

    Raises:
        UntrustedError: a hook, a replaced method, or a function among the values.
    """
    for path, module in model.named_modules():
        for what in foreign_calls(module):
            at = path or "the model itself"
            raise UntrustedError(f"{file} {what} in {at}, which no stock Ultralytics model has, so it was not used: {RETRAIN}")


def foreign_calls(module: nn.Module) -> Iterator[str]:
    """What a module would call beside its own methods."""
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
    """Whether it is a forward of the module's class, since Ultralytics replaces one forward by a faster one."""
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
    """Everything in lists and dictionaries, at any depth; shared values are returned each time."""
    waiting = [content]
    while waiting:
        value = waiting.pop()
        yield value
        if isinstance(value, dict):
            waiting += [*value.keys(), *value.values()]
        elif isinstance(value, (list, tuple, set, frozenset)):
            waiting += value


def is_a_name(text: str) -> bool:
    """Whether a layer can have this name, for display and on a command line."""
    return 0 < len(text) <= LONGEST_NAME and text.isprintable() and " " not in text
