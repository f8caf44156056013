"""The keys that change the session: apply, undo, redo, write; and what the engine says."""

from __future__ import annotations

from pathlib import Path

from textual import on

from tui_pruner.tui.board import Board
from tui_pruner.tui.figures import file_size, plural
from tui_pruner.tui.messages import Doing, EngineDied, Opened, ProofArrived, Refused, SessionChanged, Written
from tui_pruner.tui.screens.path_prompt import PathPrompt
from tui_pruner.tui.screens.target_keys import TargetKeys


class SessionKeys(TargetKeys):
    """Steps and files."""

    def action_apply(self) -> None:
        """Make what is asked for a step."""
        board = self.board
        if board is None or self.session is None:
            return
        if not board.asked:
            self.say("nothing to apply: change a ratio with left and right first", "warning")
            return
        if clash := board.clash:
            self.say(clash, "error")
            return
        self.session.apply(board.asked)

    def action_undo(self) -> None:
        """Take the last step back."""
        if self.board is None or self.session is None:
            return
        if not self.board.session.steps:
            self.say("no step to undo", "warning")
            return
        self.session.undo()

    def action_redo(self) -> None:
        """Bring the last undone step again."""
        if self.board is None or self.session is None:
            return
        if not self.board.session.ahead:
            self.say("no step to redo", "warning")
            return
        self.session.redo()

    def action_write(self) -> None:
        """Ask where to, then save."""
        if self.board is None or self.session is None:
            return
        if not self.board.session.steps:
            self.say("nothing to write: no step was applied", "warning")
            return
        if self.refuses_unproved():
            return
        asked = f"  {plural(len(self.board.asked.amounts), 'ratio')} not applied will not be in it." if self.board.asked else ""
        text = f"A .pt file that stock Ultralytics loads, checked in a clean process before it is put there.{asked}"
        self.ask_place(PathPrompt("Write the pruned model to", text, str(self.opening.output)), self.session.write)

    @on(Opened)
    def show_model(self, event: Opened) -> None:
        """Show the model, and after a restart what was asked for again."""
        before = self.board
        self.doing = ""
        self.board = Board(event.result, event.result.session)
        self.scores.follow(event.result.session)
        if before is not None and event.replayed:
            self.board.asked, self.board.marks = before.asked, before.marks
            self.board.scan, self.board.timed = before.scan, before.timed
            key = self.model_tree.row.key if self.model_tree.row else ""
            self.model_tree.show_model(self.board)
            self.model_tree.go_to(key)
            self.ask(self.board.asked)
            self.say("the engine is back, with every step")
        else:
            self.model_tree.show_model(self.board)
        for warning in event.result.warnings:
            self.note(warning)
        if self.subject is None:
            self.start_jobs(event.result)
        self.draw_all()
        self.wake()

    @on(SessionChanged)
    def show_session(self, event: SessionChanged) -> None:
        """Show the steps as they are now; an applied step clears what was asked for."""
        board = self.board
        if board is None:
            return
        board.session = event.session
        self.scores.follow(event.session)
        if event.did == "applied":
            board.asked, board.preview, board.dry_run = board.asked.cleared, None, None
            board.no_preview = board.no_dry_run = ""
            board.marks.clear()
            self.validate_step()
        elif event.did == "opened":
            self.note(f"opened a plan of {plural(len(event.session.steps), 'step')}")
        if event.did != "named":
            self.timeline = self.timeline.kept(event.session)
        for note in event.session.steps[-1].notes if event.did == "applied" and event.session.steps else []:
            self.note(note)
        self.refresh_figures()
        self.draw_all()
        self.compare_steps()

    @on(ProofArrived)
    def show_proof(self, event: ProofArrived) -> None:
        """Put the verdict beside its step."""
        board = self.board
        if board is None:
            return
        for step in board.session.steps:
            if step.number == event.event.step:
                step.proof = event.event.proof
        if not event.event.proof.equal:
            self.note(f"step {event.event.step} is not proved: {event.event.proof.reason}", failed=True)
            self.refuses_unproved()
        self.draw_steps()
        self.compare_steps()

    @on(Doing)
    def show_doing(self, event: Doing) -> None:
        """Show what the engine is busy with."""
        self.doing = event.what
        self.wake()

    @on(Written)
    def show_written(self, event: Written) -> None:
        """Say where the file is and what was checked."""
        result = event.result
        if self.board is not None:
            self.board.session = self.board.session.model_copy(update={"unsaved": False})
        good = sum(check.ok for check in result.checks)
        text = f"wrote {Path(result.output).name}, {file_size(result.bytes)}, {good} of {plural(len(result.checks), 'check')} passed"
        self.note(text)
        self.say(f"{text}: {result.output}")

    @on(Refused)
    def show_refusal(self, event: Refused) -> None:
        """Say why not."""
        if event.during == "written" and self.refuses_unproved():
            return
        self.say(event.reason, "error")

    @on(EngineDied)
    def show_death(self, event: EngineDied) -> None:
        """Say what happened and what follows."""
        self.doing = "starting the engine again" if event.restarting else ""
        end = (
            "starting it again"
            if event.restarting
            else "it died 5 times in 3 minutes and is not started again: write down your steps and restart the program"
        )
        self.note(event.reason, failed=True)
        self.say(f"{event.reason}; {end}", "error")
        self.wake()
