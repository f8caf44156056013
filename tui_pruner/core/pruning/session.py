"""A session: an analysed checkpoint and the plan so far, with undo and redo along the list of steps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

from tui_pruner.core.model.analysis import Analysis
from tui_pruner.core.pruning.plan import Plan, Step, parse_plan, removal_of_step
from tui_pruner.core.pruning.preview import Arithmetic, Widths
from tui_pruner.core.pruning.proof import Proof, prove
from tui_pruner.core.pruning.removal import NOTHING, Removal
from tui_pruner.core.pruning.resolve import Resolution, resolve
from tui_pruner.core.pruning.surgery import cut
from tui_pruner.core.pruning.twin import Original, Paths
from tui_pruner.domain.cuts import Request
from tui_pruner.domain.errors import RequestError


@dataclass(eq=False)
class AppliedStep:
    """A step and everything that is gone after it. `notes` says what was adjusted or skipped; `proof` is None until it was made.

    `id` tells it from every other step, of the same number too: a proof belongs to one of them.
    """

    step: Step
    removal: Removal
    notes: tuple[str, ...] = ()
    proof: Proof | None = None
    id: str = field(default_factory=lambda: uuid4().hex)


@dataclass
class PruningSession:
    """The state that the engine holds for the interface; every change goes through its methods."""

    analysis: Analysis
    steps: list[AppliedStep] = field(default_factory=list)
    undone: list[AppliedStep] = field(default_factory=list)
    written: tuple[Step, ...] = ()

    def __post_init__(self) -> None:
        self.arithmetic = Arithmetic(self.analysis)
        self._paths: Paths | None = None
        self._resolved: tuple[tuple[Any, ...], Removal, Resolution] | None = None

    @property
    def removal(self) -> Removal:
        """Everything that is gone now."""
        return self.steps[-1].removal if self.steps else NOTHING

    @property
    def widths(self) -> Widths:
        """The widths now."""
        return self.arithmetic.widths(self.removal)

    @property
    def plan(self) -> Plan:
        """The plan so far."""
        checkpoint = self.analysis.checkpoint
        return Plan(checkpoint=Path(checkpoint.path).name, sha256=checkpoint.sha256, steps=[applied.step for applied in self.steps])

    @property
    def unsaved(self) -> bool:
        """Whether there are steps that no written file has."""
        return tuple(applied.step for applied in self.steps) != self.written

    def load(self, content: dict[str, Any]) -> None:
        """Replace the steps by those of a plan; if it was written by hand, without channels, they are chosen now.

        Raises:
            PlanError: malformed, impossible here, or made for another checkpoint.
            RequestError: a step written by hand cannot be done.
            ConflictError: the cuts of a step written by hand contradict each other.
        """
        plan = parse_plan(content)
        plan.check_checkpoint(self.analysis.checkpoint.sha256)
        steps: list[AppliedStep] = []
        removal = NOTHING
        for planned in plan.steps:
            step, notes = self._settled(planned, removal)
            removal = removal.together(removal_of_step(step, self.analysis.coupling))
            steps.append(AppliedStep(step, removal, notes))
        removal.check(self.analysis.coupling)
        self.steps, self.undone = steps, []

    def preview(self, requests: Sequence[Request]) -> Resolution:
        """What requests would add to what is gone now; the last answer is kept: totals, a layer's detail and the shapes ask for it."""
        asked, gone, last = (*requests, self.analysis.ranking.version), self.removal, self._resolved
        if last is not None and last[0] == asked and last[1] is gone:
            return last[2]
        found = resolve(self.analysis, requests, gone)
        self._resolved = (asked, gone, found)
        return found

    def apply(self, requests: Sequence[Request]) -> AppliedStep:
        """Make requests a step.

        Raises:
            ConflictError: requests contradict each other.
            RequestError: a request cannot be done, or there is none.
        """
        if not requests:
            raise RequestError("nothing to apply: mark a layer and set a ratio first")
        found = self.preview(requests)
        found.demand_clean()
        removal = self.removal.together(found.removal)
        removal.check(self.analysis.coupling)
        applied = AppliedStep(found.step, removal, found.notes)
        self.steps.append(applied)
        self.undone.clear()
        return applied

    def undo(self) -> None:
        """Take the last step back.

        Raises:
            RequestError: there is none.
        """
        if not self.steps:
            raise RequestError("nothing to undo")
        self.undone.append(self.steps.pop())

    def redo(self) -> None:
        """Bring the last undone step again.

        Raises:
            RequestError: there is none.
        """
        if not self.undone:
            raise RequestError("nothing to redo")
        self.steps.append(self.undone.pop())

    def prove(self, applied: AppliedStep, original: Original | None = None) -> Proof:
        """The masked twin's verdict on the state after a step; made once."""
        if applied.proof is None:
            model, coupling = self.analysis.checkpoint.model, self.analysis.coupling
            original = original or self.original()
            applied.proof = prove(model, cut(model, coupling, applied.removal), coupling, applied.removal, original=original)
        return applied.proof

    def original(self) -> Original:
        """Return what proofs are measured against: new each time, as it grows by what it computes, but with the paths of the one before."""
        original = Original(self.analysis.checkpoint.model, images=self.analysis.checkpoint.inputs, paths=self._paths)
        self._paths = original.paths
        return original

    @property
    def timeline(self) -> list[AppliedStep]:
        """All steps in their order: those that count now, then those that were undone and can come again."""
        return [*self.steps, *reversed(self.undone)]

    def removal_at(self, number: int) -> Removal:
        """Everything that is gone after this many steps of the timeline, 0 being the checkpoint.

        Raises:
            RequestError: there are fewer.
        """
        timeline = self.timeline
        if not 0 <= number <= len(timeline):
            raise RequestError(f"no step {number}: the last step is {len(timeline)}")
        return timeline[number - 1].removal if number else NOTHING

    def go_to(self, number: int) -> None:
        """Undo or redo until this many steps of the timeline count.

        Raises:
            RequestError: there are fewer.
        """
        self.removal_at(number)
        while len(self.steps) > number:
            self.undo()
        while len(self.steps) < number:
            self.redo()

    def rename(self, number: int, name: str) -> None:
        """Give a step of the timeline a name; an empty one takes it away.

        Raises:
            RequestError: the step does not exist.
        """
        if number < 1:
            raise RequestError("the checkpoint has the name of its file: only steps can be named")
        self.removal_at(number)
        applied = self.timeline[number - 1]
        applied.step = applied.step.model_copy(update={"name": name.strip()})

    def _settled(self, step: Step, gone: Removal) -> tuple[Step, tuple[str, ...]]:
        """A step that says which channels it removes, and what was adjusted to get there."""
        if not step.unsettled:
            return step, ()
        found = resolve(self.analysis, step.requests(), gone, step.name)
        found.demand_clean()
        return found.step, found.notes

    def mark_written(self) -> None:
        """Remember that a file with exactly these steps exists."""
        self.written = tuple(applied.step for applied in self.steps)
