"""Applies the pending cuts as steps; undoes, redoes, compares and names steps."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING

from tui_pruner.domain.formatting import plural
from tui_pruner.tui.actions import INTERACTIVE, STEPS, STEPS_PANE, Action
from tui_pruner.tui.controllers.base import Controller, Dialogs, Handler, Jobs, unproved_reason
from tui_pruner.tui.messages import EngineMessage, JobsChanged, ProofArrived, SessionChanged
from tui_pruner.tui.panes.comparison import Compared, NotCompared
from tui_pruner.tui.state import PROOFS, AppState, Store
from tui_pruner.tui.timeline import Timeline, last, plan_key, step_at

if TYPE_CHECKING:
    from tui_pruner.engine.messages import Comparison, ProofView
    from tui_pruner.tui.engine_session import EngineSession

UP_TO = "prune MODEL --plan FILE --steps N -o OUT"
COMPARE = "steps MODEL --plan FILE --compare A B"


class StepController(Controller):
    """Actions on steps; while their pane has the focus, the detail pane compares the step under the cursor.

    `_early`: proofs by the ids of steps that are not shown yet; a step is saved before it is shown, and its proof may arrive earlier.
    """

    def __init__(self, store: Store, engine: EngineSession, jobs: Jobs, dialogs: Dialogs) -> None:
        super().__init__(store, engine, jobs, dialogs)
        self._early: dict[str, ProofView] = {}

    def actions(self) -> Sequence[Action]:
        """Actions that make steps, and those of the steps pane."""
        return (
            Action(
                id="apply",
                keys="a",
                title="Apply",
                help="Apply the pending cuts as a new step: cut, then proved against the masked twin.",
                group=STEPS,
                cli="prune MODEL --cut LAYER=AMOUNT -o OUT",
                run=self.apply,
                footer="apply",
                disabled_reason=not_to_apply,
            ),
            Action(
                id="undo",
                keys="u",
                title="Undo",
                help="Undo the last step.",
                group=STEPS,
                cli=UP_TO,
                run=lambda: self.engine.undo(),
                footer="undo",
                disabled_reason=lambda state: "" if state.session.steps else "no step to undo",
            ),
            Action(
                id="redo",
                keys="ctrl+r,ctrl+y",
                shown="ctrl+r",
                title="Redo",
                help="Redo the last undone step.",
                group=STEPS,
                cli=UP_TO,
                run=lambda: self.engine.redo(),
                disabled_reason=lambda state: "" if state.session.ahead else "no step to redo",
            ),
            Action(
                id="step-move-minus-1",
                keys="up,k",
                shown="up k",
                title="Step before",
                help="Compare the previous step with its predecessor.",
                group=STEPS,
                cli=INTERACTIVE,
                run=partial(self.move, -1),
                pane=STEPS_PANE,
            ),
            Action(
                id="step-move-1",
                keys="down,j",
                shown="down j",
                title="Step after",
                help="Compare the next step with its predecessor.",
                group=STEPS,
                cli=INTERACTIVE,
                run=partial(self.move, 1),
                pane=STEPS_PANE,
            ),
            Action(
                id="go-to-step",
                keys="enter",
                title="Go to the step",
                help="Undo or redo up to the step under the cursor; the others stay listed.",
                group=STEPS,
                cli=UP_TO,
                run=self.go_to,
                footer="go there",
                pane=STEPS_PANE,
            ),
            Action(
                id="pin-step",
                keys="space",
                title="Compare with it",
                help="Hold the step under the cursor to compare others with it; again to release it.",
                group=STEPS,
                cli=COMPARE,
                run=self.pin,
                footer="compare with",
                pane=STEPS_PANE,
            ),
            Action(
                id="name-step",
                keys="n",
                title="Name the step",
                help="Give the step under the cursor a name.",
                group=STEPS,
                cli="steps MODEL --plan FILE --name N=WORDS --save-plan FILE",
                run=self.name,
                footer="name",
                pane=STEPS_PANE,
            ),
        )

    def moves(self) -> Mapping[str, Callable[..., object]]:
        """Moves to the first and the last step, and by half a page."""
        return {"step-move": self.move}

    def handlers(self) -> Mapping[type[EngineMessage | JobsChanged], Handler]:
        """Handlers of changed steps, proofs and comparisons."""
        return {SessionChanged: self.take_session, ProofArrived: self.take_proof}

    def begin(self) -> None:
        """Observe the focus, the steps and their proofs."""
        self.store.observe(("focus", "timeline", "session", PROOFS), self.compare, at_once=True)

    def apply(self) -> None:
        """Apply the pending cuts as a new step."""
        self.engine.apply(self.state.pending)

    def move(self, by: int) -> None:
        """Move the cursor to another step."""
        self._set_timeline(self.view.timeline.moved(by, self.state.session))

    def pin(self) -> None:
        """Hold the step under the cursor for comparison, or release it."""
        self._set_timeline(self.view.timeline.holding())

    def go_to(self) -> None:
        """Undo or redo until the step under the cursor is the current one."""
        if self.view.timeline.at != len(self.state.session.steps):
            self.engine.go_to(self.view.timeline.at)

    def name(self) -> None:
        """Ask for a name of the step under the cursor, or of the last one."""
        session = self.state.session
        number = self.view.timeline.at if self.view.focus == STEPS_PANE else len(session.steps)
        step = step_at(session, number)
        if step is None:
            self.say("the checkpoint has the name of its file: choose a step to name", "warning")
            return

        def take(name: str | None) -> None:
            if name is not None:
                self.engine.name_step(number, name)

        text = "What the steps, the plan and the report call it; empty: what it cuts."
        self.dialogs.ask_text(f"Name step {number}", text, step.name, take, step.title, may_be_empty=True)

    def compare(self) -> None:
        """Request the comparison for the step under the cursor, while the steps pane has the focus."""
        if self.view.focus == STEPS_PANE and last(self.state.session):
            from tui_pruner.engine.requests import Compare

            first, second = ends = self.view.timeline.ends(self.state.session)
            self.engine.ask(Compare(first=first, second=second), self.show_comparison, partial(self.show_not_compared, ends))

    def take_session(self, event: SessionChanged) -> None:
        """Show the steps as they are now; an applied step clears what was pending."""
        state, session, values = self.state, event.session, {}
        expected = state.forecast if event.did == "applied" else None
        state.metrics.follow(session)
        for step in session.steps:
            step.proof = step.proof or self._early.pop(step.id, None)
        if expected is not None:
            state.metrics.forecasts[plan_key(session.plan)] = expected
        if event.did == "applied":
            state.preview, state.dry_run = None, None
            state.no_preview = state.no_dry_run = ""
            values = {"pending": state.pending.cleared, "marks": set()}
        if event.did != "named":
            values["timeline"] = self.view.timeline.kept(session)
        self.store.update(session=session, **values)
        if event.did == "opened":
            self.store.note(f"opened a plan of {plural(len(session.steps), 'step')}")
        for note in session.steps[-1].notes if event.did == "applied" and session.steps else []:
            self.store.note(note)

    def take_proof(self, event: ProofArrived) -> None:
        """Store a proof with its step."""
        number, id, proof = event.event.step, event.event.id, event.event.proof
        shown = [step for step in self.state.session.steps if step.id == id]
        for step in shown:
            step.proof = proof
        if not shown:
            self._early[id] = proof
        if not proof.equal:
            self.store.note(f"step {number} is not proved: {proof.reason}", failed=True)
            if reason := unproved_reason(self.state):
                self.say(reason, "error")
        self.store.touch(PROOFS)

    def show_comparison(self, result: Comparison) -> None:
        """Show two states side by side, if the steps pane still has the focus."""
        if self.view.focus == STEPS_PANE:
            self.store.update(comparison=Compared(result, self.state.session, self.state.metrics))

    def show_not_compared(self, ends: tuple[int, int], reason: str) -> None:
        """Show why two states, each after this many steps, cannot be compared."""
        if self.view.focus == STEPS_PANE:
            self.store.update(comparison=NotCompared(ends, self.state.session, reason))

    def _set_timeline(self, timeline: Timeline) -> None:
        self.store.update(timeline=timeline)


def not_to_apply(state: AppState) -> str:
    """Why the pending cuts cannot be applied; empty where they can."""
    return state.clash if state.pending else "nothing to apply: change a ratio with left and right first"
