"""Scans, latencies, and the cuts that reach a target."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from tui_pruner.domain.criteria import REPAIR, criterion_of, scored_with
from tui_pruner.domain.cuts import Asked, targets_in, typed_amount
from tui_pruner.domain.formatting import plural
from tui_pruner.tui.actions import JOBS, RATIO, SLIDER, Action, key_of
from tui_pruner.tui.controllers.base import Controller, Dialogs, Handler, Jobs, fault_of, unproved_reason
from tui_pruner.tui.controllers.criterion import CriterionController
from tui_pruner.tui.drawing import GLYPHS
from tui_pruner.tui.job_specs.measurement import Timed, latency, latency_search
from tui_pruner.tui.job_specs.search import IMAGES, Measured, Scanned, measured_plan, scan, shares_words
from tui_pruner.tui.job_specs.search import KIND as SCAN
from tui_pruner.tui.messages import EngineMessage, JobsChanged, RungPlanned, TargetPlanned
from tui_pruner.tui.panes.front import MEASURE_TITLES, SHARES, Position, TargetSlider
from tui_pruner.tui.state import AppState, Store
from tui_pruner.tui.timeline import plan_key

if TYPE_CHECKING:
    from tui_pruner.engine.requests import TargetLadder
    from tui_pruner.engine.search_messages import ScanDrops, TargetPlan, TargetReach
    from tui_pruner.tui.engine_session import EngineSession

LATENCY = "latency"
PLAN = "plan MODEL --target flops=45% -o FILE"
EXAMPLE = "flops=70%"
WHAT = "Target (remaining), by flops, params, bytes or latency (timed here): flops=70%, params=2.1M; several with spaces. 60% is flops=60%."


class TargetController(Controller):
    """Makes the cuts that reach a target pending, to be reviewed, changed and applied like any others."""

    def __init__(self, store: Store, engine: EngineSession, jobs: Jobs, dialogs: Dialogs, criterion: CriterionController) -> None:
        super().__init__(store, engine, jobs, dialogs)
        self._criterion = criterion
        self._sliders = 0
        self._slid_on = self.state.session

    def actions(self) -> Sequence[Action]:
        """Targets, and the measurements that plans use."""
        return (
            Action(
                id="target",
                keys="t",
                title="Reach a target",
                help="Find the cuts that leave a share of the FLOPs, parameters or bytes, as pending cuts; with data, whole "
                "refitted plans compete.",
                group=RATIO,
                cli="plan MODEL --target flops=70% --data DATA -o FILE",
                run=self.reach,
                disabled_reason=unproved_reason,
                footer="target",
            ),
            Action(
                id="slider",
                keys="ctrl+t",
                title="Drag a target",
                help="Drag what is left from 100 % to 10 % by holding a key: the cuts that reach it, the sizes, the forecast and the map "
                "follow.",
                group=RATIO,
                cli=PLAN,
                run=self.open_slider,
                disabled_reason=unproved_reason,
                footer="drag",
            ),
            Action(
                id="slide-1",
                keys="left",
                shown=GLYPHS.horizontal,
                title="Less left",
                help="Drag the target 5 % down; hold the key. On the front its ring moves with it.",
                group=RATIO,
                cli=PLAN,
                run=partial(self.slide, 1),
                footer="drag",
                pane=SLIDER,
            ),
            Action(
                id="slide-minus-1",
                keys="right",
                title="More left",
                help="Drag the target 5 % up; hold the key.",
                group=RATIO,
                cli=PLAN,
                run=partial(self.slide, -1),
                pane=SLIDER,
            ),
            Action(
                id="slider-measure",
                keys="x",
                title="What the target is of",
                help="Drag the share of the FLOPs, or of the parameters.",
                group=RATIO,
                cli="plan MODEL --target params=45% -o FILE",
                run=self.next_measure,
                footer="FLOPs/params",
                pane=SLIDER,
            ),
            Action(
                id="slider-keep",
                keys="enter,ctrl+t",
                shown="enter",
                title="Keep the target",
                help="Keep this position: its cuts are pending, to review, change and apply.",
                group=RATIO,
                cli=PLAN,
                run=self.keep_slider,
                footer="keep",
                pane=SLIDER,
            ),
            Action(
                id="slider-back",
                keys="escape,q",
                shown="escape",
                title="Put the cuts back",
                help="Leave the slider and restore the pending cuts from before.",
                group=RATIO,
                cli=PLAN,
                run=self.leave_slider,
                footer="put back",
                pane=SLIDER,
            ),
            Action(
                id="scan",
                keys="S",
                title="Scan the sensitivity",
                help="Measure how much the metric drops without the weakest channels of each layer alone, the most expensive "
                "layers first; the tree shows results as they arrive, and targets use them. Again: stop early; results "
                "are kept, and a later scan continues from them.",
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
        """Handlers of the engine's plans."""
        return {
            TargetPlanned: lambda event: self._request(event.result),
            RungPlanned: self.take_rung,
        }

    def begin(self) -> None:
        """Close the slider when something else changes the pending cuts or the steps."""
        self.store.observe(("pending", "session"), self._follow_slider, at_once=True, only_while="sliding")

    def open_slider(self) -> None:
        """Request plans for all positions, and start at the first one, which cuts nothing."""
        state = self.state
        self._slide_over("flops", Position(1.0, state.pending, state.preview))

    def slide(self, by: int) -> None:
        """Move by this many positions; their plans and previews are known, so the engine is not asked."""
        slider = self.view.slider
        if slider is not None:
            self._select_position(slider.moved(by))

    def next_measure(self) -> None:
        """Switch the measure of the target, and start again at the first position."""
        slider, measures = self.view.slider, list(MEASURE_TITLES)
        if slider is not None:
            self._slide_over(measures[(measures.index(slider.measure) + 1) % len(measures)], slider.before)

    def keep_slider(self) -> None:
        """Close the slider and keep its cuts as pending."""
        slider = self.view.slider
        if slider is None:
            return
        self._close_slider()
        if slider.at:
            self.say(f"{plural(len(slider.here.asked.amounts), 'cut')}: {_left_words(slider)}; {key_of('apply')} applies it")

    def leave_slider(self) -> None:
        """Close the slider and restore the pending cuts from before."""
        slider = self.view.slider
        if slider is not None:
            self._close_slider()
            self.store.update(preview=slider.before.preview)
            self.store.request(slider.before.asked)

    def take_rung(self, event: RungPlanned) -> None:
        """Store another planned position."""
        slider = self.view.slider
        if slider is not None and event.rung.slider == slider.number:
            self.store.update(slider=slider.longer(event.rung))

    def take_ladder(self, ladder: TargetLadder) -> None:
        """Show that all positions are planned."""
        slider = self.view.slider
        if slider is not None and ladder.slider == slider.number:
            self.store.update(slider=replace(slider, ladder=ladder))

    def refuse_ladder(self, number: int, reason: str) -> None:
        """Show why the positions could not be planned, and close the slider if there are none."""
        slider = self.view.slider
        if slider is not None and number == slider.number:
            self.say(reason, "error")
            if len(slider.positions) == 1:
                self.leave_slider()

    def _slide_over(self, measure: str, before: Position) -> None:
        from tui_pruner.engine.requests import PlanLadder

        state, usable = self.state, self._usable_scan()
        self._slid_on = state.session
        left = _share_left(state, measure)
        start = Position(left, before.asked.cleared)
        self._sliders += 1
        shares = [share for share in SHARES if share < left]
        ground = self._scan_words() if usable else ""
        self._select_position(TargetSlider(self._sliders, measure, before, (start,), scan=ground), sliding=True)
        asked, drops = before.asked, usable.drops if usable else None
        ladder = PlanLadder(
            slider=self._sliders, measure=measure, shares=shares, criterion=asked.criterion, round_to=asked.round_to, scan=drops
        )
        self.engine.ask(ladder, self.take_ladder, partial(self.refuse_ladder, ladder.slider), at_once=True)

    def _select_position(self, slider: TargetSlider, **changes: object) -> None:
        here = slider.here
        self.store.update(slider=slider, pending=here.asked, preview=here.preview, no_preview="", dry_run=None, no_dry_run="", **changes)

    def _close_slider(self) -> None:
        from tui_pruner.engine.requests import PlanLadder

        slider = self.view.slider
        if slider is not None and slider.ladder is None:
            self._sliders += 1
            self.engine.ask(PlanLadder(slider=self._sliders), self.take_ladder, partial(self.refuse_ladder, self._sliders), at_once=True)
        self.store.update(slider=None, sliding=False)
        self.store.touch("pending")

    def _follow_slider(self) -> None:
        slider = self.view.slider
        if slider is not None and (self.state.pending != slider.here.asked or self.state.session is not self._slid_on):
            self._close_slider()

    def reach(self) -> None:
        """Ask for a target, then request the cuts that reach it."""
        from tui_pruner.engine.requests import Reach

        text, fault = f"{WHAT}\n{self.ground()}", fault_of(targets_in)
        self.dialogs.ask_text("Reach a target", text, EXAMPLE, self._take_target, EXAMPLE, fault=fault, suggested=True)
        self.engine.ask(Reach(round_to=self.state.pending.round_to), self.show_reach, self.show_unknown_reach)

    def show_reach(self, reach: TargetReach) -> None:
        """Add the reachable range to the question."""
        ranges = [f"{measure} {100 * reach.least[measure]:.0f} to {100 * reach.most[measure]:.0f} %" for measure in reach.least]
        self.dialogs.replace_prompt_text(f"{WHAT}\nReachable: {', '.join(ranges)}.\n{self.ground()}")

    def show_unknown_reach(self, reason: str) -> None:
        """Show in the question why the reachable range is unknown; the question can still be answered."""
        self.dialogs.replace_prompt_text(f"{WHAT}\nThe reachable range is not known: {reason}.\n{self.ground()}")

    def scan(self) -> None:
        """Start a scan of the sensitivity; while one runs, stop it and keep its results."""
        running = self.jobs.queue.running
        if running is None or running.spec.kind != SCAN:
            self.jobs.with_data(self._scan, "Scan on")
        elif not running.stopping:
            self.jobs.queue.cancel(running)
            self.say(f"the scan stops: what it has found stays, and {key_of('scan')} measures the rest")

    def take_scan(self, found: Scanned | None) -> None:
        """Store the results of a scan."""
        self.store.update(scan=found, tree=self.view.tree.measured(found.heats if found is not None else {}))

    def measure_latency(self) -> None:
        """Time the checkpoint and the session in turns, block by block."""
        spec = latency(self.jobs.checkpoint, self.state.session, self.take_latency)
        self.jobs.add(spec, known="this state is being timed already")

    def take_latency(self, found: Timed | None) -> None:
        """Store the measured latencies."""
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
        elif self.jobs.checkpoint.fitted_on:
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
            self._request(measured.plan, measured.criterion, f"in the {measured.ground}", f", then {key_of('recover')} refits it")

        # A scan by any criterion may compete: whole plans are tried, and the best by their refitted outputs is taken.
        drops = found.drops if found is not None and found.data == self.jobs.checkpoint.data else None
        ranked_by = ranking(state)
        spec = measured_plan(self.jobs.checkpoint, state.session, targets, ranked_by, state.pending.round_to, drops, hand_over)
        self.jobs.add(spec, "damage is measured and whole plans compete, refitted; the cuts follow", "this search waits or runs already")

    def _search_latency(self, targets: list[str], drops: ScanDrops | None) -> None:
        pending = self.state.pending
        scores = self.engine.scores_of(pending.criterion)
        spec = latency_search(self.jobs.checkpoint, self.state.session, targets, pending, drops, scores, self._request)
        self.jobs.add(spec, "plans are cut and timed beside the checkpoint", "this search waits or runs already")

    def _request(self, found: TargetPlan, criterion: str = "", ground: str = "", then: str = "") -> None:
        """Make the cuts that were found pending; `then`: what belongs to them once they are applied."""
        if found.stopped:
            self.say(found.stopped, "error")
            return
        amounts = {layer: amount for layer, text in found.amounts.items() if (amount := typed_amount(text))}
        pending = self.state.pending
        self._criterion.request(Asked(amounts, criterion or pending.criterion, pending.round_to))
        ground = ground or (self._scan_words() if found.scanned else "by importance")
        left = f"{shares_words(found.shares)} left; change what you like, {key_of('apply')} applies it{then}"
        self.say(f"{plural(len(amounts), 'cut')} {ground}: {left}")

    def _usable_scan(self) -> Scanned | None:
        found = self.state.scan
        return found if found is not None and found.criterion == self.state.pending.criterion else None

    def _scan_words(self) -> str:
        usable = self._usable_scan()
        return f"by the scan so far ({usable.extent})" if usable is not None and usable.partial else "by the scan"

    def ground(self) -> str:
        """How the cuts will be chosen, in words."""
        module = self.jobs.checkpoint.opening.module
        if self.jobs.checkpoint.fitted_on:
            label, read = criterion_of(ranking(self.state)).label, "its batches" if module else f"{IMAGES} images without labels"
            return (
                f"Several plans, channels ranked by {label}, are cut and refitted on {read}, in the background "
                f"(minutes): the closest to the original, or one about as close, is taken. {key_of('slider')} shows plans at once."
            )
        usable, better = self._usable_scan(), f"With data ({key_of('choose-data')}), plans are measured."
        better = "Opened with --batches, plans are measured." if module else better
        if usable is not None:
            so_far = f" ({usable.extent}; the others by importance)" if usable.partial else ""
            on = f" of {plural(usable.images, self.jobs.checkpoint.sample)}" if usable.images else ""
            return f"Cuts that cost least by the scan{on}{so_far} come first. {better}"
        label = criterion_of(self.state.pending.criterion).label
        if module is not None and not module.evaluate:
            return f"Channels of the least {label} importance go first. {better}"
        ground = f"Channels of the least {label} importance go first; after a scan ({key_of('scan')}), the cuts that cost least."
        return f"{ground} {better}"


def _share_left(state: AppState, measure: str) -> float:
    """The size after the steps, as a share of the checkpoint's."""
    now, whole = state.session.current, state.session.original
    return now.flops / whole.flops if measure == "flops" else now.parameters / whole.parameters


def _left_words(slider: TargetSlider) -> str:
    return f"{100 * slider.here.share:.0f} % of the {MEASURE_TITLES[slider.measure]} left"


def ranking(state: AppState) -> str:
    """The criterion for plans by measured damage: the chosen one, else `obs` where there is something to score by."""
    asked = state.pending.criterion
    chosen = state.criterion_chosen or asked != Asked().criterion or not state.checkpoint.can_refit
    return asked if chosen else REPAIR
