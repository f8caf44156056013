"""The keys that bring the steps into files and back: plans and reports."""

from __future__ import annotations

from pathlib import Path

from textual import on

from tui_pruner.errors import PlanError
from tui_pruner.tui.actions import key_of
from tui_pruner.tui.figures import plural
from tui_pruner.tui.messages import PlanSaved
from tui_pruner.tui.reports import SUFFIXES, report
from tui_pruner.tui.screens.path_prompt import PathPrompt
from tui_pruner.tui.screens.question import Answer, Question
from tui_pruner.tui.screens.step_keys import StepKeys
from tui_pruner.tui.timeline import last, name_of


class PlanKeys(StepKeys):
    """Nothing is written over without a question, and no steps are replaced without one."""

    def action_save_plan(self) -> None:
        """Ask where to, then write the plan."""
        board = self.board
        if board is None or self.session is None:
            return
        if not board.session.steps:
            self.say("nothing to save: no step was applied", "warning")
            return
        text = f"{plural(len(board.session.steps), 'step')} as YAML, to read, edit, open again here, or use with --plan."
        self.ask_place(PathPrompt("Save the plan as", text, str(self.opening.plan_file), "plan.yaml"), self.session.save_plan)

    def action_report(self) -> None:
        """Ask where to, then have the report written in the background."""
        board = self.board
        if board is None or self.subject is None:
            return
        if not board.session.steps:
            self.say("nothing to report: no step was applied", "warning")
            return
        measured = (
            "with metrics and pictures" if self.subject.data else f"without metrics, since no data is chosen ({key_of('choose-data')})"
        )
        text = f"{plural(len(board.session.steps), 'step')} in one .html or .md file, {measured}."
        prompt = PathPrompt("Write the report to", text, str(self.opening.report_file), "report.html")
        self.ask_place(prompt, lambda target, _: self._report(target), no_report)

    def action_open_plan(self) -> None:
        """Ask for a plan file, then replace the steps by its."""
        if self.board is None:
            return
        text = "A plan of this checkpoint: its steps replace the present ones."
        self.app.push_screen(PathPrompt("Open the plan", text, str(self.opening.plan_file), "plan.yaml"), self._take_plan)

    @on(PlanSaved)
    def show_saved_plan(self, event: PlanSaved) -> None:
        """Say where the plan is."""
        text = f"saved {plural(event.result.steps, 'step')} to {Path(event.result.output).name}"
        self.note(text)
        self.say(f"{text}: {event.result.output}")

    def _report(self, target: str) -> None:
        if self.board is None or self.subject is None:
            return
        self.queue(report(self.subject, self.board.session, str(self.opening.plan_file), target))

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


def no_report(place: Path) -> str:
    """Why no report can be put there; empty where one can."""
    if place.suffix.lower() not in SUFFIXES:
        return f"{place.name} is no report: its name must end in {' or '.join(SUFFIXES)}"
    return "" if place.parent.is_dir() else f"there is no folder {place.parent}: create it first"
