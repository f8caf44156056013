"""The steps as a table: what was cut, the size after it, its proof and its metric."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from rich.text import Text

from tui_pruner.domain.formatting import count, distance, giga, plural, score, tiny
from tui_pruner.tui import colours
from tui_pruner.tui.actions import STEPS_PANE, key_of
from tui_pruner.tui.drawing import GLYPHS, arrow, drop, fit, fit_middle, gain, spread, titled
from tui_pruner.tui.job_specs.recovery import between
from tui_pruner.tui.panes.lineage import Shown, ancestor_lines
from tui_pruner.tui.panes.tree_row import metric_colour
from tui_pruner.tui.panes.widgets import ONE_MORE, Pane
from tui_pruner.tui.state import COLOURS, PROOFS, AppState, Store
from tui_pruner.tui.timeline import StepMetrics, Timeline

if TYPE_CHECKING:
    from tui_pruner.engine.messages import ProofView, StepView


SIZES_NEED = 56
FLOPS = 6
PROOF = 12
METRIC = 9
WIDE_METRIC = 12
REFIT = 12
ERROR = 13
NAMES = 10
"""The least cells that the columns of refits and forecasts leave to the name of the cut."""


def step_lines(
    state: AppState, metrics: StepMetrics, width: int, timeline: Timeline | None = None, first: str = "checkpoint"
) -> tuple[list[Text], int]:
    """One line per step, the checkpoint `first`, the undone ones after, the pending cuts last; and the line of the cursor.

    `timeline` where the pane has the focus: its cursor and the step that is held are shown.
    """
    session, before = state.session, state.session.original
    steps = [*session.steps, *session.ahead]
    columns = columns_of(state, metrics, width)
    numbers = columns.numbers
    lines = [
        heading(metrics.name, columns),
        _line("", first, columns.sizes(before.parameters, before.flops), ("", ""), metrics, 0, columns),
    ]
    for step in steps:
        undone = step.number > len(session.steps)
        sizes = columns.sizes(step.totals.parameters, step.totals.flops)
        proof = undone_cell(step.proof) if undone else proof_cell(step.proof)
        line = _line(str(step.number), titled(step.title), sizes, proof, metrics, step.number, columns)
        if undone:
            line.stylize(colours.FAINT)
        lines.append(line)
    at = len(session.steps) + 1
    if timeline is not None:
        at = timeline.at + 1
        _light(lines, timeline, width, numbers)
    if state.pending:
        lines.append(_pending(state, width))
    return lines, at


def columns_of(state: AppState, metrics: StepMetrics, width: int) -> Columns:
    """The layout of a session's table."""
    steps = [*state.session.steps, *state.session.ahead]
    refitted = any(metrics.refit_of_step(step.number) for step in steps)
    forecast = any(metrics.error_of_step(step.number) is not None for step in steps)
    words = [proof_cell(step.proof)[0] for step in state.session.steps] + [undone_cell(step.proof)[0] for step in state.session.ahead]
    proof = max((len(word) + 1 for word in words), default=PROOF)
    return Columns(width, len(str(len(steps))) + 1, refitted, forecast, max(proof, PROOF))


def _light(lines: list[Text], timeline: Timeline, width: int, numbers: int) -> None:
    """Highlight the line of the cursor, and mark the step that is held."""
    if timeline.held is not None:
        number, rest = lines[timeline.held + 1].divide([numbers])
        lines[timeline.held + 1] = Text.assemble((fit(f"{number.plain.strip()}{GLYPHS.mark}", numbers), colours.WARNING), rest)
    line = lines[timeline.at + 1]
    line.append(" " * max(width - line.cell_len, 0))
    line.stylize(f"bold on {colours.SELECTION}")


