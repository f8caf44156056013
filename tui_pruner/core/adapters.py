"""Attributes that a module keeps beside its weights and that its forward reads: rewritten after every cut.

A class is found by name along its bases, so that C3k2 and other heirs of C2f need no entry of their own.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import nn

Adapter = Callable[[nn.Module], None]
ADAPTERS: dict[str, Adapter] = {}


def adapter(*classes: str) -> Callable[[Adapter], Adapter]:
    """Register a function for modules of these class names and their heirs."""

    def register(function: Adapter) -> Adapter:
        ADAPTERS.update(dict.fromkeys(classes, function))
        return function

    return register


@adapter("C2f", "C2", "C2PSA", "PSA", "RepNCSPELAN4", "ELAN1")
def half_width(module: nn.Module) -> None:
    """`c`: the width of each of the two halves that cv1's output is split into (`forward_split` reads it at export)."""
    first = module.get_submodule("cv1")
    convolution: Any = getattr(first, "conv", first)
    module.__dict__["c"] = int(convolution.out_channels) // 2


def rewrite_attributes(model: nn.Module) -> None:
    """Make every attribute of a pruned model true again."""
    for module in model.modules():
        for base in type(module).__mro__:
            if base.__name__ in ADAPTERS:
                ADAPTERS[base.__name__](module)
                break
