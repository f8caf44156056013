"""Our groups in torch-pruning's own terms: its `Group` objects, on which its criteria and its layer surgery work unchanged."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import torch_pruning
from torch import nn
from torch_pruning._helpers import GroupItem
from torch_pruning.dependency import Dependency, Group, Node

from tui_pruner.core.flow.record import Role
from tui_pruner.core.groups import Member
from tui_pruner.errors import RequestError

Handler = Callable[..., Any]


def handler_of(module: nn.Module, role: Role | None) -> Handler:
    """torch-pruning's function that takes channels out of a module in this role."""
    if isinstance(module, nn.modules.batchnorm._BatchNorm):
        return torch_pruning.prune_batchnorm_out_channels  # type: ignore[no-any-return]
    if isinstance(module, nn.modules.conv._ConvNd):
        if role == "depthwise":
            return torch_pruning.prune_depthwise_conv_out_channels  # type: ignore[no-any-return]
        return torch_pruning.prune_conv_in_channels if role == "in" else torch_pruning.prune_conv_out_channels  # type: ignore[no-any-return]
    if isinstance(module, nn.Linear):
        return torch_pruning.prune_linear_in_channels if role == "in" else torch_pruning.prune_linear_out_channels  # type: ignore[no-any-return]
    raise RequestError(f"a {type(module).__name__} cannot be cut: no surgery for this kind of module")


def one_per_module(members: Iterable[Member]) -> list[Member]:
    """Each module's axis once, by its weight where it has one: torch-pruning cuts bias and statistics along with the weight."""
    best: dict[tuple[str, bool], Member] = {}
    for member in members:
        key = (member.axis.module, member.role == "in")
        if key not in best or member.axis.parameter.endswith(".weight"):
            best[key] = member
    return list(best.values())


def library_group(members: Iterable[Member], modules: dict[str, nn.Module], places: np.ndarray[Any, Any] | None = None) -> Group:
    """A torch-pruning `Group` of these members: all channels, or those at `places`. Its root is the first producer."""
    known = (member for member in one_per_module(members) if not reads_in_groups(modules[member.axis.module], member.role))
    ordered = sorted(known, key=lambda member: not member.produces)
    group = Group()
    root: Node | None = None
    trigger: Handler | None = None
    for member in ordered:
        module = modules[member.axis.module]
        handler = handler_of(module, member.role)
        node = Node(module, None, member.axis.module)
        root, trigger = root or node, trigger or handler
        chosen = np.arange(len(member.indices)) if places is None else places
        indices = member.indices[chosen]
        own, roots = indices.reshape(-1), np.repeat(np.arange(len(indices)), indices.shape[1])
        order = np.argsort(own)  # torch-pruning's gradient criteria sort `idxs`, and leave `root_idxs` behind
        item = GroupItem(dep=Dependency(trigger, handler, root, node), idxs=own[order].tolist())
        item.root_idxs = roots[order].tolist()  # where torch-pruning's graph keeps them too: the constructor takes none
        group.items.append(item)
    return group


def reads_in_groups(module: nn.Module, role: Role | None) -> bool:
    """The inputs of a convolution in groups: torch-pruning scores them by place in the whole input, or stops (`FPGMImportance`)."""
    return role == "in" and isinstance(module, nn.modules.conv._ConvNd) and module.groups > 1


def modules_of(model: nn.Module) -> dict[str, nn.Module]:
    """Every module by its path."""
    return dict(model.named_modules())
