"""A checkpoint with the classes that a cut leaves: what the rest of the cut is ranked, refitted and measured against."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from tui_pruner.core.analysis import trace_checkpoint
from tui_pruner.core.checkpoint import Checkpoint
from tui_pruner.core.classes import class_group, names_in, numberings, only_classes
from tui_pruner.core.cut_prove_write import proved_cut
from tui_pruner.core.groups import CouplingMap
from tui_pruner.core.removal import NOTHING, Removal
from tui_pruner.core.requests import CLASSES


def with_some_classes(checkpoint: Checkpoint, coupling: CouplingMap, removal: Removal) -> Checkpoint:
    """Return a checkpoint without the classes that a removal takes, proved; all else is as it was, in the same groups.

    Raises:
        ProofError: the masked twin disagrees.
    """
    classes = only_classes(coupling, removal)
    if not classes.places:
        return checkpoint
    return dataclasses.replace(checkpoint, model=proved_cut(checkpoint, coupling, classes))


def removal_of_all_but(coupling: CouplingMap, kept: Sequence[int]) -> Removal:
    """Return what keeping the classes with these numbers removes; nothing where there are none of them."""
    group = class_group(coupling)
    if group is None or not kept:
        return NOTHING
    return Removal({group.number: np.setdiff1d(np.arange(group.channels), np.array(kept, dtype=np.int64))})


def as_numbered_in(original: Checkpoint, descendant: Checkpoint) -> Checkpoint:
    """Return an original with the classes that a file has which was cut from it; the original itself where it has no others.

    Raises:
        ProofError: the masked twin disagrees.
    """
    names = [name for _, name in sorted(names_in(original.model).items())]
    found = next((one for one in numberings(descendant.model) if one["names"] == names), None)
    if found is None or original.classes == descendant.classes:
        return original
    coupling = trace_checkpoint(original)[1]
    return with_some_classes(original, coupling, removal_of_all_but(coupling, found["kept"]))


def plan_of_classes(plan: dict[str, Any] | None) -> dict[str, Any] | None:
    """Return of a plan what it cuts of the classes: under it the original is measured on the same labels; None where that is nothing."""
    if not plan:
        return None
    steps = [{**step, "cuts": [cut for cut in step["cuts"] if cut["layer"] == CLASSES]} for step in plan["steps"]]
    left = [step for step in steps if step["cuts"]]
    return {**plan, "steps": left} if left else None
