"""The key that chooses by which criterion channels go, and the calibration that some of them need first."""

from __future__ import annotations

from dataclasses import replace

from tui_pruner.tui.amounts import Asked
from tui_pruner.tui.calibrations import calibration
from tui_pruner.tui.criteria import CRITERIA, criterion_of
from tui_pruner.tui.opening import Opening
from tui_pruner.tui.screens.settle_keys import SettleKeys


class CriterionKeys(SettleKeys):
    """Which channels go first."""

    def __init__(self, opening: Opening) -> None:
        super().__init__(opening)
        self._wished = ""

    def ask(self, asked: Asked) -> None:
        """Ask by a criterion that the engine has; one that it has no scores for, in a session that is brought back, follows when it has."""
        if self._is_ready(asked.criterion):
            super().ask(asked)
            return
        super().ask(replace(asked, criterion=Asked().criterion))
        self._take_criterion(asked.criterion)

    def action_criterion(self) -> None:
        """Choose the criterion for what is asked for and the curve in the detail."""
        from tui_pruner.tui.screens.chooser import Choice, Chooser

        if self.board is None:
            return
        choices = [Choice(criterion.name, criterion.label, criterion.meaning) for criterion in CRITERIA]
        first = [criterion.label for criterion in CRITERIA if not self._is_ready(criterion.name)]
        text = " ".join(["Channels go that matter least by this.", *([f"{' and '.join(first)} score images first."] if first else [])])
        self.app.push_screen(Chooser("Importance", text, choices, self.board.asked.criterion), self._take_criterion)

    def _is_ready(self, name: str) -> bool:
        return self.board is not None and name in self.board.opened.criteria

    def _take_criterion(self, name: str | None) -> None:
        if self.board is None or not name:
            return
        self._wished = ""
        if self._is_ready(name):
            self.ask(replace(self.board.asked, criterion=name))
            return
        self._wished = name
        self.with_data(self._calibrate, "Calibrate on")

    def _calibrate(self) -> None:
        if self.subject is None:
            return
        label = criterion_of(self._wished).label
        wanted = calibration(self.subject, self._hand_over)
        self.queue(wanted, f"{label} follows when the images are scored", f"the images are being scored; {label} follows")

    async def _hand_over(self, scores: str) -> None:
        if self.session is None or self.board is None:
            return
        self.board.opened.criteria = await self.session.calibrate(scores)
        if self._wished:
            self.ask(replace(self.board.asked, criterion=self._wished))
            self._wished = ""
