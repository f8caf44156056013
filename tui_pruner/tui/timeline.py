"""Where one stands among the steps: the cursor, and the step that others are compared with."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from tui_pruner.tui.actions import key_of

if TYPE_CHECKING:
    from tui_pruner.engine.protocol import SessionView, StepView


@dataclass(frozen=True)
class Timeline:
    """The steps of a session with a cursor on one of them, 0 being the checkpoint; `held` is the one to compare with, if any."""

    at: int = 0
    held: int | None = None

    def moved(self, by: int, session: SessionView) -> Timeline:
        """The cursor further along, staying at the ends."""
        return replace(self, at=min(max(self.at + by, 0), last(session)))

    def holding(self) -> Timeline:
        """The step under the cursor held, or let go where it was."""
        return replace(self, held=None if self.held == self.at else self.at)

    def kept(self, session: SessionView) -> Timeline:
        """The cursor on the step that counts now, and only what still exists held."""
        held = self.held if self.held is not None and self.held <= last(session) else None
        return Timeline(len(session.steps), held)

    def ends(self, session: SessionView) -> tuple[int, int]:
        """The two states to compare: the held step or the one before, and the one under the cursor; the checkpoint with what counts now."""
        if self.held is not None:
            return self.held, self.at
        return (self.at - 1, self.at) if self.at else (0, len(session.steps))


def last(session: SessionView) -> int:
    """The number of the last step, undone ones included."""
    return len(session.steps) + len(session.ahead)


def step_at(session: SessionView, number: int) -> StepView | None:
    """A step by its number; None for the checkpoint and where there is none."""
    steps = [*session.steps, *session.ahead]
    return steps[number - 1] if 0 < number <= len(steps) else None


def failed_step(session: SessionView) -> StepView | None:
    """The first step that counts and whose proof failed; None where there is none, or none yet."""
    return next((step for step in session.steps if step.proof is not None and not step.proof.equal), None)


def unproved(session: SessionView) -> str:
    """Why nothing may be made of the session, and what to do; empty where no proof failed."""
    step = failed_step(session)
    if step is None or step.proof is None:
        return ""
    way_back = f"undo it with {key_of('undo')}" if step is session.steps[-1] else f"undo the steps from there on with {key_of('undo')}"
    return f"step {step.number} is not proved ({step.proof.reason}): {way_back}"


def name_of(session: SessionView, number: int) -> str:
    """What a step is called."""
    step = step_at(session, number)
    return f"{number} {step.title}" if step else "checkpoint"
