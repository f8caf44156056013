"""The lineage as text: a tree of stages, each with its size, metric, interval, latency and proof, and two of them side by side."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from rich.text import Text

from tui_pruner.domain.formatting import count, giga, milliseconds, score
from tui_pruner.domain.lineage import ASKED, ORIGINAL, PRUNED, STEP, GraphLine, Lineage, Stage
from tui_pruner.domain.results import MeasuredMetric
from tui_pruner.tui import colours
from tui_pruner.tui.drawing import GLYPHS, SIGNS, UNICODE, change, fit, fit_middle, gain, relative, titled
from tui_pruner.tui.panes.tree_row import metric_colour

KINDS = {
    ORIGINAL: "original",
    STEP: "step",
    PRUNED: "pruned",
    ASKED: "asked for",
    "mask": "masked",
    "reconstruct": "refit",
    "recalibrate": "recalibrated",
    "finetune": "fine-tuned",
    "sparse training": "trained sparse",
    "compress": "compressed",
}
LEAST = 22
SIZE, METRIC, INTERVAL, LATENCY, PROOF = 7, 6, 14, 9, 16
LONGEST_METRIC = 12
BRANCH, RUNS = ("├─", "│ ") if SIGNS is UNICODE else ("+-", "| ")


@dataclass(frozen=True)
class Shown:
    """The data of a drawn lineage: the session's data set, the applied stages, and the undone ones.

    `resamples`: the metric of this session's stages on each bootstrap resample.
    """

    lineage: Lineage
    data: str = ""
    metric: str = "mAP"
    undone: frozenset[str] = frozenset()
    main: tuple[str, ...] = ()
    resamples: Mapping[str, Sequence[float]] = field(default_factory=dict)

    @property
    def lines(self) -> list[GraphLine]:
        """The tree."""
        return self.lineage.graph(self.main)

    def measured(self, stage: Stage) -> float | None:
        """A stage's metric, if it was measured on the session's data."""
        return stage.metric if stage.metric is not None and stage.data == self.data else None

    def measurement(self, stage: Stage) -> MeasuredMetric | None:
        """The metric with its interval."""
        found = self.measured(stage)
        return None if found is None else MeasuredMetric(found, self.interval(stage), self.resamples.get(stage.id, ()))

    def interval(self, stage: Stage) -> tuple[float, float] | None:
        """The metric's 95 % interval, if it was measured."""
        if self.measured(stage) is None or stage.low is None or stage.high is None:
            return None
        return stage.low, stage.high


def kind_of(stage: Stage) -> str:
    """The kind of a stage, in one or two words."""
    return KINDS.get(stage.kind, stage.kind)


def graph_lines(shown: Shown, width: int, cursor: str = "", held: str = "") -> tuple[list[Text], int]:
    """One line per stage under a heading, parents first; and the line of the cursor."""
    columns = _columns(width, len(shown.metric))
    space_left = width - sum(columns.values())
    titles = {"params": "params", "flops": "GFLOPs", "metric": shown.metric, "interval": "95 % interval", "latency": "ms", "proof": "proof"}
    heading = Text(fit("stage", space_left) + "".join(_cell(name, titles[name], size) for name, size in columns.items()), colours.FAINT)
    lines, at = [heading], 0
    for number, line in enumerate(shown.lines, start=1):
        text = _stage_line(shown, line, space_left, columns, held)
        if line.stage.id == cursor:
            at = number
            text.append(" " * max(width - text.cell_len, 0))
            text.stylize(f"bold on {colours.SELECTION}")
        lines.append(text)
    return lines, at


def ancestor_lines(shown: Shown, sizes: Callable[[int, int], str], names: int, metric: int, width: int) -> list[Text]:
    """The stages before the open file, in the columns of the steps: `names` cells for their kind, `metric` for the metric."""
    lines = []
    for stage in shown.lineage.ancestors():
        figures = sizes(stage.parameters, stage.flops) if stage.parameters and stage.flops else " " * len(sizes(0, 0))
        found = shown.measured(stage)
        rest = max(width - names - len(figures) - metric - 2, 0)
        words = stage.proof if stage.kind == STEP else kind_of(stage)
        text = Text.assemble((fit(f"{RUNS}{titled(stage.title)}", names), colours.MUTED), (figures, colours.FAINT))
        text.append(f"  {fit(words, rest)}", colours.FAINT)
        text.append(fit("" if found is None else score(found), metric, right=True), colours.MUTED)
        lines.append(text)
    return lines


