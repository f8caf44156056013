"""The state of the workbench and of its view, and the store that panes observe: controllers change it, widgets read it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field, fields
from functools import cached_property
from typing import TYPE_CHECKING, Any

from tui_pruner.domain.cuts import Asked, PrunableWidth
from tui_pruner.domain.forecast import Forecast, forecast, summed, summed_with_estimates
from tui_pruner.domain.lineage import Lineage, file_id
from tui_pruner.domain.results import MeasuredMetric
from tui_pruner.tui.actions import DETAIL, FLOW, MAP, PATH, SLIDER, TREE
from tui_pruner.tui.commands import CommandLog
from tui_pruner.tui.outline import TreeState, Weight
from tui_pruner.tui.timeline import BASELINE, StepMetrics, Timeline

if TYPE_CHECKING:
    from tui_pruner.engine.job_messages import DetectionResult
    from tui_pruner.engine.messages import (
        BlockShape,
        BlockView,
        Detail,
        DryRun,
        LayerView,
        OpenResult,
        PreviewResult,
        SessionView,
        Totals,
        Width,
    )
    from tui_pruner.tui.job_specs.job import OpenCheckpoint
    from tui_pruner.tui.job_specs.measurement import Timed
    from tui_pruner.tui.job_specs.search import Scanned
    from tui_pruner.tui.panes.comparison import Compared, NotCompared
    from tui_pruner.tui.panes.explanation import OpenExplanation, OpenFlow
    from tui_pruner.tui.panes.front import TargetSlider

MOST_NOTES = 20
Note = tuple[str, bool | None]
"""A line of the jobs pane, and whether it reports a failure; None where it reports neither a failure nor a result."""


@dataclass(frozen=True)
class Change:
    """A layer's outputs and inputs in the checkpoint, after the steps, and after the pending cuts."""

    outputs: tuple[int, int, int]
    inputs: tuple[int, int, int]

    @property
    def gone(self) -> bool:
        """Whether the layer was removed with a dropped block."""
        return self.outputs[1] == 0

    @property
    def pending(self) -> bool:
        """Whether the pending cuts change its outputs."""
        return self.outputs[1] != self.outputs[2]

    @property
    def has_fewer_inputs(self) -> bool:
        """Whether only its inputs shrink with the pending cuts."""
        return not self.pending and self.inputs[1] != self.inputs[2]

    @property
    def stepped(self) -> bool:
        """Whether an applied step has cut its outputs."""
        return self.outputs[0] != self.outputs[1]


