"""Side by side: two states of the session with what differs layer by layer, and a layer at several widths."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from textwrap import wrap
from typing import TYPE_CHECKING

from rich.text import Text

from tui_pruner.domain.cuts import usual_widths
from tui_pruner.domain.forecast import drop_at
from tui_pruner.domain.formatting import count, file_size, giga, percent, score
from tui_pruner.tui import colours
from tui_pruner.tui.actions import key_of
from tui_pruner.tui.drawing import GLYPHS, arrow, change, drop, fit, fit_clauses, gain, relative, shape, wrapped
from tui_pruner.tui.job_specs.recovery import between
from tui_pruner.tui.panes.explanation import short
from tui_pruner.tui.panes.steps import proof_cell
from tui_pruner.tui.panes.tree_row import metric_colour
from tui_pruner.tui.timeline import StepMetrics, name_of, step_at

if TYPE_CHECKING:
    from tui_pruner.engine.messages import Comparison, Detail, LayerView, SessionView
    from tui_pruner.tui.state import AppState


LABEL = 12
CELL = 11


@dataclass(frozen=True)
class Compared:
    """A comparison with the measurements of both states."""

    found: Comparison
    session: SessionView
    metrics: StepMetrics

    @property
    def ends(self) -> tuple[int, int]:
        """The numbers of steps of the two states."""
        return self.found.first, self.found.second


@dataclass(frozen=True)
class NotCompared:
    """Two states that the engine could not compare, and the reason."""

    ends: tuple[int, int]
    session: SessionView
    reason: str


def compare_title(compared: Compared | NotCompared) -> str:
    """The two ends."""
    first, second = (name_of(compared.session, number) for number in compared.ends)
    return f"Compare {first} {GLYPHS.arrow} {second}"


def compare_lines(compared: Compared | NotCompared, width: int) -> list[Text]:
    """All differences, in lines of at most `width` cells."""
    if isinstance(compared, NotCompared):
        return wrapped(f"{GLYPHS.bad} not compared: {compared.reason}", width, colours.BAD)
    parts = [
        _sizes(compared),
        [*_metric(compared, width), *_proofs(compared, width), *_refits(compared)],
        _blocks(compared.found, width),
        _layers(compared.found, width),
    ]
    return [line for part in parts if part for line in [*part, Text()]][:-1]


def _sizes(compared: Compared) -> list[Text]:
    before, after = compared.found.before, compared.found.after
    return [
        _figure("parameters", before.parameters, after.parameters, count),
        _figure("GFLOPs", before.flops, after.flops, giga),
        _figure("weights", before.bytes, after.bytes, lambda size: file_size(round(size))),
    ]


def _figure(label: str, before: float, after: float, written: Callable[[float], str]) -> Text:
    style = colours.GOOD if after < before else colours.WARNING if after > before else colours.MUTED
    return Text.assemble(
        (fit(label, LABEL), colours.MUTED),
        fit(written(before), CELL),
        (f"{GLYPHS.arrow} ", colours.MUTED),
        (fit(written(after), CELL), colours.STRONG),
        (change(before, after) or "the same", style),
    )


def _metric(compared: Compared, width: int) -> list[Text]:
    """The metric of both states, and its change; in percent too if there is space."""
    metrics, found = compared.metrics, compared.found
    before, after = metrics.measurement_of_step(found.first), metrics.measurement_of_step(found.second)
    if before is None and after is None:
        return [
            Text.assemble(
                (fit(metrics.name, LABEL), colours.MUTED), (f"not measured: {key_of('validate')} validates what counts", colours.MUTED)
            )
        ]
    moved, style = "", ""
    if before is not None and after is not None:
        share = relative(before.value, after.value)
        moved, style = gain(before.value, after.value), metric_colour(before, after)
        moved += share if LABEL + 2 * CELL + 2 + len(moved + share) <= width else ""
    cells = ["not measured" if metric is None else score(metric.value) for metric in (before, after)]
    return [
        Text.assemble(
            (fit(metrics.name, LABEL), colours.MUTED),
            fit(cells[0], max(CELL, len(cells[0]) + 1)),
            (f"{GLYPHS.arrow} ", colours.MUTED),
            (fit(cells[1], max(CELL, len(cells[1]) + 1)), colours.STRONG),
            (moved, style),
        )
    ]


def _refits(compared: Compared) -> list[Text]:
    """The distance of each state from the original's outputs as cut, and refitted, if measured."""
    lines = []
    for number in sorted({compared.found.first, compared.found.second}):
        refit = compared.metrics.refit_of_step(number)
        if refit is not None:
            words = f"refit {between(*refit)} from the original"
            lines.append(Text.assemble((fit(f"step {number}", LABEL), colours.MUTED), (words, colours.BLUE)))
    return lines


