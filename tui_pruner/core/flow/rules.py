"""The table from aten operation to what it does to channels; `rule` adds to it, and what is not in it locks what enters it.

The semantics are those of the masked twin: a channel may be removed where the same network with that channel's slices set to zero computes
the same. See `docs/architecture.md`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from torch import Tensor

from tui_pruner.core.flow.evaluate import tensors_in

if TYPE_CHECKING:
    from tui_pruner.core.flow.state import Flow


@dataclass(frozen=True)
class Call:
    """One operation as it ran."""

    index: int
    name: str
    module: str
    function: Any
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    result: Any

    @cached_property
    def tensors(self) -> list[Tensor]:
        """The tensors that entered."""
        return [*tensors_in(self.args), *tensors_in(tuple(self.kwargs.values()))]

    @cached_property
    def outputs(self) -> list[Tensor]:
        """The tensors that came out."""
        return tensors_in(self.result)

    def argument(self, position: int, name: str, default: Any = None) -> Any:
        """An argument by position or by name."""
        return self.args[position] if len(self.args) > position else self.kwargs.get(name, default)


Rule = Callable[["Flow", Call], None]
RULES: dict[str, Rule] = {}
KERNEL_RULES: dict[str, Rule] = {}
"""What the same operations do to weights, whose elements belong to several channels each."""


def kernel_rule(names: str) -> Callable[[Rule], Rule]:
    """Register a function as the rule of these operations where they work on weights, on their way to what reads them."""
    return into(KERNEL_RULES, names)


def rule(names: str) -> Callable[[Rule], Rule]:
    """Register a function as the rule of these aten operations (names between spaces), and of their in-place forms."""
    return into(RULES, names)


def into(table: dict[str, Rule], names: str) -> Callable[[Rule], Rule]:
    """Register a function in a table under these names and their in-place forms."""

    def register(function: Rule) -> Rule:
        for name in names.split():
            table[name] = table[f"{name}_"] = function
        return function

    return register
