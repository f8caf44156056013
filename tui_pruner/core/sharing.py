"""Copies of a network that have only some of their modules to themselves: copying all of a thousand takes longer than running them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from tui_pruner.core.skeleton import OWN_TABLES, forget_caches, sharing_weights


def with_own(model: nn.Module, paths: Iterable[str]) -> nn.Module:
    """A copy that has the modules at these paths, and all above them, to itself, and shares every other one with the model."""
    known: dict[int, nn.Module] = {}
    top = own(model, known)
    for path in paths:
        module = top
        for part in path.split(".") if path else ():
            children: dict[str, Any] = module._modules
            module = children[part] = own(children[part], known)
    return top


def own(module: nn.Module, known: dict[int, nn.Module]) -> nn.Module:
    """A copy of one module around the same children and tensors; the copy of a copy is itself."""
    if id(module) not in known:
        twin = object.__new__(type(module))
        tables = {table: module.__dict__[table].copy() for table in OWN_TABLES}
        twin.__dict__.update({**module.__dict__, **tables})
        known[id(module)] = known[id(twin)] = twin
    return known[id(module)]


def below(model: nn.Module, prefix: str) -> list[str]:
    """The path of a module and of everything in it."""
    return [path for path, _ in model.get_submodule(prefix).named_modules(prefix=prefix)]


def in_float64(model: nn.Module, known: dict[int, Tensor]) -> nn.Module:
    """A copy in evaluation mode that computes in float64. `known` has what is converted already, by the identity of the tensor."""
    copy = sharing_weights(model)
    forget_caches(copy)
    for module in copy.modules():
        for table in (module._parameters, module._buffers):
            for name, tensor in table.items():
                if tensor is not None and (tensor.is_floating_point() or tensor.is_complex()):
                    if id(tensor) not in known:
                        known[id(tensor)] = exact(tensor)
                    table[name] = known[id(tensor)]  # type: ignore[assignment]
    return copy


def exact(tensor: Tensor) -> Tensor:
    """A tensor in float64; a parameter stays one."""
    value = tensor.detach().to(torch.complex128 if tensor.is_complex() else torch.float64)
    return nn.Parameter(value, requires_grad=False) if isinstance(tensor, nn.Parameter) else value