@dataclass(frozen=True)
class Columns:
    """The layout of the table in `width` cells: `numbers` is the width of the numbers; `refitted` and `forecast` add columns.

    In a narrow pane the parameters are dropped first, then forecasts, refits and FLOPs. `proof`: the width of the proofs' column.
    """

    width: int
    numbers: int = 2
    refitted: bool = False
    forecast: bool = False
    proof: int = PROOF

    @property
    def metric(self) -> int:
        """The width of the metric's column, with the difference from the checkpoint's if there is space."""
        return WIDE_METRIC if self.width >= SIZES_NEED else METRIC

    @property
    def refit(self) -> int:
        """The width of the refits' column; 0 where there is none."""
        return REFIT if self.refitted and self.width >= SIZES_NEED and self._left(REFIT, FLOPS) >= NAMES else 0

    @property
    def error(self) -> int:
        """The width of the column for errors of forecasts; 0 where there is none."""
        left = self._left(self.refit + ERROR, len(self.sizes(0, 0)))
        return ERROR if self.forecast and self.width >= SIZES_NEED and left >= NAMES else 0

    def _left(self, more: int, sizes: int) -> int:
        """The width that these columns leave to the names."""
        return self.width - self.numbers - sizes - 2 - self.proof - self.metric - more

    def sizes(self, parameters: int, flops: int) -> str:
        """The size columns that fit."""
        return self.written(count(parameters), giga(flops))

    def written(self, parameters: str, flops: str) -> str:
        """The sizes formatted for the columns."""
        if self.width < SIZES_NEED:
            return ""
        return f"{flops:>{FLOPS}}" if self.refit and self.width < SIZES_NEED + REFIT else f"{parameters:>6} {flops:>{FLOPS}}"

    def names(self, sizes: str) -> int:
        """The width for the names of the cuts."""
        return max(self._left(self.refit + self.error, len(sizes)), 8)


def heading(metric: str, columns: Columns) -> Text:
    """The titles of the columns."""
    sizes = columns.written("params", "GFLOPs")
    proof = f"{fit('proof', columns.proof)}{fit('refit' if columns.refit else '', columns.refit)}"
    scores = f"{fit(metric, columns.metric, right=True)}{fit('forecast' if columns.error else '', columns.error, right=True)}"
    return Text(f"{' ' * columns.numbers}{fit('cut', columns.names(sizes))}{sizes}  {proof}{scores}", colours.FAINT)


def last_step(state: AppState, metrics: StepMetrics, width: int) -> Text:
    """The newest step in one line, for a small screen."""
    if state.pending:
        return _pending(state, width)
    if not state.session.steps:
        undone = len(state.session.ahead)
        return Text(f"no steps: {key_of('redo')} redoes one of {undone}" if undone else "no steps yet", colours.MUTED)
    step: StepView = state.session.steps[-1]
    words, style = proof_cell(step.proof)
    metric = metrics.measurement_of_step(step.number)
    tail = Text.assemble((f"  {words}", style))
    if metric is not None:
        first = metrics.measurement_of_step(0) or metric
        tail.append(f"  {metrics.name} {score(metric.value)} {gain(first.value, metric.value)}", metric_colour(first, metric))
    return Text.assemble((f"{step.number} ", colours.MUTED), fit_middle(titled(step.title), max(width - len(tail) - 3, 6)), tail)


def proof_cell(proof: ProofView | None) -> tuple[str, str]:
    """The proof in a few words, with its colour."""
    if proof is None:
        return f"proving{GLYPHS.ellipsis}", colours.WARNING
    if not proof.equal:
        figure = f" {tiny(proof.relative_difference)}" if proof.verdict == "not equal" else ""
        return f"{proof.verdict.upper()}{figure}", f"bold {colours.BAD}"
    return f"proved {tiny(proof.relative_difference) if proof.relative_difference else 'exact'}", colours.GOOD


def undone_cell(proof: ProofView | None) -> tuple[str, str]:
    """The proof of an undone step, shown only if it failed: it fails again when the step is redone."""
    failed = proof is not None and not proof.equal
    return ("undone, failed", colours.BAD) if failed else ("undone", colours.MUTED)


