"""The keys that say how far to go: a scan of what every layer is worth, and the cuts that reach a target."""

from __future__ import annotations

from typing import TYPE_CHECKING

from textual import on

from tui_pruner.tui.actions import key_of
from tui_pruner.tui.amounts import Asked, parse_amount
from tui_pruner.tui.criteria import REPAIR, criterion_of, scored_with
from tui_pruner.tui.figures import plural
from tui_pruner.tui.measured_plans import IMAGES, Measured, measured_plan, shares_words
from tui_pruner.tui.messages import ReachKnown, TargetPlanned
from tui_pruner.tui.scores import plan_key
from tui_pruner.tui.screens.criterion_keys import CriterionKeys
from tui_pruner.tui.screens.path_prompt import PathPrompt

if TYPE_CHECKING:
    from tui_pruner.engine.protocol import ScanDrops, TargetPlan
    from tui_pruner.tui.latencies import Timed
    from tui_pruner.tui.scans import Scanned

LATENCY = "latency"
EXAMPLE = "flops=70%"
WHAT = "What shall be left, by flops, params, bytes or latency (timed here): flops=70%, params=2.1M; several with spaces."


class TargetKeys(CriterionKeys):
    """A target's cuts are asked for and not applied: to look at, to change, and to apply like any others."""

    def action_target(self) -> None:
        """Ask what shall be left, then ask for the cuts that reach it."""
        if self.board is None or self.session is None or self.refuses_unproved():
            return
        self.app.push_screen(PathPrompt("Reach a target", f"{WHAT}\n{self._ground()}", EXAMPLE, EXAMPLE), self._take_target)
        self.session.reach(self.board.asked)

    @on(ReachKnown)
    def show_reach(self, event: ReachKnown) -> None:
        """Say in the question what can be reached, or why that is not known: the question stands without it."""
        reach = event.result
        if reach is not None:
            ranges = [f"{measure} {100 * reach.least[measure]:.0f} % to {100 * reach.most[measure]:.0f} %" for measure in reach.least]
            known = f"In reach: {', '.join(ranges)}."
        else:
            known = f"What is in reach is not known: {event.reason}."
        if isinstance(self.app.screen, PathPrompt):
            self.app.screen.tell(f"{WHAT}\n{known}\n{self._ground()}")

    @on(TargetPlanned)
    def ask_for_target(self, event: TargetPlanned) -> None:
        """Ask for the cuts that were found in place of what was asked for."""
        self._ask_for(event.result)

    def _ask_for(self, found: TargetPlan, criterion: str = "", ground: str = "") -> None:
        if self.board is None:
            return
        if found.stopped:
            self.say(found.stopped, "error")
            return
        amounts = {layer: amount for layer, text in found.amounts.items() if (amount := parse_amount(text))}
        self.ask(Asked(amounts, criterion or self.board.asked.criterion, self.board.asked.round_to))
        ground = ground or ("by the scan" if found.scanned else "by importance")
        left = f"{shares_words(found.shares)} left; change what you like, {key_of('apply')} applies it"
        self.say(f"{plural(len(amounts), 'layer')} {ground}: {left}")

    def action_scan(self) -> None:
        """Measure what the metric loses with each layer's weakest channels."""
        self.with_data(self._scan, "Scan on")

    def _scan(self) -> None:
        from tui_pruner.tui.scans import scan

        if self.subject is None or self.board is None:
            return
        wanted = scan(self.subject, self.board.asked.criterion, self._take_scan)
        self.queue(wanted, "every layer is tried alone; what is found is kept", "the scan waits or runs already")

    def _take_scan(self, found: Scanned) -> None:
        if self.board is not None:
            self.board.scan = found
            self._show_measurements()

    def action_latency(self) -> None:
        """Time the checkpoint and the model as it stands, side by side, block by block."""
        from tui_pruner.tui.latencies import latency

        if self.subject is None or self.board is None or self.refuses_unproved():
            return
        self.queue(latency(self.subject, self.board.session, self._take_latency), known="this state is being timed already")

    def _take_latency(self, found: Timed) -> None:
        if self.board is not None:
            self.board.timed = found
            self._show_measurements()

    def _show_measurements(self) -> None:
        self.model_tree.show_measurements()
        self.draw_all()

    def _take_target(self, text: str | None) -> None:
        if not text or self.board is None or self.session is None:
            return
        usable, targets = self._usable_scan(), text.replace(",", " ").split()
        drops = usable.drops if usable else None
        if any(target.startswith(LATENCY) for target in targets):
            self._quicken(targets, drops)
        elif self.subject is not None and self.subject.data:
            self._measure(targets)
        else:
            self.session.plan_target(targets, self.board.asked, drops)

    def _measure(self, targets: list[str]) -> None:

        board, subject = self.board, self.subject
        if board is None or subject is None:
            return
        begun, scan = plan_key(board.session.plan), board.scan

        async def hand_over(found: Measured) -> None:
            if found.scores:
                await self.take_scores(found.scores, scored_with(found.criterion))
            if self.board is None or plan_key(self.board.session.plan) != begun:
                self.say("the steps are others than when this search began: ask for the target again", "warning")
                return
            self._ask_for(found.plan, found.criterion, f"by measured damage ({found.ground})")

        # A scan by any criterion may compete: whole plans are tried, and the closest to the original is taken.
        drops = scan.drops if scan is not None and scan.data == subject.data else None
        wanted = measured_plan(subject, board.session, targets, self._ranked_by, board.asked.round_to, drops, hand_over)
        self.queue(wanted, "damage is measured and whole plans compete, refitted; the cuts follow", "this search waits or runs already")

    @property
    def _ranked_by(self) -> str:
        """By which criterion channels go in a plan by measured damage: the chosen one, else what a refit cannot repair."""
        asked = self.board.asked.criterion if self.board is not None else REPAIR
        return asked if self.chose_criterion or asked != Asked().criterion else REPAIR

    def _quicken(self, targets: list[str], drops: ScanDrops | None) -> None:
        from tui_pruner.tui.quickenings import quickening

        if self.board is None or self.session is None or self.subject is None:
            return
        scores = self.session.scores_of(self.board.asked.criterion)
        wanted = quickening(self.subject, self.board.session, targets, self.board.asked, drops, scores, self._ask_for)
        self.queue(wanted, "plans are cut and timed beside the checkpoint", "this search waits or runs already")

    def _usable_scan(self) -> Scanned | None:
        found = self.board.scan if self.board is not None else None
        return found if found is not None and self.board is not None and found.criterion == self.board.asked.criterion else None

    def _ground(self) -> str:
        """By what the cuts will be chosen."""
        assert self.board is not None
        if self.subject is not None and self.subject.data:
            label = criterion_of(self._ranked_by).label
            return (
                f"Whole plans, ranked by {label}, compete in the background, refitted on {IMAGES} unlabelled images; the closest is taken."
            )
        usable, better = self._usable_scan(), f"With data ({key_of('choose-data')}), plans are measured."
        if usable is not None:
            return f"Cuts that cost least by the scan of {plural(usable.images, 'image')} come first. {better}"
        label = criterion_of(self.board.asked.criterion).label
        ground = f"Channels of the least {label} importance go first; after a scan ({key_of('scan')}), the cuts that cost least."
        return f"{ground} {better}"
