"""The search for a latency as a job: plans are timed beside the checkpoint, and the amounts of one that is fast enough come back."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from tui_pruner.intervals import share_words
from tui_pruner.tui.queued_job import Outcome, Wanted

if TYPE_CHECKING:
    from tui_pruner.engine.latency_messages import LatencyShare, QuickenParameters
    from tui_pruner.engine.protocol import ScanDrops, SessionView, TargetPlan
    from tui_pruner.tui.amounts import Asked
    from tui_pruner.tui.subject import Subject

KIND = "quicken"


def quickening(
    subject: Subject,
    session: SessionView,
    targets: Sequence[str],
    asked: Asked,
    scan: ScanDrops | None,
    scores: str,
    hand_over: Callable[[TargetPlan], None],
) -> Wanted:
    """The job on top of the session as it is now; the cuts are chosen as `asked` says."""
    fields = {**subject.fields, "data": "", "images": None}
    plan = session.plan if session.steps else None

    def parameters() -> QuickenParameters:
        from tui_pruner.engine.latency_messages import QuickenParameters

        return QuickenParameters(
            **fields, plan=plan, targets=list(targets), criterion=asked.criterion, round_to=asked.round_to, scan=scan, scores=scores or None
        )

    async def take(content: dict[str, Any]) -> Outcome:
        from tui_pruner.engine.latency_messages import QuickenResult

        result = QuickenResult.model_validate(content)
        hand_over(result.plan)
        figure = f"latency {as_share(result.latency)} of the checkpoint's, {result.tries} plans timed on {result.device}"
        return Outcome(result.plan.stopped or figure, [("the smallest plan", as_share(result.least))])

    return Wanted(KIND, " ".join(targets), "", parameters, take)


def as_share(latency: LatencyShare) -> str:
    """For people."""
    return share_words(latency.median, latency.low, latency.high)
