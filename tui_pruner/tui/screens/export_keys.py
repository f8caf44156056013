"""The key that makes another format of the model as it stands."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tui_pruner.tui.screens.path_prompt import PathPrompt
from tui_pruner.tui.screens.recover_keys import RecoverKeys

if TYPE_CHECKING:
    from tui_pruner.tui.exports import Format


class ExportKeys(RecoverKeys):
    """A format is chosen, then a place; the file is there when it computes what the model computes."""

    def action_export(self) -> None:
        """Choose the format."""
        from tui_pruner.tui.exports import FORMATS
        from tui_pruner.tui.screens.chooser import Choice, Chooser

        if self.board is None or self.refuses_unproved():
            return
        choices = [Choice(str(number), one.argument, one.meaning) for number, one in enumerate(FORMATS)]
        text = f"{self.as_it_stands} is exported by Ultralytics in the background."
        self.app.push_screen(Chooser("Export", text, choices), self._take_format)

    def _take_format(self, chosen: str | None) -> None:
        from tui_pruner.tui.exports import FORMATS

        if not chosen:
            return
        one = FORMATS[int(chosen)]
        place = self.opening.output.with_name(f"{self.opening.output.stem}{one.suffix}")
        self.ask_place(PathPrompt("Export to", one.meaning, str(place)), lambda target, force: self._export(one, target, force))

    def _export(self, chosen: Format, target: str, force: bool) -> None:
        from tui_pruner.tui.exports import export

        self.queue_on_source(lambda subject, source: export(chosen, subject, source, target, force))
