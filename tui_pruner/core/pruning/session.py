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

    `id` is unique, also among steps of the same number: a proof belongs to one step.
    """

    step: Step
    removal: Removal
    notes: tuple[str, ...] = ()
    proof: Proof | None = None
    id: str = field(default_factory=lambda: uuid4().hex)


@dataclass
class PruningSession:
    """A checkpoint and its steps, as the engine holds them for the interface; every change is a method."""

    analysis: Analysis
    steps: list[AppliedStep] = field(default_factory=list)
    undone: list[AppliedStep] = field(default_factory=list)
    written: tuple[Step, ...] = ()

    def __post_init__(self) -> None:
        self.arithmetic = Arithmetic(self.analysis)
        self._paths: Paths | None = None
        self._resolved: tuple[tuple[Any, ...], Removal, Resolution] | None = None
        self._alone: tuple[Removal, str, dict[Request, Widths | None]] | None = None

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
        """Replace the steps by those of a plan; where it was written by hand, without channels, choose them now.

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
        """Resolve requests on top of what is gone; the last result is cached, as totals, a layer's detail and shapes ask for it."""
        asked, gone, last = (*requests, self.analysis.ranking.version), self.removal, self._resolved
        if last is not None and last[0] == asked and last[1] is gone:
            return last[2]
        found = resolve(self.analysis, requests, gone)
        self._resolved = (asked, gone, found)
        return found

    def alone(self, request: Request) -> Widths | None:
        """The widths after one request on top of what is gone; None where it cannot be done.

        A layer's widths are cached until another layer is asked for: its ratio may turn meanwhile. The last preview stays cached.
        """
        gone, known = self.removal, self._alone
        if known is None or known[0] is not gone or known[1] != request.layer:
            self._alone = known = (gone, request.layer, {})
        if request not in known[2]:
            found = resolve(self.analysis, [request], gone)
            failed = bool(found.refusals or found.contradictions)
            known[2][request] = None if failed else self.arithmetic.widths(gone.together(found.removal))
        return known[2][request]

    def apply(self, requests: Sequence[Request]) -> AppliedStep:
        """Apply requests as a step.

        Raises:
            ConflictError: requests contradict each other.
            RequestError: a request cannot be done, or there is none.
        """
        if not requests:
            raise RequestError("nothing to apply: there is no cut")
        found = self.preview(requests)
        found.demand_clean()
        removal = self.removal.together(found.removal)
        removal.check(self.analysis.coupling)
        applied = AppliedStep(found.step, removal, found.notes)
        self.steps.append(applied)
        self.undone.clear()
        return applied

    def undo(self) -> None:
        """Undo the last step.

        Raises:
            RequestError: there is none.
        """
        if not self.steps:
            raise RequestError("nothing to undo")
        self.undone.append(self.steps.pop())

    def redo(self) -> None:
        """Apply the last undone step again.

        Raises:
            RequestError: there is none.
        """
        if not self.undone:
            raise RequestError("nothing to redo")
        self.steps.append(self.undone.pop())

    def prove(self, applied: AppliedStep, original: Original | None = None) -> Proof:
        """Prove the state after a step against the masked twin; a proof is made once."""
        if applied.proof is None:
            model, coupling = self.analysis.checkpoint.model, self.analysis.coupling
            original = original or self.original()
            applied.proof = prove(model, cut(model, coupling, applied.removal), coupling, applied.removal, original=original)
        return applied.proof

    def original(self) -> Original:
        """Return what proofs compare with: new each time, since it keeps all that it computes, but with the paths of the last one."""
        original = Original(self.analysis.checkpoint.model, images=self.analysis.checkpoint.inputs, paths=self._paths)
        self._paths = original.paths
        return original

    @property
    def timeline(self) -> list[AppliedStep]:
        """All steps in their order: the applied ones, then the undone ones that can be redone."""
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
        """Undo or redo until this many steps of the timeline are applied.

        Raises:
            RequestError: there are fewer.
        """
        self.removal_at(number)
        while len(self.steps) > number:
            self.undo()
        while len(self.steps) < number:
            self.redo()

    def rename(self, number: int, name: str) -> None:
        """Give a step of the timeline a name; an empty name removes it.

        Raises:
            RequestError: the step does not exist.
        """
        if number < 1:
            raise RequestError("the checkpoint has the name of its file: only steps can be named")
        self.removal_at(number)
        applied = self.timeline[number - 1]
        applied.step = applied.step.model_copy(update={"name": name.strip()})

    def _settled(self, step: Step, gone: Removal) -> tuple[Step, tuple[str, ...]]:
        """The step with the channels that it removes, and what was adjusted; a step that has them already is returned as it is."""
        if not step.unsettled:
            return step, ()
        found = resolve(self.analysis, step.requests(), gone, step.name)
        found.demand_clean()
        return found.step, found.notes

    def mark_written(self) -> None:
        """Record that a file with exactly these steps exists."""
        self.written = tuple(applied.step for applied in self.steps)
