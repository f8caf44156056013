"""A latency measurement as a job: the checkpoint and the session side by side, and the time of each block."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tui_pruner.tui.figures import milliseconds
from tui_pruner.tui.queued_job import Outcome, Wanted
from tui_pruner.tui.scores import plan_key

if TYPE_CHECKING:
    from tui_pruner.engine.latency_messages import BenchedModel, BenchParameters, BenchResult
    from tui_pruner.engine.protocol import SessionView
    from tui_pruner.tui.subject import Subject

KIND = "bench"


@dataclass(frozen=True)
class Timed:
    """Milliseconds of each block within a forward: of the checkpoint, and after the steps of `plan` where there are any."""

    plan: str
    before: Mapping[str, float]
    after: Mapping[str, float]


def latency(subject: Subject, session: SessionView, hand_over: Callable[[Timed], None]) -> Wanted:
    """The job on the session as it is now: the checkpoint and, where there are steps, the cut model, timed in turns."""
    model, opening = subject.model, subject.opening
    plan = session.plan if session.steps else None
    key = plan_key(plan)

    def parameters() -> BenchParameters:
        from tui_pruner.engine.latency_messages import BenchParameters, BenchSubject

        plans = [None, plan] if plan else [None]
        subjects = [BenchSubject(checkpoint=model.path, classes=opening.classes, plan=each) for each in plans]
        return BenchParameters(subjects=subjects, imgsz=model.imgsz, device=opening.device, blocks=True, suggest=plan is not None)

    async def take(content: dict[str, Any]) -> Outcome:
        from tui_pruner.engine.latency_messages import BenchResult

        result = BenchResult.model_validate(content)
        first, last = result.models[0], result.models[-1]
        hand_over(Timed(key, _times(first), _times(last) if plan else {}))
        return Outcome(_figure(first, last, bool(plan)), _details(result), result.notes)

    steps = len(session.steps)
    return Wanted(KIND, f"step {steps}" if steps else "checkpoint", key, parameters, take)


def _times(model: BenchedModel) -> dict[str, float]:
    return {block.name: block.median_ms for block in model.blocks}


def _figure(first: BenchedModel, last: BenchedModel, cut: bool) -> str:
    where = f"{last.imgsz}x{last.imgsz} on {last.device}"
    if not cut:
        return f"{milliseconds(first.median_ms)}, {where}"
    change = f"{last.ratio:.2f} ({last.ratio_low:.2f} to {last.ratio_high:.2f}): {last.verdict}"
    return f"{milliseconds(last.median_ms)} of {milliseconds(first.median_ms)}, {change}, {where}"


def _details(result: BenchResult) -> list[tuple[str, str]]:
    last = result.models[-1]
    quick = f"median {milliseconds(last.median_ms)}, 90 % below {milliseconds(last.p90_ms)}, {last.runs} runs, {last.threads} threads"
    faster = [
        (f"{one.layer} keep {one.faster}", f"{milliseconds(one.faster_median_ms)} alone, {milliseconds(one.median_ms)} at {one.width}")
        for one in last.suggestions
    ]
    return [("latency", quick), *faster]
