"""The steps of a session: a cursor, the step held for comparison, and the metric of each."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from tui_pruner.domain.results import MeasuredMetric, short_metric
from tui_pruner.tui.actions import key_of
from tui_pruner.tui.drawing import titled

if TYPE_CHECKING:
    from tui_pruner.domain.forecast import Forecast
    from tui_pruner.engine.messages import SessionView, StepView


@dataclass(frozen=True)
class Timeline:
    """The steps of a session with a cursor on one of them, 0 being the checkpoint; `held` is the step to compare with, if any."""

    at: int = 0
    held: int | None = None

    def moved(self, by: int, session: SessionView) -> Timeline:
        """Move the cursor, staying within the ends."""
        return replace(self, at=min(max(self.at + by, 0), last(session)))

    def holding(self) -> Timeline:
        """Hold the step under the cursor, or release it."""
        return replace(self, held=None if self.held == self.at else self.at)

    def kept(self, session: SessionView) -> Timeline:
        """Move the cursor to the current step, and release a held step that no longer exists."""
        held = self.held if self.held is not None and self.held <= last(session) else None
        return Timeline(len(session.steps), held)

    def ends(self, session: SessionView) -> tuple[int, int]:
        """The two states to compare: the held or the previous step and the one under the cursor; else checkpoint and current state."""
        if self.held is not None:
            return self.held, self.at
        return (self.at - 1, self.at) if self.at else (0, len(session.steps))


def last(session: SessionView) -> int:
    """The number of the last step, undone ones included."""
    return len(session.steps) + len(session.ahead)


def step_at(session: SessionView, number: int) -> StepView | None:
    """A step by its number; None for the checkpoint and for a number without a step."""
    steps = [*session.steps, *session.ahead]
    return steps[number - 1] if 0 < number <= len(steps) else None


def failed_step(session: SessionView) -> StepView | None:
    """The first applied step whose proof failed; None where there is none, or none yet."""
    return next((step for step in session.steps if step.proof is not None and not step.proof.equal), None)


def unproved(session: SessionView) -> str:
    """Why nothing may be written or started from the session, and what to do; empty where no proof failed."""
    step = failed_step(session)
    if step is None or step.proof is None:
        return ""
    way_back = f"undo it with {key_of('undo')}" if step is session.steps[-1] else f"undo the steps from there on with {key_of('undo')}"
    return f"step {step.number} is not proved ({step.proof.reason}): {way_back}"


def name_of(session: SessionView, number: int) -> str:
    """A step's display name: "1 model.5 -30%", and "step 1: 4 layers" where two numbers would follow each other."""
    step = step_at(session, number)
    if step is None:
        return "checkpoint"
    title = titled(step.title)
    return f"step {number}: {title}" if title[:1].isdigit() else f"{number} {title}"


BASELINE = ""


def step_keys(steps: Sequence[Mapping[str, Any]]) -> list[str]:
    """The keys of the metrics after each of these steps, the checkpoint's first: each covers all earlier steps, without names."""
    keys = [BASELINE]
    for step in steps:
        content = json.dumps({key: value for key, value in step.items() if key != "name"}, sort_keys=True)
        keys.append(hashlib.sha256(f"{keys[-1]} {content}".encode()).hexdigest())
    return keys


def plan_key(plan: Mapping[str, Any] | None) -> str:
    """The key of a plan's metric; the same for no plan and for one without steps."""
    return step_keys(plan["steps"])[-1] if plan else BASELINE


@dataclass
class StepMetrics:
    """The metrics so far, by plan. `refits`: the distances from the original's outputs as cut, and refitted.

    `intervals`: the metrics' 95 % intervals. `resamples`: the metrics on the bootstrap resamples. `latencies`: milliseconds.
    `forecasts`: the forecasts of steps.
    """

    name: str = "mAP"
    by_plan: dict[str, float] = field(default_factory=dict)
    intervals: dict[str, tuple[float, float]] = field(default_factory=dict)
    resamples: dict[str, Sequence[float]] = field(default_factory=dict)
    latencies: dict[str, float] = field(default_factory=dict)
    forecasts: dict[str, Forecast] = field(default_factory=dict)
    refits: dict[str, tuple[float, float]] = field(default_factory=dict)
    keys: list[str] = field(default_factory=lambda: [BASELINE])
    steps: int = 0

    def follow(self, session: SessionView) -> None:
        """Record the plan of each of the session's steps, undone ones too."""
        self.steps = len(session.steps)
        self.keys = step_keys([*session.plan["steps"], *session.later])

    def put(
        self, plan: str, metrics: Mapping[str, float], interval: tuple[float, float] | None = None, resamples: Sequence[float] = ()
    ) -> float | None:
        """Store a validation's result; return its main figure."""
        found = short_metric(metrics)
        if found is None:
            return None
        self.name, self.by_plan[plan] = found
        if interval is not None:
            self.intervals[plan] = interval
        self.resamples[plan] = resamples
        return found[1]

    def of_step(self, number: int) -> float | None:
        """The metric after this many steps, if it was measured."""
        return self.by_plan.get(self.keys[number]) if number < len(self.keys) else None

    def measurement(self, key: str) -> MeasuredMetric | None:
        """The measurements of a plan, by its key."""
        value = self.by_plan.get(key)
        return None if value is None else MeasuredMetric(value, self.intervals.get(key), self.resamples.get(key, ()))

    def measurement_of_step(self, number: int) -> MeasuredMetric | None:
        """The measurements after this many steps."""
        return self.measurement(self.keys[number]) if number < len(self.keys) else None

    def refit_of_step(self, number: int) -> tuple[float, float] | None:
        """The distances after this many steps, if that state was refitted."""
        return self.refits.get(self.keys[number]) if number < len(self.keys) else None

    def forget(self) -> None:
        """Drop the measurements on data: on other data they cannot be compared."""
        for known in (self.by_plan, self.refits, self.intervals, self.resamples, self.forecasts):
            known.clear()

    @property
    def tried(self) -> list[tuple[float, float]]:
        """For each forecast whose step was measured since, the sum of scanned drops, and the measured drop."""
        return [(one.drop, one.base - self.by_plan[key]) for key, one in self.forecasts.items() if key in self.by_plan]

    def error_of_step(self, number: int) -> float | None:
        """The metric after this many steps minus its forecast, if there was one."""
        key = self.keys[number] if number < len(self.keys) else None
        return self.by_plan[key] - self.forecasts[key].expected if key in self.forecasts and key in self.by_plan else None

    @property
    def baseline(self) -> float | None:
        """The checkpoint's own metric."""
        return self.by_plan.get(BASELINE)

    @property
    def latest(self) -> float | None:
        """The metric of the current session, once there are steps."""
        return self.of_step(self.steps) if self.steps else None
