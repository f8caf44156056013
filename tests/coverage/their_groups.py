"""torch-pruning's own groups as plain data, and what they do to a model when a quarter of their channels goes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch_pruning
from torch import Tensor, nn
from torch_pruning.dependency import Dependency, DependencyGraph, Group

from tui_pruner.core.model.copies import sharing_weights

NORMS = (nn.modules.batchnorm._BatchNorm, nn.LayerNorm, nn.GroupNorm)


@dataclass(frozen=True)
class Share:
    """What a group takes from one parameter: the index there, and beside it the root channel that it belongs to."""

    parameter: str
    dim: int
    indices: list[int]
    roots: list[int]


def traced(model: nn.Module, image: Tensor) -> tuple[DependencyGraph, list[Group]]:
    """torch-pruning's graph of a model and all its groups."""
    graph = DependencyGraph()
    graph.build_dependency(model, (image,), verbose=False)
    return graph, list(graph.get_all_groups())


def root_of(graph: DependencyGraph, group: Group) -> str:
    """The module that a group begins with."""
    return str(graph._module2name[group[0].dep.target.module])


def shares(graph: DependencyGraph, group: Group) -> list[Share]:
    """A group's parts in weights; biases and statistics follow their weights."""
    found = []
    for item in group.items:
        place = place_of(graph, item.dep)
        if place is not None:
            found.append(Share(*place, [int(i) for i in item.idxs], [int(i) for i in item.root_idxs]))
    return found


def place_of(graph: DependencyGraph, dependency: Dependency) -> tuple[str, int] | None:
    """The parameter and dimension that a dependency cuts, or None for an operation without weights."""
    target = dependency.target.module
    if isinstance(target, nn.Parameter):
        return graph._param_to_name[target], dependency.target.pruning_dim % target.ndim
    name = graph._module2name.get(target)
    if name is None or getattr(target, "weight", None) is None:
        return None
    if isinstance(target, NORMS):
        return f"{name}.weight", 0
    one_to_one = dependency.handler in (torch_pruning.prune_depthwise_conv_out_channels, torch_pruning.prune_depthwise_conv_in_channels)
    out = one_to_one or graph.is_out_channel_pruning_fn(dependency.handler)
    transposed = getattr(target, "transposed", False)
    return f"{name}.weight", 0 if out != transposed else 1


def pruned_by(graph: DependencyGraph, group: Group, model: nn.Module) -> nn.Module:
    """A copy of the graph's model that torch-pruning's own functions have cut."""
    copy = sharing_weights(model)
    for item in group.items:
        target = item.dep.target.module
        item.dep.handler.__self__.pruning_dim = item.dep.target.pruning_dim  # as its own Dependency does before each call
        if isinstance(target, nn.Parameter):
            replace(copy, graph._param_to_name[target], item.dep.handler(target, item.idxs))
        elif target in graph._module2name:
            item.dep.handler(copy.get_submodule(graph._module2name[target]), item.idxs)
    return copy


def twin_of(graph: DependencyGraph, group: Group, model: nn.Module) -> nn.Module:
    """A copy of the model in which what a group removes is zero: the weights, and the biases and shifts beside them."""
    twin = sharing_weights(model)
    for share in shares(graph, group):
        silence(twin, share.parameter, share.dim, share.indices)
        path, _, last = share.parameter.rpartition(".")
        module = twin.get_submodule(path)
        written = 1 if getattr(module, "transposed", False) else 0
        if last == "weight" and share.dim == written and getattr(module, "bias", None) is not None:
            silence(twin, f"{path}.bias", 0, share.indices)
    return twin


def silence(model: nn.Module, name: str, dim: int, indices: Sequence[int]) -> None:
    """Put a parameter with zeros at these indices in the place of the shared one."""
    parameter = model.get_parameter(name).detach().clone()
    parameter.index_fill_(dim, torch.tensor(indices, dtype=torch.long), 0.0)
    replace(model, name, nn.Parameter(parameter, requires_grad=False))


def replace(model: nn.Module, name: str, parameter: nn.Parameter) -> None:
    """Put another parameter in the place of one."""
    path, _, attribute = name.rpartition(".")
    setattr(model.get_submodule(path), attribute, parameter)
