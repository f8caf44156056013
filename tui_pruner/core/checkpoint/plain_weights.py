"""Weights that hooks of `torch.nn.utils` compute before each forward, made plain: masks that pruning left, weight and spectral norms.

Stock Ultralytics cannot predict with such a model, as its fusing of normalisation gives the layers weights that the hooks then collide
with. The plain weight computes the same, and what is written afterwards is a stock model.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import nn
from torch.nn.utils import prune, remove_spectral_norm, remove_weight_norm
from torch.nn.utils.spectral_norm import SpectralNorm
from torch.nn.utils.weight_norm import WeightNorm

from tui_pruner.core.layers import computing_hooks

MASKING = [
    prune.Identity, prune.RandomUnstructured, prune.L1Unstructured, prune.RandomStructured, prune.LnStructured, prune.CustomFromMask,
    prune.PruningContainer,
]  # fmt: skip
KINDS: dict[type, tuple[str, str, Callable[..., Any], str]] = {
    prune.BasePruningMethod: ("carry masks that torch.nn.utils.prune left", "torch.nn.utils.prune.remove", prune.remove, "_tensor_name"),
    WeightNorm: ("have their weights computed by weight_norm", "torch.nn.utils.remove_weight_norm", remove_weight_norm, "name"),
    SpectralNorm: ("have their weights computed by spectral_norm", "torch.nn.utils.remove_spectral_norm", remove_spectral_norm, "name"),
}
"""By class of hook: what the layers do, how PyTorch is asked to end it, the function, and the attribute that names the weight."""
MADE_PLAIN = {f"{kind.__module__}.{kind.__qualname__}": kind for kind in (*MASKING, WeightNorm)}
"""Classes of hooks that any file may name: they hold numbers, and are called only once looked at."""
MOST_NAMED = 3


def make_plain(model: nn.Module) -> tuple[str, ...]:
    """Give every layer the weight that a hook of PyTorch's would compute, in the hook's place; what was found, in words."""
    found: dict[type, list[tuple[str, str]]] = {kind: [] for kind in KINDS}
    for path, module in model.named_modules():
        for kind, hook in known_hooks(module):
            _, _, remove, names = KINDS[kind]
            tensor = str(getattr(hook, names))
            remove(module, tensor)
            found[kind].append((path, tensor))
    return tuple(in_words(kind, layers) for kind, layers in found.items() if layers)


def known_hooks(module: nn.Module) -> Iterator[tuple[type, Any]]:
    """The hooks of a module that can be made plain, with their kind; one that brings methods of its own along is left for the refusal."""
    for hook in computing_hooks(module):
        if all(is_value(part) for part in vars(hook).values()):
            yield next(kind for kind in KINDS if isinstance(hook, kind)), hook


def is_value(part: Any) -> bool:
    """Whether it is a number, a name, a mask, a list of such, or another hook of PyTorch's that holds nothing else."""
    if isinstance(part, (tuple, list)):
        return all(is_value(one) for one in part)
    if isinstance(part, tuple(KINDS)):
        return all(is_value(one) for one in vars(part).values())
    return isinstance(part, (str, int, float, bool, type(None), torch.Tensor))


def in_words(kind: type, layers: list[tuple[str, str]]) -> str:
    """What was found and done, and how to have it so from the beginning."""
    doing, ending, _, _ = KINDS[kind]
    paths = list(dict.fromkeys(path for path, _ in layers))
    named = ", ".join(paths[:MOST_NAMED]) + (", ..." if len(paths) > MOST_NAMED else "")
    tensors = " and ".join(f"{ending}(module, {tensor!r})" for tensor in dict.fromkeys(tensor for _, tensor in layers))
    one = len(paths) == 1
    verb = doing.replace("carry", "carries", 1).replace("have", "has", 1) if one else doing
    layers_named = f"{len(paths)} layer{'' if one else 's'} {verb} ({named})"
    return f"{layers_named}: made permanent here and in what is written, as {tensors} does before saving"
