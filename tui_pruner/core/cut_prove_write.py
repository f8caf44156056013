"""From a plan to a pruned model that may be used, and to its file: cut, prove against the masked twin, write.

No other function hands a pruned model to a file or a job, so none that is not proved gets there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from tui_pruner.core.analysis import trace_checkpoint
from tui_pruner.core.checkpoint import Checkpoint, WrittenFile, write_checkpoint
from tui_pruner.core.checkpoint.contents import mask_provenance
from tui_pruner.core.checkpoint.writing import write_model
from tui_pruner.core.groups import CouplingMap
from tui_pruner.core.masking import demand_maskable, masked_model
from tui_pruner.core.original import Original
from tui_pruner.core.plan import parse_plan, replay
from tui_pruner.core.proof import Proof, prove
from tui_pruner.core.removal import Removal
from tui_pruner.core.session import AppliedStep, Session
from tui_pruner.core.surgery import cut
from tui_pruner.core.twin import masked_slices
from tui_pruner.errors import OutputError, ProofError


@dataclass(frozen=True)
class Written:
    """A file that is in its place, and the proof of the very model in it; `masked`: its slices at zero, where it was masked and not cut."""

    file: WrittenFile
    proof: Proof
    masked: Mapping[str, Mapping[str, list[int]]] | None = None


def cut_and_prove(model: nn.Module, coupling: CouplingMap, removal: Removal, original: Original | None = None) -> tuple[nn.Module, Proof]:
    """Return the pruned model and its proof, whatever that says."""
    pruned = cut(model, coupling, removal)
    return pruned, prove(model, pruned, coupling, removal, original=original)


def demand_proved(proof: Proof, what: str, advice: str) -> None:
    """Refuse to go on with what is not proved.

    Raises:
        ProofError: the proof says anything but equal; it has the figures.
    """
    if not proof.equal:
        raise ProofError(f"{what} is not proved: {proof.reason}; {advice}", proof.plain())


def proved_cut(checkpoint: Checkpoint, coupling: CouplingMap, removal: Removal) -> nn.Module:
    """Return the pruned model of a removal, for a job to work on.

    Raises:
        ProofError: the masked twin disagrees.
        PlanError: the removal breaks a lock or a link.
    """
    pruned, proof = cut_and_prove(checkpoint.model, coupling, removal)
    demand_proved(proof, "the model under this plan", "leave out the step whose proof fails (tui-pruner report tells which)")
    return pruned


def apply_plan(checkpoint: Checkpoint, plan: Mapping[str, Any] | None) -> nn.Module:
    """Return the pruned model of a checkpoint and a plan, proved: always the same for the same two.

    Raises:
        PlanError: the plan is malformed or was made for another checkpoint.
        ProofError: the masked twin disagrees.
    """
    if not plan or not plan.get("steps"):
        return checkpoint.model
    _, coupling = trace_checkpoint(checkpoint)
    return proved_cut(checkpoint, coupling, replay(parse_plan(plan), coupling, checkpoint.sha256))


def cut_prove_write(
    session: Session,
    output: str | Path,
    *,
    steps: Sequence[AppliedStep] | None = None,
    mask: bool = False,
    force: bool = False,
    on_progress: Callable[[str], None] = lambda message: None,
) -> Written:
    """Write the pruned model after some steps of a session (default: all that count), each of which must be proved.

    The last step is cut and proved anew, so that the proof is that of the model in the file and not of an earlier cut like it.
    With `mask` the masked twin is written in place of the cut model: proved to compute the same, with the original's shapes.

    Raises:
        RequestError: no zeros stand for what a step takes.
        ProofError: a step is not proved; nothing is written.
        OutputError: there is no step, or the place cannot be used.
        VerificationError: the file failed its checks; nothing is left of it.
    """
    applied = session.steps if steps is None else list(steps)
    if not applied:
        raise OutputError("nothing to write: no step was applied, the model is as it was")
    checkpoint, coupling, removal = session.analysis.checkpoint, session.analysis.coupling, applied[-1].removal
    if mask:
        demand_maskable(coupling, removal)
    original = session.original()
    for number, step in enumerate(applied, start=1):
        if step is not applied[-1] or step.proof is not None:
            _demand_step(session.prove(step, original), number)
    pruned, applied[-1].proof = cut_and_prove(checkpoint.model, coupling, removal, original)
    _demand_step(applied[-1].proof, len(applied))
    plan = session.plan.model_copy(update={"steps": [step.step for step in applied]})
    if mask:
        masked = masked_slices(checkpoint.model, coupling, removal)
        provenance = mask_provenance(checkpoint, plan.plain(), masked, applied[-1].proof.plain())
        twin = masked_model(checkpoint.model, coupling, removal, original)
        return Written(write_model(twin, checkpoint, output, provenance, force, on_progress), applied[-1].proof, masked)
    written = write_checkpoint(
        pruned,
        checkpoint,
        output,
        plan=plan.plain(),
        kept=removal.kept(coupling),
        dropped=sorted(removal.dropped),
        proof=applied[-1].proof.plain(),
        force=force,
        on_progress=on_progress,
    )
    return Written(written, applied[-1].proof)


def _demand_step(proof: Proof, number: int) -> None:
    demand_proved(proof, f"not written: step {number}", "leave out what it cuts")
