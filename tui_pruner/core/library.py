"""Our groups in torch-pruning's own terms: its `Group` objects, on which its criteria work unchanged."""

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

Handler = Callable[..., Any]


def handler_of(module: nn.Module, role: Role | None) -> Handler | None:
    """torch-pruning's function for a module in this role, by which its criteria know what to read; None where they read nothing there.

    The inputs of a convolution in groups are left out: torch-pruning scores them by place in the whole input, or stops (`FPGMImportance`).
    """
    if role == "in" and isinstance(module, nn.modules.conv._ConvNd) and module.groups > 1:
        return None
    if role not in ("out", "depthwise", "in") and isinstance(module, (nn.modules.conv._ConvNd, nn.Linear)):
        return None  # what a computed weight has beside its channels, such as the vectors of a spectral norm
    if isinstance(module, nn.modules.batchnorm._BatchNorm):
        return torch_pruning.prune_batchnorm_out_channels  # type: ignore[no-any-return]
    if isinstance(module, nn.modules.conv._ConvNd):
        if role == "depthwise":
            return torch_pruning.prune_depthwise_conv_out_channels  # type: ignore[no-any-return]
        return torch_pruning.prune_conv_in_channels if role == "in" else torch_pruning.prune_conv_out_channels  # type: ignore[no-any-return]
    if isinstance(module, nn.Linear):
        return torch_pruning.prune_linear_in_channels if role == "in" else torch_pruning.prune_linear_out_channels  # type: ignore[no-any-return]
    return None


def side_of(module: nn.Module, member: Member) -> Role | None:
    """The side of a layer that a member is on as the layer's class has it; a forward that uses a weight transposed has it the other way."""
    if member.role not in ("out", "in") or not member.axis.is_weight or not isinstance(module, (nn.modules.conv._ConvNd, nn.Linear)):
        return member.role
    return "out" if member.axis.dim == int(getattr(module, "transposed", False)) else "in"


def one_per_module(members: Iterable[Member]) -> list[Member]:
    """Each module's axis once, by its weight where it has one: torch-pruning cuts bias and statistics along with the weight."""
    best: dict[tuple[str, bool], Member] = {}
    for member in members:
        key = (member.axis.module, member.role == "in")
        if key not in best or (member.axis.is_weight and member.role is not None):
            best[key] = member
    return list(best.values())


def library_group(members: Iterable[Member], modules: dict[str, nn.Module]) -> Group:
    """A torch-pruning `Group` of what its criteria can read in these members, all channels. Its root is the first producer."""
    ordered = sorted(one_per_module(members), key=lambda member: not member.produces)
    group = Group()
    root: Node | None = None
    trigger: Handler | None = None
    for member in ordered:
        module = modules[member.axis.module]
        handler = handler_of(module, side_of(module, member))
        if handler is None:
            continue
        node = Node(module, None, member.axis.module)
        root, trigger = root or node, trigger or handler
        indices = member.indices
        own, roots = indices.reshape(-1), np.repeat(np.arange(len(indices)), indices.shape[1])
        order = np.argsort(own)  # torch-pruning's gradient criteria sort `idxs`, and leave `root_idxs` behind
        item = GroupItem(dep=Dependency(trigger, handler, root, node), idxs=own[order].tolist())
        item.root_idxs = roots[order].tolist()  # where torch-pruning's graph keeps them too: the constructor takes none
        group.items.append(item)
    return group


def modules_of(model: nn.Module) -> dict[str, nn.Module]:
    """Every module by its path."""
    return dict(model.named_modules())
