"""A session's steps as messages: the timeline, a proof's verdict, and two of its states side by side."""

from __future__ import annotations

from collections.abc import Sequence

from tui_pruner.core.proof import Proof
from tui_pruner.core.removal import NOTHING
from tui_pruner.core.session import AppliedStep, Session
from tui_pruner.core.views import block_shapes, changed_layers, totals
from tui_pruner.engine.protocol import Comparison, CutRequest, ProofView, SessionView, StepView


def session_view(session: Session) -> SessionView:
    """Where a session stands."""
    original, now = session.arithmetic.widths(NOTHING), session.widths
    views = [step_view(session, number, applied) for number, applied in enumerate(session.timeline, start=1)]
    done = len(session.steps)
    return SessionView(
        steps=views[:done],
        ahead=views[done:],
        original=totals(original.size),
        current=totals(now.size),
        layers=changed_layers(session.analysis, original, now, ()),
        blocks=block_shapes(session.analysis, original, now),
        unsaved=session.unsaved,
        plan=session.plan.plain(),
        later=[applied.step.model_dump(mode="json") for applied in reversed(session.undone)],
    )


def step_view(session: Session, number: int, applied: AppliedStep) -> StepView:
    """One step of the timeline."""
    requests = [CutRequest(**cut.model_dump(exclude={"removes", "drops"})) for cut in applied.step.cuts]
    return StepView(
        number=number,
        title=applied.step.name or title(requests),
        name=applied.step.name,
        requests=requests,
        totals=totals(session.arithmetic.widths(applied.removal).size),
        notes=list(applied.notes),
        proof=proof_view(applied.proof) if applied.proof else None,
    )


def comparison_view(session: Session, first: int, second: int) -> Comparison:
    """Two states of the timeline side by side, each after so many steps.

    Raises:
        RequestError: there are not so many steps.
    """
    before, after = (session.arithmetic.widths(session.removal_at(number)) for number in (first, second))
    return Comparison(
        first=first,
        second=second,
        before=totals(before.size),
        after=totals(after.size),
        layers=changed_layers(session.analysis, before, after, ()),
        blocks=[shape for shape in block_shapes(session.analysis, before, after) if shape.before != shape.after],
    )


def proof_view(proof: Proof) -> ProofView:
    """A verdict of the masked twin."""
    return ProofView(**proof.plain())


def title(requests: Sequence[CutRequest]) -> str:
    """A step in a few words: "model.5 -30%", "3 layers -30%", "2 layers"."""
    amounts = list(dict.fromkeys(request.amount for request in requests))
    what = requests[0].layer if len(requests) == 1 else f"{len(requests)} layers"
    if len(amounts) > 1:
        return what
    return f"{what} {amounts[0] if amounts[0].startswith(('keep', 'drop')) else '-' + amounts[0]}"
