"""The key that gets accuracy back: the pruned model is written, trained in the background, and opened as the next stage."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from textual import on

from tui_pruner.tui.actions import key_of
from tui_pruner.tui.messages import ModelChosen, ProofArrived
from tui_pruner.tui.opening import Opening
from tui_pruner.tui.scores import plan_key
from tui_pruner.tui.screens.file_keys import FileKeys
from tui_pruner.tui.screens.path_prompt import PathPrompt
from tui_pruner.tui.screens.question import Answer, Question

if TYPE_CHECKING:
    from tui_pruner.engine.job_messages import ReconstructionResult
    from tui_pruner.tui.queued_job import Wanted
    from tui_pruner.tui.recoveries import Recovery
    from tui_pruner.tui.subject import Source, Subject


class RecoverKeys(FileKeys):
    """The session stays as it is: what is recovered is a file of its own, which can be opened after it."""

    def __init__(self, opening: Opening) -> None:
        super().__init__(opening)
        self._recovered = ""
        self._to_refit = ""

    def action_recover(self) -> None:
        """Choose how to get accuracy back, then where to put the file."""
        if self.refuses_unproved():
            return
        self.with_data(self._choose_recovery, "Recover on")

    def _choose_recovery(self) -> None:
        from tui_pruner.tui.recoveries import RECOVERIES
        from tui_pruner.tui.screens.chooser import Choice, Chooser

        if self.board is None:
            return
        choices = [Choice(str(number), way.name, way.meaning) for number, way in enumerate(RECOVERIES)]
        text = f"{self.as_it_stands} is refitted or trained in the background, and written to a file of its own."
        self.app.push_screen(Chooser("Recover accuracy", text, choices), self._take_recovery)

    def _take_recovery(self, chosen: str | None) -> None:
        from tui_pruner.tui.recoveries import RECOVERIES

        if not chosen:
            return
        way = RECOVERIES[int(chosen)]
        prompt = PathPrompt("Write the recovered model to", f"{way.name}: {way.meaning}.", str(self.opening.recovered_file))
        self.ask_place(prompt, lambda target, force: self._start_recovery(way, target, force))

    def _start_recovery(self, way: Recovery, target: str, force: bool) -> None:
        from tui_pruner.tui.recoveries import recovery

        if self.board is None:
            return
        judged = partial(self._show_refit, plan_key(self.board.session.plan))
        self.queue_on_source(lambda subject, source: recovery(way, subject, source, target, force, self._offer_stage, judged))

    def _show_refit(self, key: str, result: ReconstructionResult) -> None:
        """Keep how far a refit brought the state of this key back, beside its step."""
        from tui_pruner.tui.refits import moved

        self.scores.refits[key] = moved(result)
        self.draw_steps()

    def action_refitting(self) -> None:
        """Switch the refit after every step."""
        self.refitting = not self.refitting
        waits = "" if self.subject is None or self.subject.data else f"; it waits for data: {key_of('choose-data')} chooses it"
        self.say(f"refit after every step is {'on' if self.refitting else 'off'}{waits if self.refitting else ''}")
        self.draw_jobs()

    def validate_step(self) -> None:
        """Measure a new step; where it is refitted first, once it is proved."""
        if self.board is None or not self.refitting or self.subject is None or not self.subject.data:
            super().validate_step()
        else:
            self._to_refit = plan_key(self.board.session.plan)

    @on(ProofArrived)
    def refit_proved_step(self, event: ProofArrived) -> None:
        """Refit the step that waits for this proof, then measure it; one that is not proved is only measured."""
        if self.board is None or not self._to_refit or event.event.step != len(self.board.session.steps):
            return
        key, self._to_refit = self._to_refit, ""
        if key != plan_key(self.board.session.plan):
            return
        if event.event.proof.equal:
            self.queue_on_source(partial(self._refit_of, key), then=super().validate_step)
        else:
            super().validate_step()

    def _refit_of(self, key: str, subject: Subject, source: Source) -> Wanted:
        from tui_pruner.tui.refits import refit

        assert self.board is not None
        output = Path(source.path).with_name(f"{key[:16]}-refitted.pt")
        return refit(subject, source, str(output), True, partial(self._show_refit, key), f"step {len(self.board.session.steps)}")

    def _offer_stage(self, output: str) -> None:
        # No question that nobody asked for: it would take the keys of somebody who is typing.
        self._recovered = output
        self.say(f"{Path(output).name} is there: {key_of('go-on')} goes on with it")

    def action_go_on(self) -> None:
        """Open what was recovered last, after a question."""
        output = self._recovered
        if not output:
            self.say(f"nothing was recovered yet: {key_of('recover')} does", "warning")
            return
        text = f"{output}\nGoing on with it begins a session of its own; this one is kept."
        question = Question(f"Go on with {Path(output).name}?", text, [Answer("g", "go on with it", "go")])
        self.app.push_screen(question, lambda answer: self._go_on_with(output) if answer else None)

    def _go_on_with(self, output: str) -> None:
        self.keep_session()
        self.app.post_message(ModelChosen(output, self.subject.data if self.subject else None))
