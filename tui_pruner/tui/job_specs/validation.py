"""Validations as jobs: the checkpoint's own comes first, then each step's; a result goes to its step's score."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from tui_pruner.domain.formatting import plural, score, tiny
from tui_pruner.domain.results import short_metric
from tui_pruner.tui.job_specs.job import JobOutcome, JobSpec
from tui_pruner.tui.timeline import BASELINE, StepMetrics, plan_key

if TYPE_CHECKING:
    from tui_pruner.engine.job_messages import ValidationParameters, ValidationResult
    from tui_pruner.engine.messages import SessionView
    from tui_pruner.tui.job_queue import JobQueue
    from tui_pruner.tui.job_specs.job import OpenCheckpoint


KIND = "validate"
NAMED = "metrics/"
SAME = 1e-4
"""How far the metrics of a cut and of the same cut as a mask may be apart."""


class Validations:
    """Asks for validations in the queue, and keeps the metrics that come out."""

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
            wanted.append(self._wanted(f"step {steps}", plan_key(session.plan), session.plan, session.steps[-1].title))
        added = [self._queue.add(entry) for entry in wanted if entry.key not in self._metrics.by_plan]
        return any(added)

    def ask_masked(self, session: SessionView) -> bool:
        """Queue the validation of the steps as masked, behind that of the cut model where it is not known; False when all are queued.

        Raises:
            RequestError: too many jobs wait.
        """
        cut = self.ask(session)
        masked = self._wanted(f"step {len(session.steps)} masked", plan_key(session.plan), session.plan, masked=True)
        return self._queue.add(masked) or cut

    def use(self, data: str) -> None:
        """Measure on this data from now on; what was measured on other data compares with nothing and is forgotten."""
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
            return _outcome(result)

        return JobSpec(KIND, title, f"{key} masked" if masked else key, parameters, take, fields["data"], about=about)


def _outcome(result: ValidationResult) -> JobOutcome:
    found = short_metric(result.metrics)
    figure = "no metric" if found is None else f"{found[0]} {score(found[1])}{spread(result.interval)}"
    cached = ", cached" if result.cached else ""
    doubt = [("95 % interval", f"{spread(result.interval)[2:-1]}, bootstrap over images")] if result.interval else []
    details = [("images", str(result.images)), *doubt, *shown_metrics(result.metrics)]
    return JobOutcome(f"{figure}, {plural(result.images, 'image')}{cached}", details, result.notes)


def compared(result: ValidationResult, cut: float | None) -> JobOutcome:
    """What a masked model's validation came to, beside the metric of the cut one, where that is known."""
    outcome, found = _outcome(result), short_metric(result.metrics)
    if found is None or cut is None:
        return outcome
    apart = abs(found[1] - cut)
    verdict = "as the cut has" if apart <= SAME else f"but the cut has {score(cut)}"
    return replace(outcome, figure=f"{found[0]} {score(found[1])} {verdict}, differs by {tiny(apart)}")


def spread(interval: tuple[float, float] | None) -> str:
    """Where a metric may lie instead, in brackets; nothing where that is not known."""
    return f" ({score(interval[0])} to {score(interval[1])})" if interval else ""


def shown_metrics(metrics: Mapping[str, float]) -> list[tuple[str, str]]:
    """All metrics by name, as they are shown."""
    return [(name.removeprefix(NAMED), score(value)) for name, value in metrics.items() if name.startswith(NAMED)]
