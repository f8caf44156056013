"""The pruned model of a checkpoint and a plan: what every job works on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from tui_pruner.core.analysis import trace_checkpoint
from tui_pruner.core.checkpoint import Checkpoint
from tui_pruner.core.plan import parse_plan, replay
from tui_pruner.core.surgery import cut


def apply_plan(checkpoint: Checkpoint, plan: Mapping[str, Any] | None) -> nn.Module:
    """The pruned model of a checkpoint and a plan: always the same for the same two.

    Raises:
        PlanError: the plan is malformed or was made for another checkpoint.
    """
    if not plan or not plan.get("steps"):
        return checkpoint.model
    _, coupling = trace_checkpoint(checkpoint)
    return cut(checkpoint.model, coupling, replay(parse_plan(plan), coupling, checkpoint.sha256))
