"""What PyTorch's own layers say about their widths beside their weights; after a cut it is read off the weights again."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import nn
from torch.nn.utils.prune import BasePruningMethod
from torch.nn.utils.spectral_norm import SpectralNorm
from torch.nn.utils.weight_norm import WeightNorm

COMPUTING_HOOKS = (BasePruningMethod, WeightNorm, SpectralNorm)
"""What `torch.nn.utils` hangs before a layer's forward to have its weight computed; the result stays behind as an attribute."""
CONTAINERS = (nn.Sequential, nn.ModuleList, nn.ModuleDict, nn.ParameterList, nn.ParameterDict)
WIDTHS: dict[type[nn.Module], Callable[[Any], None]] = {}


def widths_of(*classes: type[nn.Module]) -> Callable[[Callable[[Any], None]], Callable[[Any], None]]:
    """Register a function that makes the width attributes of these classes and their heirs true."""

    def register(function: Callable[[Any], None]) -> Callable[[Any], None]:
        WIDTHS.update(dict.fromkeys(classes, function))
        return function

    return register


@widths_of(nn.modules.conv._ConvNd)
def convolution(layer: Any) -> None:
    """Depthwise convolutions lose whole groups, others the same number in each."""
    weight, depthwise = layer.weight, layer.groups == layer.in_channels > 1
    if depthwise:
        layer.groups = weight.shape[0] if layer.transposed else weight.shape[0] * layer.groups // layer.out_channels
    narrow, wide = (weight.shape[0], weight.shape[1]) if layer.transposed else (weight.shape[1], weight.shape[0])
    if layer.transposed:
        layer.in_channels, layer.out_channels = narrow, wide * layer.groups
    else:
        layer.in_channels, layer.out_channels = narrow * layer.groups, wide


@widths_of(nn.Linear)
def linear(layer: Any) -> None:
    """Features in and out."""
    layer.out_features, layer.in_features = layer.weight.shape


@widths_of(nn.modules.batchnorm._NormBase)
def batch_norm(layer: Any) -> None:
    """The number of features, of what the layer has: weight or statistics."""
    known = layer.weight if layer.weight is not None else layer.running_mean
    layer.num_features = len(known)


@widths_of(nn.LayerNorm)
def layer_norm(layer: Any) -> None:
    """The shape that is normalised."""
    layer.normalized_shape = tuple(layer.weight.shape)


@widths_of(nn.PReLU)
def prelu(layer: Any) -> None:
    """One slope for each channel, or one for all."""
    layer.num_parameters = len(layer.weight)


@widths_of(nn.Embedding)
def embedding(layer: Any) -> None:
    """The number of vectors and their width."""
    layer.num_embeddings, layer.embedding_dim = layer.weight.shape


def computing_hooks(module: nn.Module) -> list[Any]:
    """The hooks of PyTorch's own that compute a weight of a module before each forward."""
    return [hook for hook in module._forward_pre_hooks.values() if isinstance(hook, COMPUTING_HOOKS)]


def compute_weights(module: nn.Module) -> None:
    """Bring weights up to date that hooks compute: what a module has of them is from its last forward."""
    with torch.no_grad():
        for hook in computing_hooks(module):
            hook(module, ())


def rule_of(module: nn.Module) -> Callable[[Any], None] | None:
    """What makes a module's width attributes true, if it is a layer that we know."""
    return next((WIDTHS[base] for base in type(module).__mro__ if base in WIDTHS), None)


def true_widths(modules: Iterable[nn.Module]) -> None:
    """Make the width attributes of these modules what their weights' shapes say."""
    for module in modules:
        compute_weights(module)
        rule = rule_of(module)
        if rule is not None:
            rule(module)


def keeps_own_widths(module: nn.Module) -> str:
    """The name of PyTorch's class where a module keeps widths in attributes that we cannot rewrite (LSTM, MultiheadAttention), else ""."""
    if rule_of(module) is not None or isinstance(module, CONTAINERS):
        return ""
    bases = (base for base in type(module).__mro__ if base.__module__.startswith("torch.nn.modules.") and base is not nn.Module)
    return next((base.__name__ for base in bases), "")
