"""Jobs that measure: validations (the checkpoint's own first, then each step's) and latencies.

Latencies are of the checkpoint and the session side by side, or of the search for cuts that reach one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from tui_pruner.domain.formatting import milliseconds, plural, score, tiny
from tui_pruner.domain.results import share_words, short_metric
from tui_pruner.tui.drawing import GLYPHS, titled
from tui_pruner.tui.job_specs.job import JobOutcome, JobSpec
from tui_pruner.tui.timeline import BASELINE, StepMetrics, plan_key

if TYPE_CHECKING:
    from tui_pruner.domain.cuts import Asked
    from tui_pruner.engine.job_messages import ValidationParameters, ValidationResult
    from tui_pruner.engine.messages import SessionView
    from tui_pruner.engine.search_messages import (
        BenchedModel,
        BenchParameters,
        BenchResult,
        LatencySearchParameters,
        LatencyShare,
        ScanDrops,
        TargetPlan,
    )
    from tui_pruner.tui.job_queue import JobQueue
    from tui_pruner.tui.job_specs.job import OpenCheckpoint


KIND = "validate"
NAMED = "metrics/"
SAME = 1e-4
"""The allowed difference between the metrics of a cut and of the same cut as a mask."""


class Validations:
    """Queues validations, and stores their metrics."""

    def __init__(self, queue: JobQueue, checkpoint: OpenCheckpoint, metrics: StepMetrics) -> None:
        self._queue = queue
        self._checkpoint = checkpoint
        self._metrics = metrics

    def ask(self, session: SessionView) -> bool:
        """Queue the validation of the current session, and of the checkpoint before it; False when both are known or queued.

        Raises:
            RequestError: too many jobs wait.
        """
        steps = len(session.steps)
        wanted = [self._wanted("checkpoint", BASELINE, None)]
        if steps:
            wanted.append(self._wanted(f"step {steps}", plan_key(session.plan), session.plan, titled(session.steps[-1].title)))
        added = [self._queue.add(entry) for entry in wanted if entry.key not in self._metrics.by_plan]
        return any(added)

    def ask_masked(self, session: SessionView) -> bool:
        """Queue the validation of the steps as masked, after that of the cut model if it is unknown; False when all are queued.

        Raises:
            RequestError: too many jobs wait.
        """
        cut = self.ask(session)
        masked = self._wanted(f"step {len(session.steps)} masked", plan_key(session.plan), session.plan, masked=True)
        return self._queue.add(masked) or cut

    def use(self, data: str) -> None:
        """Measure on this data from now on; metrics on other data are dropped, since they cannot be compared."""
        if data == self._checkpoint.data:
            return
        self._checkpoint.data = data
        self._metrics.forget()
        for job in self._queue.jobs:
            if job.spec.kind == KIND and not job.over:
                self._queue.cancel(job)

    def _wanted(self, title: str, key: str, plan: dict[str, Any] | None, about: str = "", masked: bool = False) -> JobSpec:
        fields = self._checkpoint.fields

        def parameters() -> ValidationParameters:
            from tui_pruner.engine.job_messages import ValidationParameters

            return ValidationParameters(plan=plan, masked=masked, **fields)

        async def take(content: dict[str, Any]) -> JobOutcome:
            from tui_pruner.engine.job_messages import ValidationResult

            result = ValidationResult.model_validate(content)
            self._checkpoint.data = self._checkpoint.data or fields["data"]
            if masked:
                return compared(result, self._metrics.by_plan.get(key) if fields["data"] == self._checkpoint.data else None)
            if fields["data"] == self._checkpoint.data:
                self._metrics.put(key, result.metrics, result.interval, result.resamples)
            return _outcome(result, self._checkpoint.sample)

        return JobSpec(KIND, title, f"{key} masked" if masked else key, parameters, take, fields["data"], about=about)


def _outcome(result: ValidationResult, sample: str = "image") -> JobOutcome:
    found = short_metric(result.metrics)
    figure = "no metric" if found is None else f"{found[0]} {score(found[1])}{spread(result.interval)}"
    cached = ", cached" if result.cached else ""
    doubt = [("95 % interval", f"{spread(result.interval)[2:-1]}, bootstrap over {sample}s")] if result.interval else []
    counted = [plural(result.images, sample)] if result.images else []
    details = [*((f"{sample}s", str(result.images)) for _ in counted), *doubt, *shown_metrics(result.metrics)]
    return JobOutcome(f"{', '.join([figure, *counted])}{cached}", details, result.notes)


def compared(result: ValidationResult, cut: float | None) -> JobOutcome:
    """The result of a masked model's validation, beside the metric of the cut one where known."""
    outcome, found = _outcome(result), short_metric(result.metrics)
    if found is None or cut is None:
        return outcome
    apart = abs(found[1] - cut)
    verdict = "as the cut has" if apart <= SAME else f"but the cut has {score(cut)}"
    return replace(outcome, figure=f"{found[0]} {score(found[1])} {verdict}, differs by {tiny(apart)}")


def spread(interval: tuple[float, float] | None) -> str:
    """The metric's interval in brackets; empty where it is unknown."""
    return f" ({score(interval[0])} to {score(interval[1])})" if interval else ""


def shown_metrics(metrics: Mapping[str, float]) -> list[tuple[str, str]]:
    """All metrics by name, formatted."""
    return [(name.removeprefix(NAMED), score(value)) for name, value in metrics.items() if name.startswith(NAMED)]


