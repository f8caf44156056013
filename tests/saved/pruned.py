"""A family's pruned file, on the road that `tui-pruner prune` takes, and what the pruned model in memory gives for an image."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from tui_pruner.core.model.analysis import analyse
from tui_pruner.core.model.checkpoint import Checkpoint
from tui_pruner.core.pruning.proof import prove
from tui_pruner.core.pruning.session import PruningSession
from tui_pruner.core.pruning.surgery import cut
from tui_pruner.domain.cuts import parse_request
from tui_pruner.frameworks.ultralytics import build_from_yaml, write_checkpoint

CLASSES = 3
EVERYTHING = "*=25%"
SIDE = 64
SIDE_WITH_QUERIES = 160
"""A head that picks its best 300 places needs an input with more places than that."""


@dataclass(frozen=True)
class Saved:
    """A pruned model and its file. `parameters` before and after the cut."""

    file: Path
    task: str
    side: int
    model: nn.Module
    parameters: tuple[int, int]


def save_pruned(family: str, folder: Path) -> Saved:
    """Cut every group of a family's model by a quarter, prove it, and write it as `pruned.pt`."""
    analysis = analyse(built(family), imgsz=SIDE)
    checkpoint, coupling = analysis.checkpoint, analysis.coupling
    session = PruningSession(analysis)
    session.apply([parse_request(EVERYTHING)])
    pruned = cut(checkpoint.model, coupling, session.removal)
    proof = prove(checkpoint.model, pruned, coupling, session.removal)
    assert proof.equal, proof
    file = folder / "pruned.pt"
    write_checkpoint(
        pruned, checkpoint, file, plan=session.plan.plain(), kept=session.removal.kept(coupling), proof=dataclasses.asdict(proof)
    )
    return Saved(file, checkpoint.task, side_for(pruned), pruned, (parameters_of(checkpoint.model), parameters_of(pruned)))


def built(family: str) -> Checkpoint:
    """The family's model with the classes of our data sets, which a depth model has none of."""
    return build_from_yaml(f"{family}.yaml", classes=None if family.endswith("-depth") else CLASSES)


def parameters_of(model: nn.Module) -> int:
    """How many weights a model has."""
    return sum(parameter.numel() for parameter in model.parameters())


def side_for(model: Any) -> int:
    """The side of the images that it is used with, in pixels."""
    return SIDE_WITH_QUERIES if hasattr(model.model[-1], "num_queries") else SIDE


def outputs(model: nn.Module, image: Tensor) -> list[Tensor]:
    """All tensors that a model gives, in their order."""
    with torch.no_grad():
        return [leaf for leaf in torch.utils._pytree.tree_leaves(model(image)) if isinstance(leaf, Tensor)]
