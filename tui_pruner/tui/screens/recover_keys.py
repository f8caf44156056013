"""The key that gets accuracy back: the pruned model is written, trained in the background, and opened as the next stage."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from tui_pruner.tui.actions import key_of
from tui_pruner.tui.messages import ModelChosen
from tui_pruner.tui.opening import Opening
from tui_pruner.tui.screens.file_keys import FileKeys
from tui_pruner.tui.screens.path_prompt import PathPrompt
from tui_pruner.tui.screens.question import Answer, Question

if TYPE_CHECKING:
    from tui_pruner.tui.recoveries import Recovery


class RecoverKeys(FileKeys):
    """The session stays as it is: what is recovered is a file of its own, which can be opened after it."""

    def __init__(self, opening: Opening) -> None:
        super().__init__(opening)
        self._recovered = ""

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
        text = f"{self.as_it_stands} is trained in the background, and written to a file of its own."
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

        self.queue_on_source(lambda subject, source: recovery(way, subject, source, target, force, self._offer_stage))

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
