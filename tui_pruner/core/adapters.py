"""What a module's forward assumes beside its weights: attributes to rewrite after a cut, and widths that must stay equal.

A class of Ultralytics is found by name along its bases, so that C3k2 and other heirs of C2f need no entry of their own. Classes of
the same name that stand elsewhere are others, and an heir that has not what an adapter asks for is no such module.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from tui_pruner.errors import RequestError

Kept = Callable[[str], Sequence[int] | None]
Adapter = Callable[[nn.Module, Kept], None]
ADAPTERS: dict[str, Adapter] = {}
ASKS: dict[str, tuple[str, ...]] = {}
"""By class: the children (a layer, or a block with one) and the attributes that its adapter reads."""
STOCK = "ultralytics.nn."
NAMES_MORE = frozenset({"MSDeformAttn"})
"""Classes whose forward names other widths beside those that their adapter rewrites."""
COMPUTES = frozenset({"ADown", "A2C2f"})
"""Classes without such attributes: their forward asks its tensors for every width."""
EQUAL_WIDTHS: dict[str, tuple[tuple[str, str], ...]] = {
    # view(B, C, H, W) with the C of the input: all heads' values together stay as wide as the input
    "Attention": (("qkv.conv", "proj.conv"),),
}
"""By class: pairs of layers that must read equally many channels though no operation ties them."""
OWN: dict[type[nn.Module], Adapter] = {}
"""Adapters that users gave for classes of their own."""
HEADED = frozenset({"Attention", "AAttn"})
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
        RequestError: one is for no class, or is no function.
    """
    for kind, function in adapters.items():
        if not (isinstance(kind, type) and issubclass(kind, nn.Module) and callable(function)):
            raise RequestError(f"the adapter for {kind!r} is none: adapters are {{Class: function(module, kept)}}")
    OWN.update(adapters)


def own_adapter(module: nn.Module) -> Adapter | None:
    """The adapter that a user gave for the nearest class of a module."""
    return next((OWN[base] for base in type(module).__mro__ if base in OWN), None)


def nearest_base(module: nn.Module, table: dict[str, Any]) -> str | None:
    """The first of a module's classes of Ultralytics, from its own upwards, that a table knows and that the module is like."""
    known = (base.__name__ for base in type(module).__mro__ if base.__name__ in table and base.__module__.startswith(STOCK))
    return next((name for name in known if all(answers(module, asked) for asked in ASKS.get(name, ()))), None)


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
    return nearest_base(module, ADAPTERS) not in (None, *NAMES_MORE) or (
        type(module).__name__ in COMPUTES and type(module).__module__.startswith(STOCK)
    )


def has_heads(module: nn.Module) -> bool:
    """Whether a module can lose whole heads."""
    return nearest_base(module, ADAPTERS) in HEADED


def heads_left(module: nn.Module, kept: Kept, width: int) -> int:
    """How many heads still have channels; `width` is what qkv wrote for each. `num_heads` is still the original's."""
    indices = kept("qkv.conv")
    heads = int(module.num_heads)  # type: ignore[arg-type]
    return heads if indices is None else len({index // width for index in indices})


def equal_widths(module: nn.Module) -> tuple[tuple[str, str], ...]:
    """Pairs of a module's layers that must read equally many channels though no operation ties them."""
    name = nearest_base(module, EQUAL_WIDTHS)
    return EQUAL_WIDTHS[name] if name else ()


def rewrite_attributes(model: nn.Module, kept: Kept) -> None:
    """Make every attribute of a pruned model true again.

    `kept` gives the original output indices that a layer kept, by its path, or None where it kept all; an adapter asks by the path
    within its module.
    """
    for path, module in model.named_modules():
        name, function = nearest_base(module, ADAPTERS), own_adapter(module)
        function = function or (ADAPTERS[name] if name is not None else None)
        if function is not None:
            function(module, lambda layer, path=path: kept(f"{path}.{layer}" if path else layer))  # type: ignore[misc]


def convolution_of(module: nn.Module, name: str) -> Any:
    """The convolution in a child, be it a Conv block or the convolution itself."""
    child = module.get_submodule(name)
    return getattr(child, "conv", child)


@adapter("C2f", "C2", "C2PSA", "PSA", "RepNCSPELAN4", "ELAN1", asks=["cv1"])
def half_width(module: nn.Module, kept: Kept) -> None:
    """`c`: the width of each of the two halves that cv1's output is split into (`forward_split` reads it at export)."""
    module.__dict__["c"] = int(convolution_of(module, "cv1").out_channels) // 2


@adapter("Attention", asks=["qkv", "proj", "num_heads", "key_dim", "head_dim"])
def key_and_value_widths(module: nn.Module, kept: Kept) -> None:
    """Heads that are left, `head_dim` from the projection's input, `key_dim` from what else qkv writes; `scale` stays the trained one's."""
    heads = heads_left(module, kept, 2 * int(module.key_dim) + int(module.head_dim))  # type: ignore[arg-type]
    value = int(convolution_of(module, "proj").in_channels) // heads
    key = (int(convolution_of(module, "qkv").out_channels) // heads - value) // 2
    module.__dict__.update(num_heads=heads, head_dim=value, key_dim=key)


@adapter("AAttn", asks=["qkv", "num_heads", "head_dim"])
def area_attention_widths(module: nn.Module, kept: Kept) -> None:
    """Heads, `head_dim`, `all_head_dim`; the forward scales by the new head_dim, so the queries take the old scale along in their norm."""
    old = int(module.head_dim)  # type: ignore[arg-type]
    heads = heads_left(module, kept, 3 * old)
    new = int(convolution_of(module, "qkv").out_channels) // (3 * heads)
    module.__dict__.update(num_heads=heads, head_dim=new, all_head_dim=new * heads)
    if new == old:
        return
    norm = module.get_submodule("qkv.bn")
    queries = torch.arange(3 * heads * new) % (3 * new) < new
    factor = torch.where(queries, (new / old) ** 0.5, 1.0)
    for name in ("weight", "bias"):
        parameter: Any = getattr(norm, name)
        scaled = parameter.detach() * factor.to(parameter.device, parameter.dtype)
        setattr(norm, name, nn.Parameter(scaled, requires_grad=parameter.requires_grad))


@adapter("CBLinear", asks=["conv", "c2s"])
def part_widths(module: nn.Module, kept: Kept) -> None:
    """`c2s`: the widths that the output is split into, each for another level of the second backbone."""
    left = kept("conv")
    if left is not None:
        borders = np.cumsum([0, *module.c2s])  # type: ignore[misc]
        module.__dict__["c2s"] = np.histogram(left, borders)[0].tolist()


@adapter("MSDeformAttn", asks=["value_proj"])
def sampled_width(module: nn.Module, kept: Kept) -> None:
    """`d_model`: the width of the values that are sampled, all heads together."""
    module.__dict__["d_model"] = int(module.get_submodule("value_proj").out_features)  # type: ignore[arg-type]
