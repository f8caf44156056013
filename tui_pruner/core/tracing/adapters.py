"""What a module's forward assumes beside its weights: attributes to rewrite after a cut, and widths that must stay equal.

The core knows no library of models: a framework registers its classes here. A class is found by its name or the name of a base class, so
subclasses need no entry. A class of that name from another package does not count, and neither does a subclass that lacks the children
or attributes that an adapter reads.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from importlib.metadata import entry_points
from typing import Any

from torch import nn

from tui_pruner.core.model.copies import modules_of
from tui_pruner.core.model.layers import computing_hooks
from tui_pruner.domain.errors import RequestError, user_code

Kept = Callable[[str], Sequence[int] | None]
Adapter = Callable[[nn.Module, Kept], None]
ADAPTERS: dict[str, Adapter] = {}
ASKS: dict[str, tuple[str, ...]] = {}
"""By class: the children (a layer, or a block with one) and the attributes that its adapter reads."""
LIBRARIES: list[str] = []
"""Prefixes of the modules whose classes these tables describe."""
NAMES_MORE: set[str] = set()
"""Classes whose forward depends on further fixed widths, beside those that their adapter rewrites."""
COMPUTES: set[str] = set()
"""Classes that need no adapter: their forward takes every width from its tensors."""
EQUAL_WIDTHS: dict[str, tuple[tuple[str, str], ...]] = {}
"""By class: pairs of layers that must read equally many channels though no operation ties them."""
OWN: dict[type[nn.Module], Adapter] = {}
"""Adapters that users registered for classes of their own."""
FROM_PACKAGES: dict[type[nn.Module], Adapter] = {}
"""Those among them that installed packages registered."""
HEADED: set[str] = set()
"""Classes whose adapter also counts the heads that are left."""


COMPUTING = frozenset({nn.MultiheadAttention, nn.LSTM, nn.GRU, nn.RNN, nn.LSTMCell, nn.GRUCell, nn.RNNCell, nn.Unflatten})
"""PyTorch's classes whose forward computes with widths, or has them in attributes."""


def adapter(*classes: str, asks: Sequence[str]) -> Callable[[Adapter], Adapter]:
    """Register an adapter for modules of these classes and their subclasses; `asks`: the children and attributes that it reads."""

    def register(function: Adapter) -> Adapter:
        ADAPTERS.update(dict.fromkeys(classes, function))
        ASKS.update(dict.fromkeys(classes, tuple(asks)))
        return function

    return register


def register_own(adapters: Mapping[type[nn.Module], Adapter]) -> None:
    """Register functions of the user that update the attributes of these classes, and of their subclasses, after each cut.

    Raises:
        RequestError: a key is not a class, or a value is not a function.
    """
    if not isinstance(adapters, Mapping):
        raise RequestError(f"adapters are a {type(adapters).__name__}: give {{Class: function(module, kept)}}")
    for kind, function in adapters.items():
        if not (isinstance(kind, type) and issubclass(kind, nn.Module) and callable(function)):
            raise RequestError(f"the adapter for {kind!r} is none: adapters are {{Class: function(module, kept)}}")
    OWN.update(adapters)


ENTRY_POINTS = "tui_pruner.adapters"
"""The group of entry points by which an installed package names a module that registers adapters when it is imported."""


@cache
def installed_adapters() -> tuple[str, ...]:
    """Import what installed packages name as their adapters, once; return the names with the versions of the packages.

    Raises:
        RequestError: one cannot be imported.
    """
    found = sorted(entry_points(group=ENTRY_POINTS), key=lambda point: point.value)
    known = dict(OWN)
    for point in found:
        try:
            with user_code(f"the entry point {point.value}"):
                point.load()
        except Exception as error:
            package = point.dist.name if point.dist else "a package"
            reason = f"{type(error).__name__}: {error}"
            raise RequestError(f"the adapters of {package} ({point.value}) cannot be imported ({reason}): update or remove it") from error
    FROM_PACKAGES.update({kind: function for kind, function in OWN.items() if known.get(kind) is not function})
    return tuple(f"{point.value} {point.dist.version if point.dist else ''}" for point in found)


def adapted_by_program(network: nn.Module, with_packages: bool) -> bool:
    """Whether a module's adapter was registered by the program that runs; `with_packages`: or by an installed package."""
    own = {kind for kind, function in OWN.items() if with_packages or FROM_PACKAGES.get(kind) is not function}
    return bool(own) and any(not own.isdisjoint(kind.__mro__) for kind in {type(module) for module in network.modules()})