def stage_lines(shown: Shown, stage: Stage, held: Stage | None, width: int) -> list[Text]:
    """A stage and its difference from the held one, else from the original, in at most three lines of this width."""
    other = held or shown.lineage.original
    name = Path(stage.path).name if stage.path else ""
    lead, kind = ("step ", "") if stage.kind == STEP else ("", f"  {kind_of(stage)}")
    first = Text.assemble((lead, colours.MUTED), (titled(stage.title), colours.STRONG), (kind, colours.MUTED))
    if name and name != stage.title:
        first.append(f"  {name}", colours.MUTED)
    if other is None or other.id == stage.id:
        return [first, Text("hold another stage with space to compare", colours.FAINT)]
    parts = [
        _metric_moved(shown, other, stage),
        _moved("params", other.parameters or None, stage.parameters or None, count),
        _moved("GFLOPs", other.flops or None, stage.flops or None, giga),
        _moved("latency", other.latency, stage.latency, milliseconds),
    ]
    lines = [first, Text.assemble(("against ", colours.MUTED), (fit(titled(other.title), max(width // 3, LEAST)).rstrip(), colours.TEXT))]
    for part in filter(None, parts):
        if lines[-1].cell_len + 3 + part.cell_len > width:
            if len(lines) == 3:
                break
            lines.append(Text("  "))
        lines[-1].append("   " if lines[-1].plain.strip() else "")
        lines[-1].append_text(part)
    return lines


def _moved(name: str, before: float | None, after: float | None, written: Callable[[float], str]) -> Text | None:
    if before is None or after is None:
        return None
    moved = change(before, after)
    style = colours.GOOD if after < before else colours.WARNING
    values = [written(before), *([written(after)] if moved else [])]
    return Text.assemble((f"{name} ", colours.MUTED), GLYPHS.arrow.join(values), (f" {moved}" if moved else "", style))


def _metric_moved(shown: Shown, before: Stage, after: Stage) -> Text | None:
    first, last = shown.measurement(before), shown.measurement(after)
    if first is None or last is None:
        return None
    values = f"{score(first.value)}{GLYPHS.arrow}{score(last.value)}"
    moved = f" {gain(first.value, last.value)}{relative(first.value, last.value)}"
    return Text.assemble((f"{shown.metric} ", colours.MUTED), values, (moved, metric_colour(first, last)))


def _columns(width: int, longest: int) -> dict[str, int]:
    """The columns that fit, with their widths; size and metric are dropped last. `longest`: the length of the metric's."""
    metric = max(METRIC, min(longest, LONGEST_METRIC) + 2)
    wanted = {"params": SIZE, "flops": SIZE, "metric": metric, "interval": INTERVAL, "latency": LATENCY, "proof": PROOF}
    for name in ("interval", "proof", "latency", "params"):
        if sum(wanted.values()) + LEAST > width:
            wanted.pop(name)
    return wanted


def _cell(name: str, text: str, width: int) -> str:
    return f"  {fit(text, width - 2)}" if name == "proof" else fit(text, width, right=True)


def drawn(columns: str) -> str:
    """The tree's lines before a stage."""
    return "".join(BRANCH if sign == "+" else RUNS for sign in columns)


def _stage_line(shown: Shown, line: GraphLine, space_left: int, columns: dict[str, int], held: str) -> Text:
    stage, before = line.stage, drawn(line.columns)
    here, undone = stage.id == shown.lineage.here, stage.id in shown.undone
    sign = GLYPHS.lit if here else GLYPHS.dot if undone else GLYPHS.mark
    style = colours.WARNING if here or stage.id == held else colours.BLUE
    kind = "" if stage.kind == STEP else f"  {kind_of(stage)}"
    note = "  held" if stage.id == held else "  undone" if undone else ""
    name = Text.assemble((before, colours.FAINT), (f"{sign} ", style))
    space = space_left - name.cell_len
    tail = f"{kind}{note}"
    title = fit_middle(titled(stage.title), max(space - len(tail), 8))
    name.append(title, colours.MUTED if undone else colours.TEXT)
    name.append(fit(tail, max(space_left - name.cell_len, 0)), colours.MUTED)
    found, interval = shown.measured(stage), shown.interval(stage)
    cells: dict[str, tuple[str, str]] = {
        "params": (count(stage.parameters) if stage.parameters else "", colours.MUTED),
        "flops": (giga(stage.flops) if stage.flops else "", colours.MUTED),
        "metric": ("" if found is None else score(found), colours.WARNING),
        "interval": (f"{score(interval[0])} to {score(interval[1])}" if interval else "", colours.MUTED),
        "latency": (f"{stage.latency:.2f}" if stage.latency is not None else "", colours.MUTED),
        "proof": (stage.proof, colours.GOOD if stage.proved else colours.MUTED if stage.proved is None else colours.BAD),
    }
    for column, size in columns.items():
        text, shade = cells[column]
        name.append(_cell(column, text, size), shade)
    return name


def moved_cursor(ids: Sequence[str], cursor: str, by: int) -> str:
    """The stage this many further in this list, staying within its ends."""
    if not ids:
        return ""
    here = ids.index(cursor) if cursor in ids else 0
    return ids[min(max(here + by, 0), len(ids) - 1)]
