"""Apply a plan: take the channels out of the layers, through torch-pruning, on a copy that shares every untouched tensor."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from torch import nn

from tui_pruner.core.adapters import rewrite_attributes
from tui_pruner.core.analysis import trace_model
from tui_pruner.core.checkpoint import Checkpoint
from tui_pruner.core.flow.record import Role
from tui_pruner.core.groups import CouplingMap, Indices
from tui_pruner.core.library import modules_of, one_per_module, surgery_group
from tui_pruner.core.plan import parse_plan, replay
from tui_pruner.core.removal import Removal
from tui_pruner.core.skeleton import sharing_weights


def cut(model: nn.Module, coupling: CouplingMap, removal: Removal) -> nn.Module:
    """A copy of a model without the removed channels; works on the meta device too. The model itself stays as it is.

    Raises:
        PlanError: the removal breaks a lock or a link.
    """
    removal.check(coupling)
    pruned = sharing_weights(model)
    modules = modules_of(pruned)
    cuts: dict[tuple[str, Role | None], list[Indices]] = {}
    for number, places in removal.places.items():
        for member in one_per_module(coupling.groups[number].members):
            role: Role | None = "in" if member.role == "in" else "depthwise" if member.role == "depthwise" else "out"
            cuts.setdefault((member.axis.module, role), []).append(member.indices[places].reshape(-1))
    gone = {key: [int(i) for i in np.unique(np.concatenate(indices))] for key, indices in cuts.items()}
    surgery_group(gone, modules).prune(record_history=False)
    rewrite_attributes(pruned, lambda layer: outputs_left(coupling, layer, gone.get((layer, "out"))))
    return pruned


def outputs_left(coupling: CouplingMap, layer: str, gone: Sequence[int] | None) -> list[int] | None:
    """The original output indices that a layer keeps; None: all of them."""
    return None if gone is None else sorted(set(range(coupling.sizes[coupling.output_axes[layer]])).difference(gone))


def apply_plan(checkpoint: Checkpoint, plan: Mapping[str, Any] | None) -> nn.Module:
    """The pruned model of a checkpoint and a plan: always the same for the same two.

    Raises:
        PlanError: the plan is malformed or was made for another checkpoint.
    """
    if not plan or not plan.get("steps"):
        return checkpoint.model
    _, coupling = trace_model(checkpoint.model)
    return cut(checkpoint.model, coupling, replay(parse_plan(plan), coupling, checkpoint.sha256))
