"""The key that settles amounts which contradict each other."""

from __future__ import annotations

from tui_pruner.tui.screens.preset_keys import PresetKeys
from tui_pruner.tui.settling import Trouble, nearest_trouble, troubles


class SettleKeys(PresetKeys):
    """Ways out of what cannot be applied."""

    def action_settle(self) -> None:
        """Choose which of contradictory amounts stays; the layer under the cursor's own is proposed first."""
        from tui_pruner.tui.screens.chooser import Choice, Chooser

        trouble = nearest_trouble(self._troubles, self._layer_here)
        if trouble is None:
            self.say("nothing to settle: no amounts contradict each other")
            return
        choices = [Choice(str(number), way.words) for number, way in enumerate(trouble.ways)]
        own = next((choice.value for choice, way in zip(choices, trouble.ways) if self._layer_here in way.stays), "")
        self.app.push_screen(Chooser("Settle", trouble.message, choices, own), lambda chosen: self._settle(trouble, chosen or ""))

    def _settle(self, trouble: Trouble, chosen: str) -> None:
        if self.board is not None and chosen:
            self.ask(self.board.asked.put(trouble.ways[int(chosen)].dropped, None))

    @property
    def _troubles(self) -> list[Trouble]:
        return troubles(self.board.preview, self.board.asked) if self.board is not None else []

    @property
    def _layer_here(self) -> str:
        row = self.model_tree.row
        return row.layer.name if row is not None and row.layer is not None else ""
