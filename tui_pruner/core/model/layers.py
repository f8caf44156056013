"""The tree that users see (sections, blocks, layers, and their names), and the width attributes of layers."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import nn
from torch.nn.utils.prune import BasePruningMethod
from torch.nn.utils.spectral_norm import SpectralNorm
from torch.nn.utils.weight_norm import WeightNorm

Section = Literal["backbone", "neck", "head"]
LAYERS = (nn.modules.conv._ConvNd, nn.Linear)
PROJECTING: list[type[nn.Module]] = []
"""Further modules whose own parameters produce channels; frameworks register them."""
LISTS = (nn.Sequential, nn.ModuleList, nn.ModuleDict)


@dataclass(frozen=True)
class ModelLayer:
    """One convolution or linear layer: the short name for users (model.6.cv1) and its module's full path (model.6.cv1.conv)."""

    name: str
    path: str
    type: str


@dataclass(frozen=True)
class Block:
    """One entry of the model's sequence, with the absolute indices of its sources (-1: the image)."""

    index: int
    path: str
    type: str
    sources: tuple[int, ...]
    section: Section
    layers: tuple[ModelLayer, ...]


def sequence(model: nn.Module) -> list[tuple[str, nn.Module]]:
    """Path and module of an Ultralytics model's blocks in order; for any other network its children and the elements of lists."""
    inner = getattr(model, "model", None)
    if isinstance(inner, nn.Sequential) and keeps_blocks(model):
        return [(f"model.{number}", block) for number, block in enumerate(inner)]
    return [found for path, child in model.named_children() for found in stages(path, child)]


IN_BLOCKS: list[str] = []
"""Prefixes of the modules of models that keep their blocks in a sequence; frameworks register them."""


def keeps_blocks(model: nn.Module) -> bool:
    """Whether a model is one of Ultralytics', or of a subclass."""
    return any(base.__module__.startswith(tuple(IN_BLOCKS)) for base in type(model).__mro__)


