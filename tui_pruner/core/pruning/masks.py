"""Soft pruning: a plan's channels set to zero with all shapes kept, what a file records of that, and the plan of the later cut."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from tui_pruner.core.model.checkpoint import Checkpoint, stages_of
from tui_pruner.core.model.copies import named_tensors
from tui_pruner.core.model.predictions import Unseen
from tui_pruner.core.pruning.removal import Removal
from tui_pruner.core.pruning.twin import Original, masked_twin
from tui_pruner.core.tracing.coupling_map import CouplingMap
from tui_pruner.domain.errors import RequestError
from tui_pruner.domain.formatting import plural

MASK = "mask"
"""The kind of stage that sets channels to zero and keeps all shapes."""
Slices = Mapping[str, Mapping[str, list[int]]]


@dataclass(frozen=True)
class Mask:
    """The slices that were set to zero, by parameter and dimension: `channels` outputs of `layers` layers. `holds`: all are still zero.

    Training by gradients leaves a channel at zero that is neither written nor read, if its activation maps zero to zero. It does change
    the zeros that silence a dropped block, and other kinds of training change all: `changed_by` is the first stage that may have.
    """

    slices: Slices
    plan: Mapping[str, Any]
    source: str
    holds: bool
    changed_by: str
    channels: int
    layers: int

    def plain(self) -> dict[str, Any]:
        """Return its fields for scripts."""
        return {"holds": self.holds, "channels": self.channels, "layers": self.layers, "source": self.source}

    @property
    def in_words(self) -> str:
        """Return its state in a sentence."""
        what = f"{plural(self.channels, 'output channel')} of {plural(self.layers, 'layer')}"
        if self.holds:
            return f"masked: {what} are zero, all shapes are those of {self.source}; prune it without --cut to remove them"
        return f"was masked, but {what} did not stay zero ({self.changed_by}): they count like any others now"


def mask_of(model: nn.Module, provenance: Mapping[str, Any] | None) -> Mask | None:
    """Return the mask that a file records; None where it records none, or one that does not fit this model."""
    slices, plan = (provenance or {}).get("masked"), (provenance or {}).get("plan")
    if not provenance or not isinstance(slices, Mapping) or not slices or not isinstance(plan, Mapping):
        return None
    try:
        holds = all_zero(model, slices)
        stages = stages_of(provenance)
        kinds = [str(stage["kind"]) for stage in stages]
        last = max(place for place, kind in enumerate(kinds) if kind == MASK)
        changed_by = (*kinds[last + 1 :], "other weights")[0]
        weights = {name for name, parameter in model.named_parameters() if parameter.ndim > 1}
        widths = [len(by_dim["0"]) for name, by_dim in slices.items() if name in weights and "0" in by_dim]
        return Mask(slices, plan, str(stages[last]["source"]["name"]), holds, changed_by, sum(widths), len(widths))
    except (KeyError, IndexError, TypeError, ValueError, AttributeError):  # a foreign file may have any value under our key
        return None


def sources_of(stages: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Return the files whose numbering the plan of the last cut or mask uses: the source of that stage, and the source of its mask, if any.

    A mask changes no numbering, and a plan made on a masked file begins with the mask's steps.
    """
    last = max(place for place, stage in enumerate(stages) if stage["kind"] in ("prune", MASK))
    found = [stages[last]["source"]]
    for stage in reversed(stages[:last]):
        if stage["kind"] != MASK:
            break
        found.append(stage["source"])
    return found


def all_zero(model: nn.Module, slices: Slices) -> bool:
    """Return whether all these slices of a model's parameters are zero.

    Raises:
        KeyError, IndexError, TypeError, ValueError: the slices do not exist in this model.
    """
    parameters = dict(model.named_parameters())
    for name, by_dim in slices.items():
        for dim, indices in by_dim.items():
            places = torch.tensor(indices, dtype=torch.long)
            if bool(parameters[name].detach().index_select(int(dim), places).any()):
                return False
    return True


MOST_NAMED = 3


def masked_model(model: nn.Module, coupling: CouplingMap, removal: Removal, original: Original) -> nn.Module:
    """Return the masked twin of a removal, as a model to write.

    Raises:
        RequestError: the removal cannot be expressed by zeros.
    """
    demand_maskable(coupling, removal)
    twin = masked_twin(model, coupling, removal, original.owners)
    try:
        leaves = original.predictions_of(twin, torch.float32)
    except Unseen:  # the proof gives a better reason
        return twin
    if not all(bool(leaf.isfinite().all()) for leaf in leaves.values() if isinstance(leaf, Tensor) and leaf.is_floating_point()):
        raise RequestError("this model divides by what a mask sets to zero: prune it without --mask")
    return twin


def demand_maskable(coupling: CouplingMap, removal: Removal) -> None:
    """Refuse a removal that cannot be expressed by zeros.

    Raises:
        RequestError: it takes classes, or a block that does not reduce to its input when some of its parameters are zero.
    """
    if coupling.classes is not None and coupling.classes in removal.places:
        raise RequestError("a mask keeps all shapes, and so all classes: prune without --mask, or without the cut of classes")
    loud = sorted(path for path in removal.dropped if not coupling.inner[path].silenced)
    if loud:
        raise RequestError(f"no zeros make {loud[0]} return its input: prune without --mask, or without that drop")


def plan_in_mask(checkpoint: Checkpoint, more: bool = False) -> dict[str, Any] | None:
    """Return the plan that a masked file was made by, with the file itself as its checkpoint; None where the file is not masked.

    A file whose channels are no longer zero counts as any other file where there is more to cut.

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
    """Return in words which weights of a masked file differ from those of the masked twin; empty where none do."""
    expected, found = dict(named_tensors(twin)), dict(named_tensors(masked))
    if expected.keys() != found.keys():
        return "its parameters are not those of the original"
    other = [name for name, tensor in expected.items() if not same(tensor, found[name])]
    if not other and mask.holds:
        return ""
    named = ", ".join(other[:MOST_NAMED]) + (f" and {len(other) - MOST_NAMED} more" if len(other) > MOST_NAMED else "")
    return f"these are not the masked twin's: {named}" if other else "the slices that the file names as masked are not zero"


def same(expected: Tensor, found: Tensor) -> bool:
    """Return whether two tensors are equal number by number."""
    return expected.shape == found.shape and torch.equal(expected.detach(), found.detach().to(expected.dtype))
