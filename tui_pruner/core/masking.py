"""Soft pruning: the channels of a plan at zero while all shapes stay, and the way from there to the cut.

What is written is the masked twin itself, the network that every cut is proved against. So the masked file and the cut one compute the
same by the very proof of the cut; of a masked file it only has to be shown that its weights are the twin's.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from tui_pruner.core.checkpoint import Checkpoint
from tui_pruner.core.checkpoint.masks import Mask, mask_of
from tui_pruner.core.groups import CouplingMap
from tui_pruner.core.original import Original
from tui_pruner.core.predictions import Unseen
from tui_pruner.core.removal import Removal
from tui_pruner.core.skeleton import named_tensors
from tui_pruner.core.twin import masked_twin
from tui_pruner.errors import RequestError

MOST_NAMED = 3


def masked_model(model: nn.Module, coupling: CouplingMap, removal: Removal, original: Original) -> nn.Module:
    """Return the masked twin of a removal as a model to be written.

    Raises:
        RequestError: zeros cannot do what the removal does.
    """
    demand_maskable(coupling, removal)
    twin = masked_twin(model, coupling, removal, original.owners)
    try:
        leaves = original.predictions_of(twin, torch.float32)
    except Unseen:  # the proof has more to say of it
        return twin
    if not all(bool(leaf.isfinite().all()) for leaf in leaves.values() if isinstance(leaf, Tensor) and leaf.is_floating_point()):
        raise RequestError("this model divides by what a mask sets to zero: prune it without --mask")
    return twin


def demand_maskable(coupling: CouplingMap, removal: Removal) -> None:
    """Refuse a removal that no zeros stand for.

    Raises:
        RequestError: it takes classes, or a block that is not its input alone where some of its parameters are zero.
    """
    if coupling.classes is not None and coupling.classes in removal.places:
        raise RequestError("a mask keeps all shapes, and so all classes: prune without --mask, or without the cut of classes")
    loud = sorted(path for path in removal.dropped if not coupling.inner[path].silenced)
    if loud:
        raise RequestError(f"no zeros make {loud[0]} hand on what it reads: prune without --mask, or without that drop")


def plan_in_mask(checkpoint: Checkpoint, more: bool = False) -> dict[str, Any] | None:
    """Return the plan that a masked file was made by, addressed to the file itself; None where the file is not masked.

    One whose channels are zero no longer is like any other file where there is more to cut.

    Raises:
        RequestError: there is nothing else to cut.
    """
    mask = mask_of(checkpoint.model, checkpoint.provenance)
    if mask is None or (more and not mask.holds):
        return None
    if not mask.holds:
        raise RequestError(
            f"{checkpoint.path} was masked, but the channels did not stay zero ({mask.changed_by}), so removing them would change what it "
            "computes: give --cut or --plan"
        )
    return {**mask.plan, "checkpoint": Path(checkpoint.path).name, "sha256": checkpoint.sha256}


def unlike_the_twin(mask: Mask, twin: nn.Module, masked: nn.Module) -> str:
    """Return in words which weights of a masked file are not those of the masked twin; empty where all are."""
    expected, found = dict(named_tensors(twin)), dict(named_tensors(masked))
    if expected.keys() != found.keys():
        return "its parameters are not those of the original"
    other = [name for name, tensor in expected.items() if not same(tensor, found[name])]
    if not other and mask.holds:
        return ""
    named = ", ".join(other[:MOST_NAMED]) + (f" and {len(other) - MOST_NAMED} more" if len(other) > MOST_NAMED else "")
    return f"these are not the masked twin's: {named}" if other else "the slices that the file names as masked are not zero"


def same(expected: Tensor, found: Tensor) -> bool:
    """Return whether two tensors are the same number by number."""
    return expected.shape == found.shape and torch.equal(expected.detach(), found.detach().to(expected.dtype))
