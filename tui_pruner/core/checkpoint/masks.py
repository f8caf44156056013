"""What a file with masked channels says of itself: which slices the plan in it set to zero, and whether they still are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from tui_pruner.core.checkpoint.stages import stages_of

MASK = "mask"
"""The kind of stage that sets channels to zero and keeps all shapes."""
Slices = Mapping[str, Mapping[str, list[int]]]


@dataclass(frozen=True)
class Mask:
    """The slices that were set to zero, by parameter and dimension: `channels` outputs of so many `layers`. `holds`: all still are zero.

    Gradients leave a channel at zero that nobody writes and nobody reads, as long as its activation gives zero for zero. They move what
    silences a dropped block, and other ways to train move everything. `changed_by` is then the first kind of stage after the mask.
    """

    slices: Slices
    plan: Mapping[str, Any]
    source: str
    holds: bool
    changed_by: str
    channels: int
    layers: int

    def plain(self) -> dict[str, Any]:
        """Return what a script wants to know of it."""
        return {"holds": self.holds, "channels": self.channels, "layers": self.layers, "source": self.source}

    @property
    def in_words(self) -> str:
        """Return what a person should know of the file."""
        what = f"{self.channels} output channels of {self.layers} layers"
        if self.holds:
            return f"masked: {what} are zero, all shapes are those of {self.source}; prune it without --cut to remove them"
        return f"was masked, but {what} did not stay zero ({self.changed_by}): they count like any others now"


def mask_of(model: nn.Module, provenance: Mapping[str, Any] | None) -> Mask | None:
    """Return the mask that a file records; None where it records none, or none of this model."""
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
    except (KeyError, IndexError, TypeError, ValueError, AttributeError):  # a stranger's file may have anything under our key
        return None


def sources_of(stages: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Return the files that the plan of the last cut or mask holds for: what that was made of, and what this was masked of, if it was.

    A mask changes no numbering, and a plan that is made on a masked file begins with the mask's.
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
        KeyError, IndexError, TypeError, ValueError: they are no slices of this model.
    """
    parameters = dict(model.named_parameters())
    for name, by_dim in slices.items():
        for dim, indices in by_dim.items():
            places = torch.tensor(indices, dtype=torch.long)
            if bool(parameters[name].detach().index_select(int(dim), places).any()):
                return False
    return True