def stages(path: str, module: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """A module, or its elements where it is only a list."""
    if type(module) not in LISTS or not len(module._modules):
        yield path, module
        return
    for name, child in module.named_children():
        yield from stages(f"{path}.{name}", child)


def stride_of(model: nn.Module) -> int:
    """The largest stride of a model: the side of an input must be a multiple of it. At least 32."""
    stride = getattr(model, "stride", None)
    return max(32, int(stride.max())) if isinstance(stride, torch.Tensor) else 32


def legal_side(side: int, stride: int) -> int:
    """The next multiple of the stride: with other sides the branches of a Concat would differ by a pixel."""
    return max(stride, (side + stride - 1) // stride * stride)


def image_channels(model: nn.Module) -> int:
    """How many channels the model's input image has."""
    yaml = getattr(model, "yaml", None)
    if isinstance(yaml, dict) and ("channels" in yaml or "ch" in yaml):
        return int(yaml.get("channels") or yaml.get("ch") or 3)
    first = next((m for m in model.modules() if isinstance(m, nn.modules.conv._ConvNd)), None)
    return int(first.in_channels) if first is not None else 3


def layers_below(model: nn.Module, prefix: str, producing: Container[str] = ()) -> Iterator[ModelLayer]:
    """The layers of a block, in the order of its modules; `producing`: paths of modules that are layers by what they do."""
    kinds: tuple[type[nn.Module], ...] = (*LAYERS, *PROJECTING)
    for path, module in model.get_submodule(prefix).named_modules(prefix=prefix):
        if isinstance(module, kinds) or path in producing:
            yield ModelLayer(short_name(model, path), path, layer_type(module))


def short_name(model: nn.Module, path: str) -> str:
    """A layer's name without the last part, where that only says that a Conv block contains its convolution."""
    parent, _, last = path.rpartition(".")
    if last != "conv" or not parent:
        return path
    own = [child for child in model.get_submodule(parent).children() if isinstance(child, LAYERS)]
    return parent if len(own) == 1 else path


def layer_type(module: nn.Module) -> str:
    """A layer's kind in a few characters: "Conv 3x3", "Conv 3x3 /2", "DWConv 3x3", "Linear"."""
    if not isinstance(module, nn.modules.conv._ConvNd):
        kinds = {nn.Linear: "Linear", nn.MultiheadAttention: "Attention"}
        return next((name for kind, name in kinds.items() if isinstance(module, kind)), class_of(module))
    kernel = "x".join(str(side) for side in module.kernel_size)
    step = f" /{module.stride[0]}" if module.stride[0] > 1 else ""
    kind = "DWConv" if module.groups == module.in_channels > 1 else "ConvT" if module.transposed else "Conv"
    return f"{kind} {kernel}{step}"


def block_tree(model: nn.Module, yaml: dict[str, Any], producing: Container[str] = ()) -> tuple[Block, ...]:
    """The blocks of a model; its original `yaml` says how many of them are the backbone.

    `producing`: paths of modules whose own parameters produce channels, which are layers of a model that has no yaml.
    """
    blocks = sequence(model)
    if not keeps_blocks(model):
        return tuple(plain_block(model, number, path, module, producing) for number, (path, module) in enumerate(blocks))
    backbone = yaml.get("backbone")
    border = len(backbone) if isinstance(backbone, list) and 0 < len(backbone) < len(blocks) else first_branch(blocks)
    return tuple(
        Block(
            index=number,
            path=path,
            type=type(module).__name__,
            sources=sources_of(module, number),
            section="head" if number == len(blocks) - 1 else "backbone" if number < border else "neck",
            layers=tuple(layers_below(model, path)),
        )
        for number, (path, module) in enumerate(blocks)
    )


def class_of(module: nn.Module) -> str:
    """The name of a module's class, of a rewritten one that of its own."""
    return next(base.__name__ for base in type(module).__mro__ if not base.__module__.startswith("tui_pruner."))


def plain_block(model: nn.Module, number: int, path: str, module: nn.Module, producing: Container[str]) -> Block:
    """A block of a model that does not say what its blocks read; it has no section."""
    return Block(number, path, class_of(module), (), "backbone", tuple(layers_below(model, path, producing)))


def first_branch(blocks: list[tuple[str, nn.Module]]) -> int:
    """The first block that upsamples or reads several others, where the yaml does not say where the neck begins."""
    branches = (n for n, (_, m) in enumerate(blocks) if isinstance(m, nn.Upsample) or isinstance(getattr(m, "f", -1), list))
    return next(branches, len(blocks) - 1)


def sources_of(module: nn.Module, number: int) -> tuple[int, ...]:
    """The absolute indices of the blocks that a block reads."""
    given = getattr(module, "f", -1)
    return tuple(number + f if f < 0 else f for f in (given if isinstance(given, list) else [given]))


COMPUTING_HOOKS = (BasePruningMethod, WeightNorm, SpectralNorm)
"""Hooks of `torch.nn.utils` that compute a layer's weight before each forward and leave the result as an attribute."""
CONTAINERS = (nn.Sequential, nn.ModuleList, nn.ModuleDict, nn.ParameterList, nn.ParameterDict)
WIDTHS: dict[type[nn.Module], Callable[[Any], None]] = {}


ATTRIBUTES: dict[type[nn.Module], tuple[str, ...]] = {
    nn.modules.conv._ConvNd: ("in_channels", "out_channels"),
    nn.Linear: ("in_features", "out_features"),
    nn.modules.batchnorm._NormBase: ("num_features",),
    nn.GroupNorm: ("num_channels",),
    nn.PReLU: ("num_parameters",),
    nn.Embedding: ("num_embeddings", "embedding_dim"),
    nn.RNNBase: ("input_size", "hidden_size"),
    nn.RNNCellBase: ("input_size", "hidden_size"),
}
"""The integers that these functions set, beside the groups of depthwise convolutions."""


def widths_of(*classes: type[nn.Module]) -> Callable[[Callable[[Any], None]], Callable[[Any], None]]:
    """Register a function that sets the width attributes of these classes and their subclasses."""

    def register(function: Callable[[Any], None]) -> Callable[[Any], None]:
        WIDTHS.update(dict.fromkeys(classes, function))
        return function

    return register


@widths_of(nn.modules.conv._ConvNd)
def convolution(layer: Any) -> None:
    """Depthwise convolutions lose whole groups, others equally many channels in each group."""
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
    """The number of features, by whichever of weight and statistics it has."""
    known = layer.weight if layer.weight is not None else layer.running_mean
    layer.num_features = len(known)


@widths_of(nn.LayerNorm, nn.RMSNorm)
def layer_norm(layer: Any) -> None:
    """The shape that is normalised."""
    layer.normalized_shape = tuple(layer.weight.shape)


@widths_of(nn.GroupNorm)
def group_norm(layer: Any) -> None:
    """The number of channels; the groups stay as many."""
    layer.num_channels = layer.num_channels if layer.weight is None else len(layer.weight)


@widths_of(nn.PReLU)
def prelu(layer: Any) -> None:
    """One slope for each channel, or one for all."""
    layer.num_parameters = len(layer.weight)


@widths_of(nn.Embedding)
def embedding(layer: Any) -> None:
    """The number of vectors and their width."""
    layer.num_embeddings, layer.embedding_dim = layer.weight.shape


@widths_of(nn.RNNBase)
def recurrent(layer: Any) -> None:
    """The channels of an input and of the state, which is equally wide in all layers and directions."""
    layer.input_size, layer.hidden_size = layer.weight_ih_l0.shape[1], layer.weight_hh_l0.shape[1]


@widths_of(nn.RNNCellBase)
def recurrent_cell(layer: Any) -> None:
    """The channels of an input and of the state."""
    layer.input_size, layer.hidden_size = layer.weight_ih.shape[1], layer.weight_hh.shape[1]


def widths_as_built(layer: Any) -> tuple[int, int]:
    """The channels that a layer reads and produces by its attributes; 0 where it has none."""
    names = (("in_features", "out_features"), ("in_channels", "out_channels"), ("input_size", "hidden_size"), ("embed_dim", "embed_dim"))
    known = next((pair for pair in names if hasattr(layer, pair[0])), None)
    return (int(getattr(layer, known[0])), int(getattr(layer, known[1]))) if known else (0, 0)


def computing_hooks(module: nn.Module) -> list[Any]:
    """The hooks of PyTorch that compute a weight of a module before each forward."""
    return [hook for hook in module._forward_pre_hooks.values() if isinstance(hook, COMPUTING_HOOKS)]


def compute_weights(module: nn.Module) -> None:
    """Compute the weights that hooks compute: what a module has of them is from its last forward."""
    with torch.no_grad():
        for hook in computing_hooks(module):
            hook(module, ())


def rule_of(module: nn.Module) -> Callable[[Any], None] | None:
    """The function that sets a module's width attributes; None where there is none for its class."""
    return next((WIDTHS[base] for base in type(module).__mro__ if base in WIDTHS), None)


def true_widths(modules: Iterable[nn.Module]) -> None:
    """Set the width attributes of these modules by the shapes of their weights."""
    for module in modules:
        compute_weights(module)
        rule = rule_of(module)
        if rule is not None:
            rule(module)


def keeps_own_widths(module: nn.Module) -> str:
    """The name of PyTorch's class where a module keeps widths in attributes that we cannot rewrite (MultiheadAttention), else "".

    Of recurrent layers, those that keep a list of their weights beside them, or project their state.
    """
    listed = isinstance(module, nn.RNNBase) and ("_flat_weights" in vars(module) or module.proj_size > 0)
    if (rule_of(module) is not None and not listed) or isinstance(module, CONTAINERS):
        return ""
    bases = (base for base in type(module).__mro__ if base.__module__.startswith("torch.nn.modules.") and base is not nn.Module)
    return next((base.__name__ for base in bases), "")
