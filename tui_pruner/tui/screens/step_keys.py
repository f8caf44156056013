"""The keys of the steps pane: go to a step, compare two, name one."""

from __future__ import annotations

from textual import on

from tui_pruner.tui.compare_text import Compared, NotCompared
from tui_pruner.tui.messages import StatesCompared
from tui_pruner.tui.screens.path_prompt import PathPrompt
from tui_pruner.tui.screens.session_keys import SessionKeys
from tui_pruner.tui.timeline import Timeline, last, step_at


class StepKeys(SessionKeys):
    """The timeline: while it has the focus, the detail pane compares the step under the cursor."""

    def action_step_move(self, by: int) -> None:
        """The cursor to another step."""
        if self.board is not None:
            self._stand(self.timeline.moved(by, self.board.session))

    def action_pin_step(self) -> None:
        """Hold the step under the cursor, or let go of it."""
        if self.board is not None:
            self._stand(self.timeline.holding())

    def action_go_to_step(self) -> None:
        """Undo or redo until the step under the cursor is the last that counts."""
        if self.board is not None and self.session is not None and self.timeline.at != len(self.board.session.steps):
            self.session.go_to(self.timeline.at)

    def action_name_step(self) -> None:
        """Type a name for the step under the cursor, or for the last one."""
        board = self.board
        if board is None:
            return
        number = self.timeline.at if self.pane == "steps" else len(board.session.steps)
        step = step_at(board.session, number)
        if step is None:
            self.say("the checkpoint has the name of its file: choose a step to name", "warning")
            return
        prompt = PathPrompt(
            f"Name step {number}",
            "What the steps, the plan and the report call it; empty: what it cuts.",
            step.name,
            step.title,
            may_be_empty=True,
        )
        self.app.push_screen(prompt, lambda name: self._take_name(number, name))

    @on(StatesCompared)
    def show_comparison(self, event: StatesCompared) -> None:
        """Show two states side by side, if the steps are still looked at."""
        if self.board is not None and self.pane == "steps":
            session = self.board.session
            self.compared = Compared(event.result, session, self.scores) if event.result else NotCompared(event.ends, session, event.reason)
            self.draw_detail()

    def compare_steps(self) -> None:
        """Ask for the comparison that belongs to the cursor, where the steps are looked at."""
        board = self.board
        if board is not None and self.session is not None and self.pane == "steps" and last(board.session):
            self.session.compare(*self.timeline.ends(board.session))

    def _stand(self, timeline: Timeline) -> None:
        self.timeline = timeline
        self.draw_steps()
        self.compare_steps()

    def _take_name(self, number: int, name: str | None) -> None:
        if name is not None and self.session is not None:
            self.session.name_step(number, name)
