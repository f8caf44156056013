"""The metric of each step, and how far a refit brings it back: known by the plan, so that undo and redo find them again."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tui_pruner.metrics import short_metric

if TYPE_CHECKING:
    from tui_pruner.engine.protocol import SessionView

BASELINE = ""


def step_keys(steps: Sequence[Mapping[str, Any]]) -> list[str]:
    """What the metric after each of these steps is kept under, the checkpoint's first: each key has those before it in it, and no names."""
    keys = [BASELINE]
    for step in steps:
        content = json.dumps({key: value for key, value in step.items() if key != "name"}, sort_keys=True)
        keys.append(hashlib.sha256(f"{keys[-1]} {content}".encode()).hexdigest())
    return keys


def plan_key(plan: Mapping[str, Any] | None) -> str:
    """What a plan's metric is kept under; the same for no plan and for one without steps."""
    return step_keys(plan["steps"])[-1] if plan else BASELINE


@dataclass
class Scores:
    """The metrics so far; `refits` has the distance from the original's outputs as cut, and refitted."""

    name: str = "mAP"
    by_plan: dict[str, float] = field(default_factory=dict)
    refits: dict[str, tuple[float, float]] = field(default_factory=dict)
    keys: list[str] = field(default_factory=lambda: [BASELINE])
    steps: int = 0

    def follow(self, session: SessionView) -> None:
        """Remember which plan each of the session's steps stands for, the undone ones too."""
        self.steps = len(session.steps)
        self.keys = step_keys([*session.plan["steps"], *session.later])

    def put(self, plan: str, metrics: Mapping[str, float]) -> float | None:
        """Keep a validation's result; gives its main figure."""
        found = short_metric(metrics)
        if found is None:
            return None
        self.name, self.by_plan[plan] = found
        return found[1]

    def of_step(self, number: int) -> float | None:
        """The metric after this many steps, where it was measured."""
        return self.by_plan.get(self.keys[number]) if number < len(self.keys) else None

    def refit_of_step(self, number: int) -> tuple[float, float] | None:
        """The distances after this many steps, where that state was refitted."""
        return self.refits.get(self.keys[number]) if number < len(self.keys) else None

    @property
    def baseline(self) -> float | None:
        """The checkpoint's own metric."""
        return self.by_plan.get(BASELINE)

    @property
    def latest(self) -> float | None:
        """The metric of the session as it stands, once there are steps."""
        return self.of_step(self.steps) if self.steps else None
