"""Says how far to go: a scan of what every layer is worth, a latency, and the cuts that reach a target."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from tui_pruner.domain.criteria import REPAIR, criterion_of, scored_with
from tui_pruner.domain.cuts import Asked, typed_amount
from tui_pruner.domain.formatting import plural
from tui_pruner.domain.target_words import targets_in
from tui_pruner.tui.actions.action import JOBS, RATIO, Action
from tui_pruner.tui.actions.keymap import key_of
from tui_pruner.tui.controllers.base import Controller, Dialogs, Handler, Jobs, fault_of, unproved_reason
from tui_pruner.tui.controllers.criterion import CriterionController
from tui_pruner.tui.job_specs.latency import Timed, latency, latency_search
from tui_pruner.tui.job_specs.plan_search import IMAGES, Measured, measured_plan, shares_words
from tui_pruner.tui.job_specs.scan import Scanned, scan
from tui_pruner.tui.messages import EngineMessage, JobsChanged, ReachKnown, TargetPlanned
from tui_pruner.tui.state import AppState, Store
from tui_pruner.tui.timeline import plan_key

if TYPE_CHECKING:
    from tui_pruner.engine.search_messages import ScanDrops, TargetPlan
    from tui_pruner.tui.engine_session import EngineSession

LATENCY = "latency"
EXAMPLE = "flops=70%"
WHAT = "Target (remaining), by flops, params, bytes or latency (timed here): flops=70%, params=2.1M; several with spaces. 60% is flops=60%."


class TargetController(Controller):
    """A target's cuts become pending and are not applied: to look at, to change, and to apply like any others."""

    def __init__(self, store: Store, engine: EngineSession, jobs: Jobs, dialogs: Dialogs, criterion: CriterionController) -> None:
        super().__init__(store, engine, jobs, dialogs)
        self._criterion = criterion

    def actions(self) -> Sequence[Action]:
        """Targets, and the measurements that they go by."""
        return (
            Action(
                id="target",
                keys="t",
                title="Reach a target",
                help="Find the cuts that leave a share of the FLOPs, parameters or bytes, and ask for them; with data, whole plans "
                "compete, refitted.",
                group=RATIO,
                cli="plan MODEL --target flops=70% --data DATA -o FILE",
                run=self.reach,
                disabled_reason=unproved_reason,
                footer="target",
            ),
            Action(
                id="scan",
                keys="S",
                title="Scan the sensitivity",
                help="Measure what the metric loses with the weakest channels of each layer alone; the tree then shows it, and targets "
                "go by it.",
                group=JOBS,
                cli="scan MODEL --data DATA -o FILE",
                run=self.scan,
                footer="scan",
            ),
            Action(
                id="latency",
                keys="L",
                title="Measure the latency",
                help="Time the checkpoint and the current model in turns, and every block of it; the tree then shows the milliseconds.",
                group=JOBS,
                cli="bench MODEL PRUNED --blocks --suggest",
                run=self.measure_latency,
                disabled_reason=unproved_reason,
                footer="latency",
            ),
        )

    def handlers(self) -> Mapping[type[EngineMessage | JobsChanged], Handler]:
        """What the engine finds."""
        return {ReachKnown: self.tell_reach, TargetPlanned: lambda event: self._request(event.result)}

    def reach(self) -> None:
        """Ask what shall be left, then ask for the cuts that reach it."""
        self.dialogs.ask_text(
            "Reach a target", f"{WHAT}\n{self._ground()}", EXAMPLE, self._take_target, EXAMPLE, fault=fault_of(targets_in)
        )
        self.engine.reach(self.state.pending)

    def tell_reach(self, event: ReachKnown) -> None:
        """Say in the question what can be reached, or why that is not known: the question stands without it."""
        reach = event.result
        if reach is not None:
            ranges = [f"{measure} {100 * reach.least[measure]:.0f} % to {100 * reach.most[measure]:.0f} %" for measure in reach.least]
            known = f"Reachable: {', '.join(ranges)}."
        else:
            known = f"What is in reach is not known: {event.reason}."
        self.dialogs.retell(f"{WHAT}\n{known}\n{self._ground()}")

    def scan(self) -> None:
        """Measure what the metric loses with each layer's weakest channels."""
        self.jobs.with_data(self._scan, "Scan on")

    def take_scan(self, found: Scanned | None) -> None:
        """Show what a scan found."""
        self.store.update(scan=found, tree=self.view.tree.measured(found.heats if found is not None else {}))

    def measure_latency(self) -> None:
        """Time the checkpoint and the session, side by side, block by block."""
        spec = latency(self.jobs.checkpoint, self.state.session, self.take_latency)
        self.jobs.add(spec, known="this state is being timed already")

    def take_latency(self, found: Timed | None) -> None:
        """Show what was timed."""
        self.state.metrics.latencies.update(found.whole if found is not None else {})
        self.store.update(latency=found)

    def _scan(self) -> None:
        spec = scan(self.jobs.checkpoint, self.state.pending.criterion, self.take_scan)
        self.jobs.add(spec, "every layer is tried alone; what is found is kept", "the scan waits or runs already")

    def _take_target(self, text: str | None) -> None:
        if not text:
            return
        usable, targets = self._usable_scan(), targets_in(text)
        drops = usable.drops if usable else None
        if any(target.startswith(LATENCY) for target in targets):
            self._search_latency(targets, drops)
        elif self.jobs.checkpoint.data:
            self._measure(targets)
        else:
            self.engine.plan_target(targets, self.state.pending, drops)

    def _measure(self, targets: list[str]) -> None:
        state = self.state
        begun, found = plan_key(state.session.plan), state.scan

        async def hand_over(measured: Measured) -> None:
            if measured.scores:
                await self._criterion.take_scores(measured.scores, scored_with(measured.criterion))
            if plan_key(state.session.plan) != begun:
                self.say("the steps are others than when this search began: ask for the target again", "warning")
                return
            self._request(measured.plan, measured.criterion, f"by measured damage ({measured.ground})")

        # A scan by any criterion may compete: whole plans are tried, and the closest to the original is taken.
        drops = found.drops if found is not None and found.data == self.jobs.checkpoint.data else None
        ranked_by = ranking(state)
        spec = measured_plan(self.jobs.checkpoint, state.session, targets, ranked_by, state.pending.round_to, drops, hand_over)
        self.jobs.add(spec, "damage is measured and whole plans compete, refitted; the cuts follow", "this search waits or runs already")

    def _search_latency(self, targets: list[str], drops: ScanDrops | None) -> None:
        pending = self.state.pending
        scores = self.engine.scores_of(pending.criterion)
        spec = latency_search(self.jobs.checkpoint, self.state.session, targets, pending, drops, scores, self._request)
        self.jobs.add(spec, "plans are cut and timed beside the checkpoint", "this search waits or runs already")

    def _request(self, found: TargetPlan, criterion: str = "", ground: str = "") -> None:
        """Make the cuts that were found the pending ones."""
        if found.stopped:
            self.say(found.stopped, "error")
            return
        amounts = {layer: amount for layer, text in found.amounts.items() if (amount := typed_amount(text))}
        pending = self.state.pending
        self._criterion.request(Asked(amounts, criterion or pending.criterion, pending.round_to))
        ground = ground or ("by the scan" if found.scanned else "by importance")
        left = f"{shares_words(found.shares)} left; change what you like, {key_of('apply')} applies it"
        self.say(f"{plural(len(amounts), 'layer')} {ground}: {left}")

    def _usable_scan(self) -> Scanned | None:
        found = self.state.scan
        return found if found is not None and found.criterion == self.state.pending.criterion else None

    def _ground(self) -> str:
        """By what the cuts will be chosen."""
        if self.jobs.checkpoint.data:
            label = criterion_of(ranking(self.state)).label
            return (
                f"Whole plans, ranked by {label}, compete in the background, refitted on {IMAGES} unlabelled images; the closest is taken."
            )
        usable, better = self._usable_scan(), f"With data ({key_of('choose-data')}), plans are measured."
        if usable is not None:
            return f"Cuts that cost least by the scan of {plural(usable.images, 'image')} come first. {better}"
        label = criterion_of(self.state.pending.criterion).label
        ground = f"Channels of the least {label} importance go first; after a scan ({key_of('scan')}), the cuts that cost least."
        return f"{ground} {better}"


def ranking(state: AppState) -> str:
    """By which criterion channels go in a plan by measured damage: the chosen one, else what a refit cannot repair."""
    asked = state.pending.criterion
    return asked if state.criterion_chosen or asked != Asked().criterion else REPAIR
