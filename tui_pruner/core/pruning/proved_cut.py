"""Cuts that may be used: proved against the masked twin.

Files and jobs get pruned models from here only, so none of them uses an unproved one.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from torch import nn

from tui_pruner.core.model.analysis import Analysis, trace_checkpoint
from tui_pruner.core.model.checkpoint import Checkpoint, stages_of
from tui_pruner.core.pruning.classes import class_group, names_in, numberings, only_classes
from tui_pruner.core.pruning.masks import masked_model, sources_of
from tui_pruner.core.pruning.plan import parse_plan, replay
from tui_pruner.core.pruning.proof import Proof, prove
from tui_pruner.core.pruning.removal import NOTHING, Removal
from tui_pruner.core.pruning.surgery import cut
from tui_pruner.core.pruning.twin import Original
from tui_pruner.core.tracing.coupling_map import CouplingMap
from tui_pruner.domain.cuts import CLASSES
from tui_pruner.domain.errors import ProofError, RequestError


def cut_and_prove(model: nn.Module, coupling: CouplingMap, removal: Removal, original: Original | None = None) -> tuple[nn.Module, Proof]:
    """Return the pruned model and its proof, also where that fails."""
    pruned = cut(model, coupling, removal)
    return pruned, prove(model, pruned, coupling, removal, original=original)


def demand_proved(proof: Proof, what: str, advice: str) -> None:
    """Refuse to use what is not proved.

    Raises:
        ProofError: the verdict is neither equal nor, for an approximate cut, checked; the message has the figures.
    """
    if not proof.holds:
        raise ProofError(f"{what} is not proved: {proof.reason}; {advice}", proof.plain())


def proved_cut(checkpoint: Checkpoint, coupling: CouplingMap, removal: Removal) -> nn.Module:
    """Return the proved pruned model of a removal, for a job.

    Raises:
        ProofError: it differs from the masked twin.
        PlanError: the removal breaks a lock or a link.
    """
    pruned, proof = cut_and_prove(checkpoint.model, coupling, removal)
    demand_proved(proof, "the model under this plan", "leave out the step whose proof fails (tui-pruner report tells which)")
    return pruned


def apply_plan(checkpoint: Checkpoint, plan: Mapping[str, Any] | None, mask: bool = False) -> nn.Module:
    """Return the proved pruned model of a checkpoint and a plan: always the same for the same two.

    With `mask` return the masked twin, which by that proof computes the same with all shapes kept.

    Raises:
        RequestError: the plan cannot be expressed by zeros.
        PlanError: the plan is malformed or was made for another checkpoint.
        ProofError: it differs from the masked twin.
    """
    if not plan or not plan.get("steps"):
        return checkpoint.model
    _, coupling = trace_checkpoint(checkpoint)
    removal = replay(parse_plan(plan), coupling, checkpoint.sha256)
    pruned = proved_cut(checkpoint, coupling, removal)
    return masked_model(checkpoint.model, coupling, removal, Original(checkpoint.model, images=checkpoint.inputs)) if mask else pruned


def with_some_classes(checkpoint: Checkpoint, coupling: CouplingMap, removal: Removal) -> Checkpoint:
    """Return a checkpoint without the classes that a removal takes, proved; everything else is as before, in the same groups.

    Raises:
        ProofError: it differs from the masked twin.
    """
    classes = only_classes(coupling, removal)
    if not classes.places:
        return checkpoint
    return dataclasses.replace(checkpoint, model=proved_cut(checkpoint, coupling, classes))


def removal_of_all_but(coupling: CouplingMap, kept: Sequence[int]) -> Removal:
    """Return what keeping the classes with these numbers removes; nothing where the list is empty."""
    group = class_group(coupling)
    if group is None or not kept:
        return NOTHING
    return Removal({group.number: np.setdiff1d(np.arange(group.channels), np.array(kept, dtype=np.int64))})


def as_numbered_in(original: Checkpoint, descendant: Checkpoint) -> Checkpoint:
    """Return an original with only the classes of a file that was cut from it; the original itself where they are the same.

    Raises:
        ProofError: it differs from the masked twin.
    """
    names = [name for _, name in sorted(names_in(original.model).items())]
    found = next((one for one in numberings(descendant.model) if one["names"] == names), None)
    if found is None or original.classes == descendant.classes:
        return original
    coupling = trace_checkpoint(original)[1]
    return with_some_classes(original, coupling, removal_of_all_but(coupling, found["kept"]))


def plan_of_classes(plan: dict[str, Any] | None) -> dict[str, Any] | None:
    """Return the part of a plan that cuts classes, under which the original is measured on the same labels; None where there is none."""
    if not plan:
        return None
    steps = [{**step, "cuts": [cut for cut in step["cuts"] if cut["layer"] == CLASSES]} for step in plan["steps"]]
    left = [step for step in steps if step["cuts"]]
    return {**plan, "steps": left} if left else None


def check_recovered(recovered: Checkpoint, analysis: Analysis, removal: Removal, plan: str) -> bool:
    """Refuse a file that is not the recovered model of a cut; return whether it has a record of its cut, which is then the same one.

    `plan` is the name of the cut's plan. A file without a record, as another program's training writes it, is known by its shapes only.

    Raises:
        RequestError: its layers have other shapes, or it was cut from another file or by another plan.
        PlanError: the plan in its record is malformed.
    """
    shapes, wanted = _shapes(recovered.model), _shapes(cut(analysis.skeleton, analysis.coupling, removal))
    name = next((name for name in {**wanted, **shapes} if shapes.get(name) != wanted.get(name)), None)
    advice = f"give a file that was recovered from the cut of {plan}, or the plan of this file's own cut"
    if name is not None:
        there, here = (f"{one[name]}" if name in one else "none" for one in (shapes, wanted))
        raise RequestError(f"{recovered.path} is not this plan's model: {name} is {there} in it, {here} after {plan}; {advice}")
    record, stages = recovered.provenance or {}, stages_of(recovered.provenance)
    if "plan" not in record:
        return False
    original, own = analysis.checkpoint, parse_plan(record["plan"], f"the plan in {recovered.path}")
    sources = {source.get("sha256") for source in sources_of(stages)} | {own.sha256}
    if original.sha256 not in sources:
        what = f"it was cut from {own.checkpoint} ({own.sha256[:12]}), and {plan} is a plan of {original.path} ({original.sha256[:12]})"
        raise RequestError(f"{recovered.path} was not recovered from this plan's model: {what}; {advice}")
    gone = replay(own.model_copy(update={"sha256": original.sha256}), analysis.coupling, original.sha256)
    theirs, ours = gone.kept(analysis.coupling), removal.kept(analysis.coupling)
    name = next((name for name in {**ours, **theirs} if ours.get(name) != theirs.get(name)), None)
    if name is not None or gone.dropped != removal.dropped:
        what = f"its cut left other channels of {name}" if name else "its cut dropped other blocks"
        raise RequestError(f"{recovered.path} was not recovered from this plan's model: {what} than {plan} does; {advice}")
    return True


def _shapes(model: nn.Module) -> dict[str, str]:
    return {name: "x".join(map(str, parameter.shape)) for name, parameter in model.named_parameters()}
