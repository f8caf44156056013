"""The key that chooses by which criterion channels go, and the calibration that some of them need first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from tui_pruner.tui.amounts import Asked
from tui_pruner.tui.calibrations import calibration, classes_left
from tui_pruner.tui.criteria import CRITERIA, criterion_of, scored_with
from tui_pruner.tui.figures import listing
from tui_pruner.tui.opening import Opening
from tui_pruner.tui.screens.settle_keys import SettleKeys


class CriterionKeys(SettleKeys):
    """Which channels go first."""

    def __init__(self, opening: Opening) -> None:
        super().__init__(opening)
        self._wished = ""
        self.chose_criterion = False

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
        waits = [f"{listing(first)} {'scores' if len(first) == 1 else 'score'} images first."] if first else []
        text = " ".join(["Channels go that matter least by this.", *waits])
        self.app.push_screen(Chooser("Importance", text, choices, self.board.asked.criterion), self._take_criterion)

    def _is_ready(self, name: str) -> bool:
        return self.board is not None and name in self.board.opened.criteria

    def _take_criterion(self, name: str | None) -> None:
        if self.board is None or not name:
            return
        self._wished, self.chose_criterion = "", True
        if self._is_ready(name):
            self.ask(replace(self.board.asked, criterion=name))
            return
        self._wished = name
        self.with_data(self._calibrate, "Calibrate on")

    def _calibrate(self) -> None:
        if self.subject is None or not self._wished or self.board is None:
            return
        kept = classes_left(self.board.session.plan, len(self.board.opened.model.names))
        label, criteria = criterion_of(self._wished).label, scored_with(self._wished)

        async def hand_over(scores: str) -> None:
            await self.take_scores(scores, criteria)
            if self.board is not None and self._wished and self._is_ready(self._wished):
                self.ask(replace(self.board.asked, criterion=self._wished))
                self._wished = ""

        wanted = calibration(self.subject, criteria, hand_over, kept)
        self.queue(wanted, f"{label} follows when the images are scored", f"the images are being scored; {label} follows")

    async def take_scores(self, scores: str, criteria: Sequence[str]) -> None:
        """Rank by the scores in a job's file for these criteria from now on."""
        if self.session is not None and self.board is not None:
            self.board.opened.criteria = await self.session.calibrate(scores, criteria)
