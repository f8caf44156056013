"""Inner blocks that a forward may be able to do without: the repeats of C2f, C3k2, C2PSA, A2C2f, RepC3 and others, found in the structure.

What a repeat hands out must be as large as what it reads; the trace knows. A repeat that adds something to its input is the input alone
where the last layers of what it adds are zero: `silenced_by` names their parameters, and the masked twin has them at zero.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from torch import nn

from tui_pruner.core.adapters import STOCK, nearest_base
from tui_pruner.core.blocks import is_ultralytics

REPEATS = "m"
"""The attribute in which Ultralytics' blocks keep their repeats."""
STAY_ZERO = (nn.SiLU, nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.GELU, nn.Hardswish, nn.Mish, nn.ELU, nn.PReLU, nn.Tanh, nn.Identity)
"""Activations that leave zero at zero."""
Ends = Callable[[Any], list[str]]
ENDS: dict[str, Ends] = {
    "Bottleneck": lambda module: ["cv2"] if module.add else [],
    "CIB": lambda module: ["cv1.4"] if module.add else [],
    "GhostBottleneck": lambda module: ["conv.2.cv1", "conv.2.cv2"] if isinstance(module.shortcut, nn.Identity) else [],
    "PSABlock": lambda module: ["attn.proj", "ffn.1"] if module.add else [],
    "ABlock": lambda module: ["attn.proj", "mlp.1"],
}
"""By class: the last layers of all that is added to the input; none where it is not added."""


def repeats_of(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Path and module of every repeat, and of the parts of one that is itself a sequence; of a plain model the blocks in its lists."""
    if not is_ultralytics(model):
        yield from listed(model)
        return
    for path, module in model.named_modules():
        repeats = module._modules.get(REPEATS)
        if isinstance(repeats, (nn.ModuleList, nn.Sequential)) and any(base.__module__.startswith(STOCK) for base in type(module).__mro__):
            yield from parts_of(f"{path}.{REPEATS}" if path else REPEATS, repeats)


def listed(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Path and module of everything in lists and sequences that is made of layers."""
    for path, module in model.named_modules():
        if type(module) in (nn.Sequential, nn.ModuleList):
            for name, part in module.named_children():
                if next(part.parameters(), None) is not None and next(part.children(), None) is not None:
                    yield f"{path}.{name}" if path else name, part


def parts_of(path: str, container: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """The children of a container that have parameters, and theirs where they are sequences."""
    for name, part in container.named_children():
        if next(part.parameters(), None) is not None:
            yield f"{path}.{name}", part
            if isinstance(part, nn.Sequential):
                yield from parts_of(f"{path}.{name}", part)


def silenced_by(module: nn.Module) -> tuple[str, ...]:
    """The parameters of a module that make it hand out its input where they are zero; empty where none are known."""
    if type(module) is nn.Sequential:
        parts = {name: silenced_by(part) for name, part in module.named_children()}
        return tuple(f"{name}.{found}" for name, names in parts.items() for found in names) if all(parts.values()) else ()
    name = nearest_base(module, ENDS)
    try:
        ends = {end: module.get_submodule(end) for end in (ENDS[name](module) if name else [])}
    except AttributeError:
        return ()
    found = {end: scales_of(layer) for end, layer in ends.items()}
    return tuple(f"{end}.{scale}" for end, names in found.items() for scale in names) if all(found.values()) else ()


def scales_of(layer: nn.Module) -> list[str]:
    """The parameters of a Conv block that make its output zero: those of its norm, or of the convolution where it has none."""
    activation = getattr(layer, "act", None)
    if not isinstance(activation, STAY_ZERO):
        return []
    last = "bn" if isinstance(getattr(layer, "bn", None), nn.BatchNorm2d) else "conv"
    names = [f"{last}.{name}" for name, _ in getattr(layer, last, nn.Identity()).named_parameters(recurse=False)]
    return names if f"{last}.weight" in names else []
