"""PyTorch's own shape functions without its compiler, which the first call of them would import: a second, and 120 MB for good."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

Kernel = Callable[..., Any]
DECIDED = "__dynamo_disable"
"""Where `torch._compile` keeps the function to call instead; a PyTorch that looks elsewhere is only slower."""


@cache
def spare_compiler() -> None:
    """Tell PyTorch's meta kernels that nothing needs to be hidden from a compiler that is never used in this process."""
    from torch._compile import _disable_dynamo
    from torch._decomp import global_decomposition_table

    def anything() -> None: ...

    wrapper = getattr(_disable_dynamo(anything), "__code__", None)
    known: set[int] = set()
    waiting: list[Kernel] = [kernel for table in global_decomposition_table.values() for kernel in table.values()]
    while waiting:
        kernel = waiting.pop()
        if id(kernel) in known:
            continue
        known.add(id(kernel))
        inner = list(enclosed(kernel))
        waiting += inner
        if getattr(kernel, "__code__", None) is wrapper:
            for function in inner:
                setattr(function, DECIDED, function)


def enclosed(kernel: Kernel) -> Iterator[Kernel]:
    """The functions that a decorated function closes over."""
    for cell in getattr(kernel, "__closure__", None) or ():
        try:
            content = cell.cell_contents
        except ValueError:  # not filled yet
            continue
        if hasattr(content, "__code__"):
            yield content