def _proofs(compared: Compared, width: int) -> list[Text]:
    lines = []
    for number in sorted({compared.found.first, compared.found.second}):
        step = step_at(compared.session, number)
        if step is not None:
            words, style = (
                ("not proved yet", colours.MUTED) if step in compared.session.ahead and step.proof is None else proof_cell(step.proof)
            )
            lines.append(Text.assemble((fit(f"step {number}", LABEL), colours.MUTED), (words, style)))
            if step.proof is not None and not step.proof.equal:
                lines += [Text(f"{' ' * LABEL}{line}", colours.BAD) for line in wrap(step.proof.reason, max(width - LABEL, CELL))]
    return lines


def _blocks(found: Comparison, width: int) -> list[Text]:
    if not found.blocks:
        return []
    lines = [_heading("Blocks", f"{len(found.blocks)} changed")]
    for block in found.blocks:
        lines.append(Text.assemble("  ", fit(short(block.name), LABEL), arrow(shape(block.before), shape(block.after))))
    return lines


def _layers(found: Comparison, width: int) -> list[Text]:
    if not found.layers:
        return [Text("no layer differs", colours.MUTED)]
    names = min(max(len(short(name)) for name in found.layers), max(width - 32, 10))
    lines = [_heading("Layers", f"{len(found.layers)} changed")]
    for name, layer in found.layers.items():
        cut = layer.out_before != layer.out_after
        lines.append(
            Text.assemble(
                "  ",
                (fit(short(name), names), colours.TEXT if cut else colours.MUTED),
                ("  out ", colours.FAINT),
                (fit(arrow(layer.out_before, layer.out_after), CELL), colours.GOOD if cut else colours.MUTED),
                (" in ", colours.FAINT),
                (arrow(layer.in_before, layer.in_after), colours.BLUE if layer.in_before != layer.in_after else colours.MUTED),
            )
        )
    return lines


def _heading(title: str, counted: str) -> Text:
    return Text.assemble((title, colours.HEADING), (f"  {counted}", colours.MUTED))


WIDTH_COLUMNS = (("keeps", 6), ("cut", 5), ("params", 8), ("FLOPs", 7), ("importance", 11))


def widths_lines(detail: Detail, state: AppState, width: int, height: int) -> list[Text]:
    """What a layer costs at smaller widths, in at most `height` lines: the parameters and FLOPs that the whole model saves if it alone
    is cut, the importance that goes with the channels, and the drop of the metric by the scan of this layer alone, if it ranked alike.
    """
    layer, now = state.layers[detail.layer], detail.current
    if not detail.widths or height < 3:
        return []
    scanned = state.scan is not None and layer.name in state.scan.layers and state.scan.criterion == detail.criterion
    metric = [(f"~{state.scan.metric}", max(len(state.scan.metric) + 2, 8))] if state.scan is not None and scanned else []
    columns = (*WIDTH_COLUMNS, *metric)
    while sum(cells for _, cells in columns) > width:
        columns = columns[:-1]
    titles = "".join(fit(title, cells, right=True) for title, cells in columns)
    step, usual = usual_widths(now)
    steps = [f"multiples of {step}"] if all(found.keeps in usual for found in detail.widths) else []
    ground = ", ".join([*steps, "savings in all", *([] if scanned else [f"{key_of('scan')} adds the metric's drop"])])
    about = fit_clauses(ground, max(width - 8, 12))
    lines = [Text.assemble(("Widths", colours.HEADING), (f"  {about}", colours.MUTED)), Text(titles, colours.MUTED)]
    for found in detail.widths[: height - 2]:
        gone = 1 - found.keeps / now
        taken = round(gone * len(detail.curve))
        cells = [
            str(found.keeps), f"{GLYPHS.minus}{gone:.0%}", count(found.parameters), count(found.flops),
            percent(sum(detail.curve[:taken]) / max(sum(detail.curve), 1e-9)) if detail.curve else "",
            _drop_alone(state, layer, now, found.keeps),
        ]  # fmt: skip
        row = "".join(fit(cell, cells_of, right=True) for cell, (_, cells_of) in zip(cells, columns, strict=False))
        lines.append(Text(row, colours.STRONG if found.keeps == detail.after else colours.TEXT))
    return lines


def _drop_alone(state: AppState, layer: LayerView, now: int, keep: int) -> str:
    """The drop of the metric from the width now to a smaller one, interpolated between the scanned shares of the checkpoint's channels.

    Empty where the layer was not scanned that far.
    """
    drops = state.scan.layers.get(layer.name) if state.scan is not None else None
    found = [drop_at(drops, 1 - width / layer.out_channels) for width in (now, keep)] if drops else [None]
    fallen = [fall for fall in found if fall is not None]
    return drop(fallen[1] - fallen[0]) if len(fallen) == 2 else ""
