"""The keys of the steps pane: go to a step, compare two, name one; and plans as files."""

from __future__ import annotations

from pathlib import Path

from textual import on

from tui_pruner.errors import PlanError
from tui_pruner.tui.compare_text import Compared
from tui_pruner.tui.figures import plural
from tui_pruner.tui.messages import PlanSaved, StatesCompared
from tui_pruner.tui.screens.path_prompt import PathPrompt
from tui_pruner.tui.screens.question import Answer, Question
from tui_pruner.tui.screens.session_keys import SessionKeys
from tui_pruner.tui.timeline import Timeline, last, name_of, step_at


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

    def action_save_plan(self) -> None:
        """Ask where to, then write the plan."""
        board = self.board
        if board is None:
            return
        if not board.session.steps:
            self.say("nothing to save: no step was applied", "warning")
            return
        text = f"{plural(len(board.session.steps), 'step')} as YAML, to read, edit, open again here, or use with --plan."
        self.app.push_screen(PathPrompt("Save the plan as", text, str(self.opening.plan_file), "plan.yaml"), self._take_plan_place)

    def action_open_plan(self) -> None:
        """Ask for a plan file, then replace the steps by its."""
        if self.board is None:
            return
        text = "A plan of this checkpoint: its steps replace the present ones."
        self.app.push_screen(PathPrompt("Open the plan", text, str(self.opening.plan_file), "plan.yaml"), self._take_plan)

    @on(StatesCompared)
    def show_comparison(self, event: StatesCompared) -> None:
        """Show two states side by side, if the steps are still looked at."""
        if self.board is not None and self.pane == "steps":
            self.compared = Compared(event.result, self.board.session, self.scores)
            self.draw_detail()

    @on(PlanSaved)
    def show_saved_plan(self, event: PlanSaved) -> None:
        """Say where the plan is."""
        text = f"saved {plural(event.result.steps, 'step')} to {Path(event.result.output).name}"
        self.note(text)
        self.say(f"{text}: {event.result.output}")

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

    def _take_plan_place(self, path: str | None) -> None:
        if not path or self.session is None:
            return
        target = str(Path(path).expanduser())
        if not Path(target).exists():
            self.session.save_plan(target, force=False)
            return
        question = Question("Replace the file?", f"{target} exists.", [Answer("r", "replace it", target)])
        self.app.push_screen(question, self._replace_plan)

    def _replace_plan(self, target: str | None) -> None:
        if target and self.session is not None:
            self.session.save_plan(target, force=True)

    def _take_plan(self, path: str | None) -> None:
        from tui_pruner.plan_file import read_plan_file

        board = self.board
        if not path or board is None or self.session is None:
            return
        try:
            plan = read_plan_file(Path(path).expanduser())
        except PlanError as error:
            self.say(str(error), "error")
            return
        if not last(board.session):
            self.session.load_plan(plan)
            return
        text = f"{plural(last(board.session), 'step')} will be replaced: {name_of(board.session, 1)} and what follows."
        question = Question("Replace the steps?", text, [Answer("r", "replace them", "replace"), Answer("s", "save them first", "save")])
        self.app.push_screen(question, lambda answer: self._replace_steps(answer, plan))

    def _replace_steps(self, answer: str | None, plan: object) -> None:
        if answer == "save":
            self.action_save_plan()
        elif answer == "replace" and self.session is not None:
            self.session.load_plan(plan)
