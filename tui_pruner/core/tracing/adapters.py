"""What a module's forward assumes beside its weights: attributes to rewrite after a cut, and widths that must stay equal.

The core knows no library of models: a framework enters its classes here. A class is found by name along its bases, so that heirs need no
entry of their own. Classes of the same name that stand elsewhere are others, and an heir that has not what an adapter asks for is no
such module.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import nn

from tui_pruner.core.model.copies import modules_of
from tui_pruner.domain.errors import RequestError

Kept = Callable[[str], Sequence[int] | None]
Adapter = Callable[[nn.Module, Kept], None]
ADAPTERS: dict[str, Adapter] = {}
ASKS: dict[str, tuple[str, ...]] = {}
"""By class: the children (a layer, or a block with one) and the attributes that its adapter reads."""
LIBRARIES: list[str] = []
"""What the names of the modules begin with whose classes these tables mean."""
NAMES_MORE: set[str] = set()
"""Classes whose forward names other widths beside those that their adapter rewrites."""
COMPUTES: set[str] = set()
"""Classes without such attributes: their forward asks its tensors for every width."""
EQUAL_WIDTHS: dict[str, tuple[tuple[str, str], ...]] = {}
"""By class: pairs of layers that must read equally many channels though no operation ties them."""
OWN: dict[type[nn.Module], Adapter] = {}
"""Adapters that users gave for classes of their own."""
HEADED: set[str] = set()
"""Classes whose adapter also counts the heads that are left."""


def adapter(*classes: str, asks: Sequence[str]) -> Callable[[Adapter], Adapter]:
    """Register a function for modules of these class names and their heirs, with what it asks a module for."""

    def register(function: Adapter) -> Adapter:
        ADAPTERS.update(dict.fromkeys(classes, function))
        ASKS.update(dict.fromkeys(classes, tuple(asks)))
        return function

    return register


def register_own(adapters: Mapping[type[nn.Module], Adapter]) -> None:
    """Have functions of a user's make the attributes of their classes, and of the heirs of these, true after each cut.

    Raises:
        RequestError: an entry is for no class, or is not a function.
    """
    for kind, function in adapters.items():
        if not (isinstance(kind, type) and issubclass(kind, nn.Module) and callable(function)):
            raise RequestError(f"the adapter for {kind!r} is none: adapters are {{Class: function(module, kept)}}")
    OWN.update(adapters)


def own_adapter(module: nn.Module) -> Adapter | None:
    """The adapter that a user gave for the nearest class of a module."""
    return next((OWN[base] for base in type(module).__mro__ if base in OWN), None)


def nearest_base(module: nn.Module, table: dict[str, Any]) -> str | None:
    """The first of a module's classes of a known library, from its own upwards, that a table knows and that the module is like."""
    known = (base.__name__ for base in type(module).__mro__ if base.__name__ in table and is_of_library(base))
    return next((name for name in known if all(answers(module, asked) for asked in ASKS.get(name, ()))), None)


def is_of_library(kind: type) -> bool:
    """Whether a class stands in a library that a framework has entered."""
    return kind.__module__.startswith(tuple(LIBRARIES))


def answers(module: nn.Module, name: str) -> bool:
    """Whether a module has such an attribute, or a layer or a block with one as a child of this name."""
    value = getattr(module, name, None)
    return (
        isinstance(convolution_of(module, name), (nn.modules.conv._ConvNd, nn.Linear))
        if isinstance(value, nn.Module)
        else value is not None
    )


def is_adapted(module: nn.Module) -> bool:
    """Whether all widths that a module's forward names are computed, or attributes that we rewrite."""
    if own_adapter(module) is not None:
        return True
    return nearest_base(module, ADAPTERS) not in (None, *NAMES_MORE) or (type(module).__name__ in COMPUTES and is_of_library(type(module)))


def has_heads(module: nn.Module) -> bool:
    """Whether a module can lose whole heads."""
    return nearest_base(module, ADAPTERS) in HEADED


def equal_widths(module: nn.Module) -> tuple[tuple[str, str], ...]:
    """Pairs of a module's layers that must read equally many channels though no operation ties them."""
    name = nearest_base(module, EQUAL_WIDTHS)
    return EQUAL_WIDTHS[name] if name else ()


def rewrite_attributes(model: nn.Module, kept: Kept) -> None:
    """Make every attribute of a pruned model true again.

    `kept` gives the original output indices that a layer kept, by its path, or None where it kept all; an adapter asks by the path
    within its module.
    """
    for path, module in modules_of(model):
        name, function = nearest_base(module, ADAPTERS), own_adapter(module)
        function = function or (ADAPTERS[name] if name is not None else None)
        if function is not None:
            function(module, lambda layer, path=path: kept(f"{path}.{layer}" if path else layer))  # type: ignore[misc]


def convolution_of(module: nn.Module, name: str) -> Any:
    """The convolution in a child, be it a Conv block or the convolution itself."""
    child = module.get_submodule(name)
    return getattr(child, "conv", child)
