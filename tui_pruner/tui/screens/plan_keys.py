"""The keys that bring the steps into files and back: plans and reports."""

from __future__ import annotations

from pathlib import Path

from textual import on

from tui_pruner.errors import PlanError, RequestError
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
        if board is None:
            return
        if not board.session.steps:
            self.say("nothing to save: no step was applied", "warning")
            return
        text = f"{plural(len(board.session.steps), 'step')} as YAML, to read, edit, open again here, or use with --plan."
        self.app.push_screen(PathPrompt("Save the plan as", text, str(self.opening.plan_file), "plan.yaml"), self._take_plan_place)

    def action_report(self) -> None:
        """Ask where to, then have the report written in the background."""
        board = self.board
        if board is None or self.subject is None:
            return
        if not board.session.steps:
            self.say("nothing to report: no step was applied", "warning")
            return
        measured = "with metrics and pictures" if self.subject.data else "without metrics, since no data is chosen (d)"
        text = f"{plural(len(board.session.steps), 'step')} in one .html or .md file, {measured}."
        self.app.push_screen(PathPrompt("Write the report to", text, str(self.opening.report_file), "report.html"), self._take_report_place)

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

    def _take_report_place(self, path: str | None) -> None:
        if not path:
            return
        target = Path(path).expanduser()
        if target.suffix.lower() not in SUFFIXES:
            self.say(f"{target.name} is no report: its name must end in {' or '.join(SUFFIXES)}", "error")
        elif not target.parent.is_dir():
            self.say(f"there is no folder {target.parent}: create it first", "error")
        elif target.exists():
            question = Question("Replace the file?", f"{target} exists.", [Answer("r", "replace it", str(target))])
            self.app.push_screen(question, self._report)
        else:
            self._report(str(target))

    def _report(self, target: str | None) -> None:
        if not target or self.board is None or self.subject is None:
            return
        try:
            self.jobs.add(report(self.subject, self.board.session, str(self.opening.plan_file), target))
        except RequestError as error:
            self.say(str(error), "warning")

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