@dataclass
class AppState:
    """The open checkpoint, its session, the pending cuts, and the latest answers of the engine and results of jobs.

    `no_preview`, `no_detail` and `no_dry_run`: why the engine gave none, in one line; empty where it did, or was not asked yet.
    `doing`: the engine's long call. `notes`: the lines of the jobs pane, each with whether it tells of a failure. `recovered`: the file
    that a recovery wrote last. `criterion_chosen`: whether the user chose how channels are ranked.
    """

    opened: OpenResult
    session: SessionView
    checkpoint: OpenCheckpoint
    pending: Asked = field(default_factory=Asked)
    marks: set[str] = field(default_factory=set)
    preview: PreviewResult | None = None
    detail: Detail | None = None
    dry_run: DryRun | None = None
    scan: Scanned | None = None
    latency: Timed | None = None
    metrics: StepMetrics = field(default_factory=StepMetrics)
    no_preview: str = ""
    no_detail: str = ""
    no_dry_run: str = ""
    doing: str = ""
    notes: Sequence[Note] = ()
    automatic: bool = True
    refitting: bool = False
    criterion_chosen: bool = False
    recovered: str = ""
    lineage: Lineage = field(default_factory=Lineage)
    commands: CommandLog = field(default_factory=CommandLog)
    detected: dict[str, DetectionResult] = field(default_factory=dict)

    @cached_property
    def layers(self) -> dict[str, LayerView]:
        """All layers of the checkpoint by name."""
        return {layer.name: layer for block in self.opened.blocks for layer in block.layers}

    @cached_property
    def known(self) -> set[str]:
        """The names that an amount can be given for: layers, and the inner blocks that can be dropped."""
        return {*self.layers, *(path for block in self.opened.blocks for path in block.droppable)}

    @property
    def planned(self) -> PreviewResult | None:
        """The effect of the pending cuts; None where there are none, or it is unknown."""
        return self.preview if self.pending else None

    @property
    def after(self) -> Totals:
        """The totals with the steps and the pending cuts."""
        return self.planned.after if self.planned else self.session.current

    @property
    def forecast(self) -> Forecast | None:
        """The forecast of the metric after the pending cuts; None where the scan does not allow one.

        Each layer counts with its share of the checkpoint's channels, before and after. The scan must be by the criterion and on the data
        in use, and the model before the cuts must be measured. Groups that a stopped scan lacks are estimated from the others.
        """
        found, metrics, pending = self.scan, self.metrics, self.pending
        if found is None or not pending or self.preview is None:
            return None
        if (found.criterion, found.data) != (pending.criterion, self.checkpoint.data):
            return None
        base = metrics.latest if self.session.steps else found.baseline
        if base is None or any(layer not in self.layers for layer in pending.amounts):
            return None
        changes = {layer: self.change(self.layers[layer]).outputs for layer in pending.amounts}
        cuts = {layer: (1 - now / whole, 1 - after / whole) for layer, (whole, now, after) in changes.items() if whole}
        if found.partial:
            sums = summed_with_estimates(cuts, found.layers, found.coupled, found.typical)
            return forecast(base, sums[0], metrics.tried, sums[1]) if sums is not None else None
        drop = summed(cuts, found.layers, found.coupled)
        return forecast(base, drop, metrics.tried) if drop is not None else None

    @property
    def origin(self) -> Totals:
        """The size that others are compared with: the original's, where known, else the checkpoint's."""
        first = self.lineage.original
        own = self.session.original
        if first is None or not (first.parameters and first.flops):
            return own
        return own.model_copy(update={"parameters": first.parameters, "flops": first.flops})

    @property
    def origin_metric(self) -> MeasuredMetric | None:
        """The original's metric if it was measured on the same data; else the opened checkpoint's."""
        first = self.lineage.original
        if first is not None and first.metric is not None and first.data == self.checkpoint.data:
            own = first.id == file_id(self.opened.model.content)
            interval = (first.low, first.high) if first.low is not None and first.high is not None else None
            return (self.metrics.measurement(BASELINE) if own else None) or MeasuredMetric(first.metric, interval)
        return self.metrics.measurement(BASELINE)

    @property
    def shapes(self) -> Sequence[BlockShape]:
        """The blocks' output shapes before and after."""
        return (self.planned or self.session).blocks

    def change(self, layer: LayerView) -> Change:
        """A layer's change of widths."""
        stepped = self.session.layers.get(layer.name)
        planned = (self.planned or self.session).layers.get(layer.name)
        return Change(
            outputs=(layer.out_channels, _outputs(stepped, layer), _outputs(planned, layer)),
            inputs=(layer.in_channels, _inputs(stepped, layer), _inputs(planned, layer)),
        )

    def loss(self, layer: LayerView) -> int:
        """The share of a layer's present channels that really goes with the pending cuts, in percent, at least 1; 0 for none."""
        _, now, after = self.change(layer).outputs
        return max(round(100 * (1 - after / now)), 1) if after < now else 0

    def loses(self, layer: LayerView, share: float) -> bool:
        """Whether a layer really loses this share of its present channels, to within a channel of its widest part."""
        whole, now, after = self.change(layer).outputs
        part = max(layer.widest_group or whole, 1) / max(whole, 1)
        return abs(now - after - share * now) * part <= 1

    @property
    def losses(self) -> list[int]:
        """For each named layer that becomes narrower with the pending cuts, the share of its channels that it loses, in percent."""
        named = self.pending.amounts
        layers = [layer for name, layer in self.layers.items() if name in named or any(name.startswith(f"{part}.") for part in named)]
        return [loss for layer in layers if (loss := self.loss(layer))]

    @property
    def weights(self) -> dict[str, Weight]:
        """The cost of every section, block and layer after the steps, by its row's key."""
        return self._weights_in(self.session)

    @property
    def pending_weights(self) -> dict[str, Weight]:
        """The costs with the pending cuts; empty where there are none."""
        return self._weights_in(self.planned) if self.planned else {}

    def _weights_in(self, source: SessionView | PreviewResult) -> dict[str, Weight]:
        found = {layer.name: _cost(source.layers.get(layer.name), layer) for layer in self.layers.values()}
        now = {shape.name: shape for shape in source.blocks}
        for block in self.opened.blocks:
            found[block.name] = _cost(now.get(block.name), block)
            before = found.get(block.section, (0, 0))
            found[block.section] = before[0] + found[block.name][0], before[1] + found[block.name][1]
        return found

    def weight(self, layer: LayerView, pending: bool = True) -> Weight:
        """A layer's cost after the steps, and with the pending cuts."""
        return _cost(((pending and self.planned) or self.session).layers.get(layer.name), layer)

    def block_weight(self, block: BlockView) -> Weight:
        """A block's cost after the steps and with the pending cuts."""
        return _cost(next((shape for shape in self.shapes if shape.name == block.name), None), block)

    def in_conflict(self, layer: str) -> bool:
        """Whether this layer's amount contradicts another one's, or was refused."""
        if (planned := self.planned) is None:
            return False
        return any(layer in conflict.layers for conflict in planned.conflicts) or any(
            layer == refused.layer or layer.startswith(f"{refused.layer}.") for refused in planned.refused
        )

    @property
    def clash(self) -> str:
        """Why the pending cuts cannot be applied; empty when they can."""
        if (planned := self.planned) is None:
            return ""
        return next((one.message for found in (planned.conflicts, planned.refused) for one in found), "")

    def targets(self, prunable: Sequence[str]) -> list[str]:
        """The layers that a ratio key changes: the marked ones, or those under the cursor."""
        return sorted(self.marks) or list(prunable)

    def inner_blocks(self, layers: Sequence[str]) -> list[str]:
        """The innermost droppable blocks around these layers."""
        return list(dict.fromkeys(block for layer in layers if (block := self.layers[layer].drops_with)))

    def widths(self, layers: Sequence[str]) -> dict[str, int]:
        """The present widths of these layers."""
        return {layer: self.change(self.layers[layer]).outputs[1] for layer in layers}

    def prunable_widths(self, layers: Sequence[str]) -> dict[str, PrunableWidth]:
        """The present widths of those of these layers that can be cut."""
        return {layer: _prunable_width(self.layers[layer], width) for layer, width in self.widths(layers).items()}


