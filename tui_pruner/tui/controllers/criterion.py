"""Chooses the criterion that ranks channels, and runs the calibration that some criteria need first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from tui_pruner.domain.criteria import CRITERIA, LABELS, Criterion, criterion_of, scored_with
from tui_pruner.domain.cuts import Asked
from tui_pruner.domain.formatting import listing
from tui_pruner.tui.actions import RATIO, Action
from tui_pruner.tui.controllers.base import Controller
from tui_pruner.tui.job_specs.search import calibration, classes_left


class CriterionController(Controller):
    """Selects the importance criterion."""

    _wished = ""

    def actions(self) -> Sequence[Action]:
        """The choice of the criterion."""
        return (
            Action(
                id="criterion",
                keys="i",
                title="Importance",
                help="Choose the importance criterion of channels; some score images first.",
                group=RATIO,
                cli="preview MODEL --cut LAYER=30% --criterion l1",
                run=self.choose,
                footer="importance",
            ),
        )

    def request(self, pending: Asked) -> None:
        """Make these the pending cuts; in a resumed session, those by a criterion without scores follow after its calibration."""
        if self._is_ready(pending.criterion):
            self.store.request(pending)
            return
        self.store.request(replace(pending, criterion=Asked().criterion))
        self._take(pending.criterion)

    def choose(self) -> None:
        """Choose the criterion of the pending cuts and of the curve in the detail pane."""
        offered = [criterion for criterion in CRITERIA if self._is_ready(criterion.name) or self._can_score(criterion)]
        choices = [(criterion.name, criterion.label, criterion.meaning) for criterion in offered]
        first = [criterion.label for criterion in offered if not self._is_ready(criterion.name)]
        read = "batches" if self.state.checkpoint.opening.module else "images"
        waits = [f"{listing(first)} {'scores' if len(first) == 1 else 'score'} {read} first."] if first else []
        text = " ".join(["The least important channels are cut first.", *waits])
        self.dialogs.choose("Importance", text, choices, self._take, self.state.pending.criterion)

    async def take_scores(self, scores: str, criteria: Sequence[str]) -> None:
        """From now on rank by the scores for these criteria in a job's file."""
        self.state.opened.criteria = await self.engine.calibrate(scores, criteria)

    def _can_score(self, criterion: Criterion) -> bool:
        """Whether the scores that it needs can be computed: of a module only by its own functions."""
        module = self.state.checkpoint.opening.module
        return module is None or bool(module.batches and (module.loss or criterion.needs != LABELS))

    def _is_ready(self, name: str) -> bool:
        return name in self.state.opened.criteria

    def _take(self, name: str) -> None:
        if not name:
            return
        self._wished = ""
        self.store.update(criterion_chosen=True)
        if self._is_ready(name):
            self.store.request(replace(self.state.pending, criterion=name))
            return
        self._wished = name
        self.jobs.with_data(self._calibrate, "Calibrate on")

    def _calibrate(self) -> None:
        if not self._wished:
            return
        kept = classes_left(self.state.session.plan, len(self.state.opened.model.names))
        label, criteria = criterion_of(self._wished).label, scored_with(self._wished)

        async def hand_over(scores: str) -> None:
            await self.take_scores(scores, criteria)
            if self._wished and self._is_ready(self._wished):
                self.store.request(replace(self.state.pending, criterion=self._wished))
                self._wished = ""

        spec = calibration(self.jobs.checkpoint, criteria, hand_over, kept)
        self.jobs.add(spec, f"{label} follows when the images are scored", f"the images are being scored; {label} follows")