def own_adapter(module: nn.Module) -> Adapter | None:
    """The adapter that a user, or an installed package, registered for the nearest base class of a module."""
    kind = type(module)
    if not kind.__module__.startswith("torch.nn.") and not is_of_library(kind):
        installed_adapters()
    return next((OWN[base] for base in kind.__mro__ if base in OWN), None)


def nearest_base(module: nn.Module, table: dict[str, Any]) -> str | None:
    """The first of a module's classes, itself first, that comes from a known library, is in a table, and has what its adapter reads."""
    known = (base.__name__ for base in type(module).__mro__ if base.__name__ in table and is_of_library(base))
    return next((name for name in known if all(answers(module, asked) for asked in ASKS.get(name, ()))), None)


def runs_foreign_code(network: nn.Module) -> bool:
    """Whether any module is of another library, whose forward may compute with widths beside what adapters know (`docs/coverage.md`)."""
    known = ("torch.nn.", *LIBRARIES)
    return not all(type(module).__module__.startswith(known) and not has_own_hooks(module) for module in network.modules())


def has_own_hooks(module: nn.Module) -> bool:
    """Whether a module runs a user's code beside its class's forward."""
    hooks = (*module._forward_hooks.values(), *module._forward_pre_hooks.values(), vars(module).get("forward"))
    return any(not type(hook).__module__.startswith("torch.nn.") for hook in hooks if hook is not None)


def is_of_library(kind: type) -> bool:
    """Whether a class belongs to a library that a framework has registered."""
    return kind.__module__.startswith(tuple(LIBRARIES))


def is_plain(module: nn.Module) -> bool:
    """Whether the forward that runs is that of one of PyTorch's layers, or of a known library, and computes with no width."""
    kind = type(module)
    own = kind.__module__.startswith(("torch.nn.modules.", "tui_pruner.")) and "transformer" not in kind.__module__
    if not (own or is_of_library(kind)) or kind in COMPUTING or "forward" in module.__dict__:
        return False
    return not module._forward_pre_hooks or len(computing_hooks(module)) == len(module._forward_pre_hooks)


def answers(module: nn.Module, name: str) -> bool:
    """Whether a module has an attribute of this name, or a child of this name that is a layer or a block with a layer."""
    value = getattr(module, name, None)
    return (
        isinstance(convolution_of(module, name), (nn.modules.conv._ConvNd, nn.Linear))
        if isinstance(value, nn.Module)
        else value is not None
    )


def is_adapted(module: nn.Module) -> bool:
    """Whether every width that a module's forward uses is computed, or in an attribute that we rewrite."""
    if own_adapter(module) is not None:
        return True
    return nearest_base(module, ADAPTERS) not in (None, *NAMES_MORE) or (type(module).__name__ in COMPUTES and is_of_library(type(module)))


def has_heads(module: nn.Module) -> bool:
    """Whether a module can lose whole attention heads."""
    return nearest_base(module, ADAPTERS) in HEADED


def equal_widths(module: nn.Module) -> tuple[tuple[str, str], ...]:
    """Pairs of a module's layers that must read equally many channels though no operation ties them."""
    name = nearest_base(module, EQUAL_WIDTHS)
    return EQUAL_WIDTHS[name] if name else ()


def rewrite_attributes(model: nn.Module, kept: Kept) -> None:
    """Update every attribute of a pruned model that holds a width.

    `kept` gives the original output indices that a layer kept, by the path of the layer, or None where it kept all. An adapter uses paths
    relative to its module.
    """
    known: dict[type, bool] = {}
    for path, module in modules_of(model):
        kind = type(module)
        if kind not in known:
            known[kind] = own_adapter(module) is not None or any(base.__name__ in ADAPTERS for base in kind.__mro__)
        if not known[kind]:
            continue
        name, function = nearest_base(module, ADAPTERS), own_adapter(module)
        function = function or (ADAPTERS[name] if name is not None else None)
        if function is not None:
            function(module, lambda layer, path=path: kept(f"{path}.{layer}" if path else layer))  # type: ignore[misc]


def convolution_of(module: nn.Module, name: str) -> Any:
    """The convolution in a child, which may be a Conv block or the convolution itself."""
    child = module.get_submodule(name)
    return getattr(child, "conv", child)