def _pending(state: AppState, width: int) -> Text:
    shares, losses = {amount.written(GLYPHS.minus) for amount in state.pending.amounts.values()}, [] if state.clash else state.losses
    amount = shares.pop() if len(shares) == 1 else spread(losses) if losses else "by different amounts"
    layers = list(state.pending.amounts)
    what = layers[0] if len(layers) == 1 else plural(len(losses) or len(layers), "layer")
    title = f"{what} {amount}"
    preview = state.preview
    if state.no_preview:
        hint = ("no preview: see the detail", colours.BAD)
    elif preview is not None and preview.conflicts:
        hint = (f"conflict: {key_of('settle')} settles it", colours.BAD)
    elif preview is not None and preview.refused:
        hint = (f"{preview.refused[0].layer} refused: cannot be applied", colours.BAD)
    else:
        hint = (f"{key_of('apply')} applies it", colours.MUTED)
    return Text.assemble(
        (f"{GLYPHS.pending} ", colours.WARNING), (fit(title, max(min(width - 26, 40), 10)).rstrip(), colours.STRONG), "  ", hint
    )


def _line(number: str, title: str, sizes: str, proof: tuple[str, str], metrics: StepMetrics, step: int, columns: Columns) -> Text:
    refit, names = metrics.refit_of_step(step), columns.names(sizes)
    text = Text.assemble(
        (fit(number, columns.numbers), colours.MUTED),
        (fit(fit_middle(title, names), names), colours.TEXT if number else colours.MUTED),
    )
    text.append(sizes + "  ", colours.MUTED)
    text.append(fit(proof[0], columns.proof), proof[1])
    if columns.refit:
        text.append(fit(refit_cell(refit, columns.refit), columns.refit), colours.BLUE)
    text.append_text(_metric(metrics, step, columns))
    if columns.error:
        error = metrics.error_of_step(step)
        text.append(fit("" if error is None else f"error {drop(-error)}", columns.error, right=True), colours.MUTED)
    return text


def refit_cell(refit: tuple[float, float] | None, width: int) -> str:
    """The distances before and after a refit; only the one after where both do not fit in `width` cells, since half a number is another."""
    if refit is None:
        return ""
    both = between(*refit)
    return both if len(both) < width else arrow("", distance(refit[1]))


def _metric(metrics: StepMetrics, step: int, columns: Columns) -> Text:
    """A step's metric and its difference from the checkpoint's."""
    found, first = metrics.measurement_of_step(step), metrics.measurement_of_step(0)
    if found is None:
        return Text(" " * columns.metric)
    if not step or first is None:
        return Text(fit(score(found.value), columns.metric, right=True), colours.TEXT)
    moved = f" {gain(first.value, found.value)}" if columns.metric == WIDE_METRIC else ""
    return Text(fit(f"{score(found.value)}{moved}", columns.metric, right=True), metric_colour(first, found))


class StepsPane(Pane, inherit_bindings=False):
    """The pane of the steps; the workbench binds up and down, which move from step to step."""

    def follow(self, store: Store) -> None:
        """Observe the steps of a session."""
        names = ("session", "pending", "preview", "no_preview", "metrics", "timeline", "focus", PROOFS, COLOURS)
        store.observe(names, lambda: self.show(store))

    def show(self, store: Store) -> None:
        """Draw the steps; while the pane has the focus, with their cursor."""
        state = store.state
        timeline = store.view.timeline if store.view.focus == STEPS_PANE else None
        self.draw_at(lambda width: (*with_ancestors(state, width, timeline), ONE_MORE))


def with_ancestors(state: AppState, width: int, timeline: Timeline | None = None) -> tuple[list[Text], int]:
    """The steps with the stages before the open file above them, and the line of the cursor."""
    if not state.lineage.ancestors():
        return step_lines(state, state.metrics, width, timeline)
    lines, at = step_lines(state, state.metrics, width, timeline, state.checkpoint.opening.name)
    columns = columns_of(state, state.metrics, width)
    shown = Shown(state.lineage, state.checkpoint.data or "", state.metrics.name)
    before = ancestor_lines(
        shown, columns.sizes, columns.numbers + columns.names(columns.sizes(0, 0)), columns.metric, width - columns.error
    )
    return [*lines[:1], *before, *lines[1:]], at + len(before)