BENCH = "bench"
Range = tuple[float, float]


@dataclass(frozen=True)
class Timed:
    """Milliseconds of each block within a forward: of the checkpoint, and after the steps of `plan` where there are any.

    `whole`: those of a whole forward, by the plans' keys. `ranges`: the range of eight in ten runs of each block, before and after.
    """

    plan: str
    before: Mapping[str, float]
    after: Mapping[str, float]
    ranges: Mapping[str, tuple[Range, Range]] = field(default_factory=dict)
    whole: Mapping[str, float] = field(default_factory=dict)

    def told_apart(self, block: str) -> bool:
        """Whether the ranges of a block's times before and after do not overlap."""
        before, after = self.ranges.get(block, ((0.0, 0.0), (0.0, 0.0)))
        return block not in self.ranges or after[1] < before[0] or after[0] > before[1]


def latency(checkpoint: OpenCheckpoint, session: SessionView, hand_over: Callable[[Timed], None]) -> JobSpec:
    """The latency of the checkpoint and, where there are steps, of the cut model, timed in turns."""
    model, opening = checkpoint.model, checkpoint.opening
    plan = session.plan if session.steps else None
    key = plan_key(plan)

    def parameters() -> BenchParameters:
        from tui_pruner.engine.search_messages import BenchParameters, ModelToTime

        plans = [None, plan] if plan else [None]
        models = [ModelToTime(checkpoint=model.path, classes=opening.classes, plan=each) for each in plans]
        return BenchParameters(
            models=models, imgsz=model.imgsz, device=opening.device, blocks=True, suggest=plan is not None, module=opening.module
        )

    async def take(content: dict[str, Any]) -> JobOutcome:
        from tui_pruner.engine.search_messages import BenchResult

        result = BenchResult.model_validate(content)
        first, last = result.models[0], result.models[-1]
        whole = {BASELINE: first.median_ms, key: last.median_ms}
        hand_over(Timed(key, _times(first), _times(last) if plan else {}, _ranges(first, last), whole))
        return JobOutcome(_figure(first, last, bool(plan)), _details(result), result.notes)

    steps = len(session.steps)
    about = titled(session.steps[-1].title) if steps else ""
    return JobSpec(BENCH, f"step {steps}" if steps else "checkpoint", key, parameters, take, about=about)


def _times(model: BenchedModel) -> dict[str, float]:
    return {block.name: block.median_ms for block in model.blocks}


def _ranges(first: BenchedModel, last: BenchedModel) -> dict[str, tuple[Range, Range]]:
    found = {block.name: (block.low_ms, block.high_ms) for block in last.blocks if block.high_ms}
    return {block.name: ((block.low_ms, block.high_ms), found[block.name]) for block in first.blocks if block.name in found}


def _figure(first: BenchedModel, last: BenchedModel, cut: bool) -> str:
    where = f"{last.imgsz}x{last.imgsz} on {last.device}" if last.imgsz else f"{plural(last.batch, 'sample')} on {last.device}"
    if not cut:
        return f"{milliseconds(first.median_ms)}, {where}"
    times = f"{milliseconds(first.median_ms)}{GLYPHS.arrow}{milliseconds(last.median_ms)}"
    return f"{times} {last.verdict}, {last.ratio:.2f} ({last.ratio_low:.2f} to {last.ratio_high:.2f}) of the time, {where}"


def _details(result: BenchResult) -> list[tuple[str, str]]:
    last = result.models[-1]
    quick = f"median {milliseconds(last.median_ms)}, 90 % below {milliseconds(last.p90_ms)}, {last.runs} runs, {last.threads} threads"
    faster = [
        (f"{one.layer} keep {one.faster}", f"{milliseconds(one.faster_median_ms)} alone, {milliseconds(one.median_ms)} at {one.width}")
        for one in last.suggestions
    ]
    return [("latency", quick), *faster]


SEARCH = "search-latency"


def latency_search(
    checkpoint: OpenCheckpoint,
    session: SessionView,
    targets: Sequence[str],
    asked: Asked,
    scan: ScanDrops | None,
    scores: str,
    hand_over: Callable[[TargetPlan], None],
) -> JobSpec:
    """The latency search on top of the present session; the cuts are chosen as `asked` says."""
    fields = {**checkpoint.fields, "data": "", "images": None}
    plan = session.plan if session.steps else None

    def parameters() -> LatencySearchParameters:
        from tui_pruner.engine.search_messages import LatencySearchParameters

        return LatencySearchParameters(
            **fields, plan=plan, targets=list(targets), criterion=asked.criterion, round_to=asked.round_to, scan=scan, scores=scores or None
        )

    async def take(content: dict[str, Any]) -> JobOutcome:
        from tui_pruner.engine.search_messages import LatencySearchResult

        result = LatencySearchResult.model_validate(content)
        hand_over(result.plan)
        figure = f"latency {as_share(result.latency)} of the checkpoint's, {result.tries} plans timed on {result.device}"
        return JobOutcome(result.plan.stopped or figure, [("the smallest plan", as_share(result.least))])

    return JobSpec(SEARCH, " ".join(targets), "", parameters, take)


def as_share(latency: LatencyShare) -> str:
    """The share as text."""
    return share_words(latency.median, latency.low, latency.high)