@dataclass
class ViewState:
    """The view of the session: the focused pane, the map or the tree, and what the detail pane explains or compares.

    `slider`: the open target slider; `sliding`: whether there is one, for observers that do not depend on its position.
    """

    tree: TreeState = field(default_factory=TreeState)
    focus: str = TREE
    on_map: bool = False
    timeline: Timeline = field(default_factory=Timeline)
    explanation: OpenExplanation | None = None
    comparison: Compared | NotCompared | None = None
    flow: OpenFlow | None = None
    slider: TargetSlider | None = None
    sliding: bool = False

    @property
    def pane(self) -> str:
        """What the keys act on: a pane, or the content shown in it."""
        if self.sliding:
            return SLIDER
        if self.focus == TREE and self.on_map:
            return MAP
        if self.focus == DETAIL and self.comparison is None:
            return PATH if self.explanation is not None else FLOW if self.flow is not None else DETAIL
        return self.focus


VIEW_FIELDS = frozenset(one.name for one in fields(ViewState))
PROOFS, JOBS, COLOURS, BEAT = "proofs", "jobs", "colours", "beat"
"""Keys of changes without a field of their own: a step's proof, the queue, the colours, and the pulse while something is running."""
Observer = Callable[[], None]


@dataclass
class Observation:
    """An observer with the fields that it observes, and the condition under which their changes concern it."""

    names: frozenset[str]
    observer: Observer
    only_while: str = ""
    part: Callable[[], object] | None = None
    seen: object = None

    def hear(self, changed: Collection[str], view: ViewState, forced: bool = False) -> None:
        """Call the observer if a change of these fields concerns it; `forced`: even if nothing has changed."""
        if self.names.isdisjoint(changed) or (self.only_while and not getattr(view, self.only_while)):
            return
        if self.part is not None:
            before, self.seen = self.seen, self.part()
            if before == self.seen and not forced:
                return
        self.observer()


