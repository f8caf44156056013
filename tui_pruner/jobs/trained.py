"""What a training left: the weights of its best epoch, in the network that it started from."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tui_pruner.errors import JobError

if TYPE_CHECKING:
    from torch import nn

    from tui_pruner.core.checkpoint import Checkpoint

METRICS = "metrics/"
FITNESS = "fitness"
"""The figure by which Ultralytics tells the best epoch."""


@dataclass(frozen=True)
class Trained:
    """The source's network with trained weights, its metrics by Ultralytics' names, its fitness, and the trainer's settings."""

    model: nn.Module
    metrics: dict[str, float]
    settings: dict[str, Any]
    fitness: float


def read_trained(file: Path, source: Checkpoint) -> Trained:
    """The weights in a trainer's checkpoint, put into a copy of the source's network: whatever else training attached is left out.

    Raises:
        JobError: its structure is another one, or it holds what is no number.
    """
    import torch

    from tui_pruner.core.checkpoint.stock import stock_tasks

    content, _ = stock_tasks().torch_safe_load(str(file), safe_only=True)
    found = content.get("ema") or content["model"]
    state = getattr(found, "student_model", found).float().state_dict()
    if not all(bool(torch.isfinite(tensor).all()) for tensor in state.values()):
        raise JobError(f"{file} holds weights that are no numbers: lower the learning rate (--lr0)")
    model = copy.deepcopy(source.model)
    try:
        model.load_state_dict(state)
    except RuntimeError as error:
        raise JobError(f"{file} is no longer the pruned network: it was not written; train again without --resume") from error
    metrics = {name: float(value) for name, value in content["train_metrics"].items() if name.startswith(METRICS)}
    return Trained(model.eval(), metrics, dict(content["train_args"]), float(content["train_metrics"][FITNESS]))