class Store:
    """The state and its view, with observers, which are called once after all changes of the moment, or at once.

    `defer` runs a callable after the current events: a held key must not queue behind its own redraws.
    """

    def __init__(self, state: AppState, view: ViewState, defer: Callable[[Observer], object] = lambda flush: flush()) -> None:
        self.state = state
        self.view = view
        self._defer = defer
        self._observers: list[Observation] = []
        self._immediate: list[Observation] = []
        self._changed: set[str] = set()
        self._due = self._forced = False

    def observe(
        self,
        names: Sequence[str],
        observer: Observer,
        at_once: bool = False,
        only_while: str = "",
        part: Callable[[], object] | None = None,
    ) -> None:
        """Call an observer after changes of these fields.

        `only_while`: a field of the view; while it is false, the observer is not called. `part` returns what the observer reads of the
        fields: it is called only if that value has changed.
        """
        (self._immediate if at_once else self._observers).append(Observation(frozenset(names), observer, only_while, part))

    def update(self, **values: Any) -> None:
        """Change fields of the state or of the view."""
        for name, value in values.items():
            setattr(self.view if name in VIEW_FIELDS else self.state, name, value)
        self.touch(*values)

    def touch(self, *names: str) -> None:
        """Report a change behind these fields."""
        self._changed.update(names)
        for one in self._immediate:
            one.hear(names, self.view)
        self._flush_soon()

    def redraw(self) -> None:
        """Call all observers that draw, even if nothing changed: the size is different, or the screen was behind another one."""
        self._forced = True
        for one in self._observers:
            self._changed.update(one.names)
        self._flush_soon()

    def flush(self) -> None:
        """Call the observers of everything that changed."""
        changed, self._changed, self._due = self._changed, set(), False
        forced, self._forced = self._forced, False
        for one in self._observers:
            one.hear(changed, self.view, forced)

    def _flush_soon(self) -> None:
        if not self._due:
            self._due = True
            self._defer(self.flush)

    def request(self, pending: Asked) -> None:
        """Set the pending cuts; previews and conflicts of the former ones become invalid."""
        gone = {} if pending else {"preview": None, "no_preview": ""}
        self.update(pending=pending, dry_run=None, no_dry_run="", **gone)

    def note(self, text: str, failed: bool | None = False) -> None:
        """Add a line to the jobs pane; `failed` is None for what neither failed nor was done."""
        self.update(notes=[*self.state.notes, (text, failed)][-MOST_NOTES:])


def _prunable_width(layer: LayerView, width: int) -> PrunableWidth:
    return PrunableWidth(width, layer.widest_group * width // max(layer.out_channels, 1))


def _cost(now: Width | BlockShape | None, before: LayerView | BlockView) -> Weight:
    return (now.parameters_after, now.flops_after) if now else (before.parameters, before.flops)


def _outputs(width: Width | None, layer: LayerView) -> int:
    return width.out_after if width else layer.out_channels


def _inputs(width: Width | None, layer: LayerView) -> int:
    return width.in_after if width else layer.in_channels
