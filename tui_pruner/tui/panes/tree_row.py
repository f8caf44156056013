"""The rows of the model tree as text: the columns at a width, and one small function per column."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache

from rich.text import Text

from tui_pruner.domain.formatting import percent
from tui_pruner.domain.results import MeasuredMetric, change_between
from tui_pruner.tui import colours
from tui_pruner.tui.drawing import GLYPHS, arrow, bar, fall, fit, fit_middle, shape, spread
from tui_pruner.tui.outline import Row, Weight
from tui_pruner.tui.state import AppState, Change

GAP = 1
NARROWEST_NAME = 16
WIDEST_NAME = 26
WIDEST_BAR = 12
SHARE, NARROW_SHARE = 9, 7
SHARE_NEEDS = 60
CURVE, CURVE_NEEDS, FIGURE = 3, 62, 5
SHORTEST_NAME = 14
"""The least cells that a curve leaves to the name in the tree; ordered lists show whole names."""
FULL = 0.2
BARS = ("parameters", "flops")
MEASURED = ("time", "drop")


@dataclass(frozen=True)
class Column:
    """One column: its heading, its width in cells, and the least width of the tree at which it is shown."""

    key: str
    title: str
    width: int
    needs: int = 0
    right: bool = False


NAME = Column("name", "Layer", NARROWEST_NAME)
COLUMNS = (
    NAME,
    Column("type", "Type", 11, needs=72),
    Column("inputs", "In", 5, needs=96, right=True),
    Column("channels", "Channels", 9),
    Column("output", "Output", 11, needs=88),
    Column("parameters", "Params", 6, needs=44),
    Column("flops", "FLOPs", 5, needs=50),
    Column("time", "ms", 5, needs=62, right=True),
    Column("drop", "Drop", 5, needs=58),
    Column("status", "Status", 12),
)


@lru_cache(maxsize=8)
def layout(
    width: int, ranked: bool = False, measured: frozenset[str] = frozenset(), ratio: float = 0.0, name: int = SHORTEST_NAME
) -> tuple[Column, ...]:
    """The columns that fit into `width` cells; the name takes the remaining space, and the bars share the space of a wide screen.

    `ranked`: layers ordered by a share, whose figures are shown at every width, and which have no output shape; `measured`: which of
    the columns that need a measurement have one, and take space from the bars. `ratio`: the share that drops stand for. `name`: the cells
    of the longest name of an ordered layer; bars and the curve are narrowed for it, since a shortened name may be ambiguous.
    """
    hidden = {"output": ranked, **{key: key not in measured for key in MEASURED}}
    shown = [column for column in COLUMNS if column.needs <= width and not hidden.get(column.key)]
    if ranked:
        shown = _ranked(shown, width, ratio, name)
    else:
        with_curve = width >= CURVE_NEEDS and width - _total(shown) - CURVE - 1 + NAME.width >= SHORTEST_NAME
        shown = _drops(shown, ratio, with_curve)
        with_shares = _with_shares(shown, SHARE)
        if width >= SHARE_NEEDS and _total(with_shares) <= width:
            shown = with_shares
    spare = width - _total(shown) + NAME.width
    bars = [column for column in shown if column.key in BARS]
    extra = max(spare - WIDEST_NAME, 0) // len(bars) if bars else 0
    widened = [_wider(column, min(extra, WIDEST_BAR)) if column in bars else column for column in shown]
    spare -= min(extra, WIDEST_BAR) * len(bars)
    return tuple(_wider(column, spare - NARROWEST_NAME) if column.key == NAME.key else column for column in widened)


def _ranked(columns: Sequence[Column], width: int, ratio: float, name: int) -> list[Column]:
    """The columns beside ordered layers: figures with their bars and the curve, as far as the longest name leaves space for them."""
    ways = [_with_shares(_drops(columns, ratio, curve), share) for curve in (True, False) for share in (SHARE, NARROW_SHARE)]
    return next((way for way in ways if width - _total(way) + NAME.width >= name), ways[-1])


def _with_shares(columns: Sequence[Column], share: int) -> list[Column]:
    return [_wider(column, share - column.width) if column.key in BARS else column for column in columns]


def _drops(columns: Sequence[Column], ratio: float, with_curve: bool) -> list[Column]:
    """The column of the drops, titled by the ratio, with a curve over all ratios if there is space."""
    title, more = f"@{ratio:.0%}", CURVE + 1 if with_curve else 0
    return [
        replace(one, title=f"{one.title}{title}" if with_curve else title, width=one.width + more) if one.key == "drop" else one
        for one in columns
    ]


def _total(columns: Sequence[Column]) -> int:
    return sum(column.width for column in columns) + GAP * (len(columns) - 1)


def _wider(column: Column, by: int) -> Column:
    return Column(column.key, column.title, max(column.width + by, 4), column.needs, column.right)


Cell = tuple[str, str]
Cells = tuple[Cell, ...]
"""A line's contents with their styles."""
PERCENT = 5
LITTLE, MUCH = 0.01, 0.05
FASTER = 0.95


@dataclass(frozen=True)
class Look:
    """The inputs of a row besides itself: the state, the open rows, and the largest parameter and FLOP counts for the bars' scale.

    `weights`: the rows' costs with the pending cuts, by key; for other rows the costs in the row.
    """

    state: AppState
    expanded: Collection[str]
    most_parameters: int = 1
    most_flops: int = 1
    weights: Mapping[str, Weight] = field(default_factory=dict)


def heading(columns: Sequence[Column]) -> Cells:
    """The titles of the columns."""
    return tuple((column.title, colours.MUTED) for column in columns)


def row_cells(row: Row, columns: Sequence[Column], look: Look) -> Cells:
    """The content of one row, a cell for each column."""
    return tuple(_CELLS[column.key](row, look, column.width) for column in columns)


def composed(cells: Cells, columns: Sequence[Column]) -> Text:
    """The line of these cells, each in its column's width."""
    text = Text(no_wrap=True)
    for number, (column, (content, style)) in enumerate(zip(columns, cells)):
        text.append((" " * GAP if number else "") + fit(content, column.width, column.right), style)
    return text


def share(part: int, most: int, whole: int, width: int) -> str:
    """A bar relative to the largest part, with the share of the whole in percent if there is space for both."""
    if width < NARROW_SHARE or not part:
        return bar(part / max(most, 1), width)
    return bar(part / max(most, 1), width - PERCENT) + fit(percent(part / max(whole, 1)), PERCENT, right=True)


def heat_colour(fall: float, baseline: float) -> str:
    """The colour of a drop of the metric: good below a hundredth of it, bad from a twentieth."""
    share = fall / max(baseline, 1e-9)
    return colours.GOOD if share < LITTLE else colours.WARNING if share < MUCH else colours.BAD


FEWER_INPUTS = "fewer inputs"
METRIC_NOISE = 0.005
"""A smaller change of a metric counts as noise where its interval is unknown."""


def metric_colour(before: MeasuredMetric, now: MeasuredMetric) -> str:
    """The colour of a change of the metric: grey within noise; a loss is never green, one beyond noise a warning, and a large one bad.

    A change is within noise if its 95 % interval includes zero; without an interval, if it is tiny.
    """
    fall, change = before.value - now.value, change_between(before, now)
    noise = abs(fall) <= METRIC_NOISE if change is None else change[0] <= 0 <= change[1]
    if noise:
        return colours.MUTED
    if fall < 0:
        return colours.GOOD
    return colours.BAD if fall / max(before.value, 1e-9) >= MUCH else colours.WARNING


def _name(row: Row, look: Look, width: int) -> Cell:
    state = look.state
    sign = (GLYPHS.opened if row.key in look.expanded else GLYPHS.closed) if row.expandable else " "
    if row.kind == "section":
        return f"{sign} {row.name}", colours.HEADING
    marked = GLYPHS.mark if _is_marked(row, state) else " "
    style = _change_style(row, look) or (colours.MUTED if _all_locked(row) else colours.TEXT)
    if row.depth == 0:
        return f"{marked} {fit_middle(row.name, width - 2)}", style
    return f"{'  ' * (row.depth - 1)}{marked} {sign} {row.name}", style


def _type(row: Row, look: Look, width: int) -> Cell:
    return row.type, colours.MUTED


def _inputs(row: Row, look: Look, width: int) -> Cell:
    if row.kind == "section":
        return "", ""
    before, after = inputs(row, look.state)
    return str(after), colours.MUTED if before == after else _change_style(row, look) or colours.GOOD


def _channels(row: Row, look: Look, width: int) -> Cell:
    if row.kind == "section":
        return "", ""
    before, after = outputs(row, look.state)
    if before == after:
        return str(before), colours.MUTED if _all_locked(row) else colours.TEXT
    return arrow(before, after), _change_style(row, look) or colours.GOOD


def _output(row: Row, look: Look, width: int) -> Cell:
    if not row.output_shape or row.kind == "section":
        return "", ""
    after = next((block.after for block in look.state.shapes if block.name == row.key), list(row.output_shape))
    changed = list(after) != list(row.output_shape)
    return shape(after), colours.GOOD if changed else colours.MUTED


def _parameters(row: Row, look: Look, width: int) -> Cell:
    if row.kind == "section":
        return "", ""
    parameters = look.weights.get(row.key, (row.parameters, row.flops))[0]
    return share(parameters, look.most_parameters, look.state.after.parameters, width), colours.BLUE


def _flops(row: Row, look: Look, width: int) -> Cell:
    if row.kind == "section":
        return "", ""
    flops = look.weights.get(row.key, (row.parameters, row.flops))[1]
    return share(flops, look.most_flops, look.state.after.flops, width), colours.PURPLE


def _time(row: Row, look: Look, width: int) -> Cell:
    """A block's milliseconds, after the steps if those were timed, else in the checkpoint."""
    timed = look.state.latency
    before = timed.before.get(row.key) if timed is not None else None
    if timed is None or before is None or row.kind != "block":
        return "", ""
    time = timed.after.get(row.key, before)
    faster = time < FASTER * before
    if not timed.told_apart(row.key):
        return f"{time:.2f}"[:width], colours.MUTED
    return f"{time:.2f}"[:width], colours.GOOD if faster else colours.BAD if time > before / FASTER else colours.TEXT


def _drop(row: Row, look: Look, width: int) -> Cell:
    """A layer's drop at the ratio of the column's title, after a curve over all ratios, with dots for unmeasured ones."""
    scan = look.state.scan
    drops = scan.layers.get(row.layer.name) if scan is not None and row.layer is not None else None
    if scan is None or not drops:
        return "", ""
    figure, colour = (
        drops.get(scan.ratio),
        heat_colour(max(drops.values()) if scan.ratio not in drops else drops[scan.ratio], scan.baseline),
    )
    words = "" if figure is None else fall(figure)
    if width < CURVE + 1 + FIGURE:
        return fit(words, width, right=True), colour
    levels = "".join(_level(drops.get(ratio), scan.baseline) for ratio in scan.ratios[:CURVE])
    return f"{levels:<{CURVE}}{words:>{width - CURVE}}", colour


def _level(drop: float | None, baseline: float) -> str:
    """A drop as a bar of one cell, full for a fifth of the metric."""
    if drop is None:
        return GLYPHS.dot
    steps = len(GLYPHS.levels) - 1
    return GLYPHS.levels[max(1, min(round(drop / max(FULL * baseline, 1e-9) * steps), steps))]


def _status(row: Row, look: Look, width: int) -> Cell:
    if row.kind == "section":
        return "", ""
    return status_of(row, look.state)


def status_of(row: Row, state: AppState) -> Cell:
    """The state of a layer or a block in a few words, with its colour."""
    return _layer_status(row, state) if row.layer is not None else _block_status(row, state)


def _layer_status(row: Row, state: AppState) -> Cell:
    layer = row.layer
    assert layer is not None
    change = state.change(layer)
    amount = state.pending.of(layer.name)
    if amount is not None and state.in_conflict(layer.name):
        return f"{amount.written(GLYPHS.minus)} {GLYPHS.bad}", colours.BAD
    if amount is not None:
        return amount.written(GLYPHS.minus), f"bold {colours.GOOD}"
    if change.pending:
        return "affected", colours.WARNING
    if change.has_fewer_inputs:
        return FEWER_INPUTS, colours.WARNING
    if change.gone:
        return "dropped", colours.GOOD
    if change.stepped:
        return f"cut {GLYPHS.minus}{_lost(change)}%", colours.GOOD
    return layer.status, colours.STATUS_COLOURS[layer.status]


def _block_status(row: Row, state: AppState) -> Cell:
    if not row.layers:
        return "", ""
    asked = sum(state.pending.of(layer.name) is not None for layer in row.layers)
    if any(state.in_conflict(layer.name) for layer in row.layers):
        return f"conflict {GLYPHS.bad}", colours.BAD
    if asked:
        return _pending(row, state) or f"{asked} to cut", f"bold {colours.GOOD}"
    changes = [state.change(layer) for layer in row.layers]
    if any(change.pending for change in changes):
        return "affected", colours.WARNING
    if any(change.has_fewer_inputs for change in changes):
        return FEWER_INPUTS, colours.WARNING
    if cut := sum(change.stepped for change in changes):
        return f"{cut} cut", colours.GOOD
    locked = sum(layer.status == "locked" for layer in row.layers)
    return (f"{locked} locked", colours.MUTED) if locked else ("", "")


def _pending(row: Row, state: AppState) -> str:
    """How many layers lose how much with the pending cuts: "6 × −30%" if all lose what was asked, or "6 × −10…50%"; empty if none does."""
    losing = [layer for layer in row.layers if state.loss(layer)]
    asked = {amount.remove: amount.written(GLYPHS.minus) for layer in row.layers if (amount := state.pending.of(layer.name)) is not None}
    share, words = asked.popitem() if len(asked) == 1 else (None, "")
    as_asked = share is not None and all(state.loses(layer, share) for layer in losing)
    return f"{len(losing)} {GLYPHS.times} {words if as_asked else spread([state.loss(layer) for layer in losing])}" if losing else ""


def _lost(change: Change) -> int:
    return round(100 * (1 - change.outputs[1] / change.outputs[0]))


def inputs(row: Row, state: AppState) -> tuple[int, int]:
    """A row's input channels in the checkpoint, and with the steps and the pending cuts."""
    if row.layer is not None:
        change = state.change(row.layer)
        return change.inputs[0], change.inputs[2]
    lost = sum(shape.before[0] - shape.after[0] for shape in state.shapes if shape.index in row.sources and shape.before and shape.after)
    return row.inputs, row.inputs - lost


def outputs(row: Row, state: AppState) -> tuple[int, int]:
    """A row's output channels in the checkpoint, and with the steps and the pending cuts."""
    if row.layer is not None:
        change = state.change(row.layer)
        return change.outputs[0], change.outputs[2]
    after = next((block.after for block in state.shapes if block.name == row.key), None)
    return row.outputs, (after[0] if after and after[0] != row.output_shape[0] else row.outputs)


def _is_marked(row: Row, state: AppState) -> bool:
    names = [layer.name for layer in row.layers] if row.layer else row.prunable
    return bool(names) and all(name in state.marks for name in names)


def _all_locked(row: Row) -> bool:
    return all(layer.status == "locked" for layer in row.layers)


def _change_style(row: Row, look: Look) -> str:
    if any(look.state.in_conflict(layer.name) for layer in row.layers):
        return colours.BAD
    if any(look.state.pending.of(layer.name) for layer in row.layers):
        return f"bold {colours.GOOD}"
    changes = [look.state.change(layer) for layer in row.layers]
    if any(change.pending or change.has_fewer_inputs for change in changes):
        return colours.WARNING
    return ""


_CELLS: dict[str, Callable[[Row, Look, int], Cell]] = {
    "name": _name,
    "type": _type,
    "inputs": _inputs,
    "channels": _channels,
    "output": _output,
    "parameters": _parameters,
    "flops": _flops,
    "time": _time,
    "drop": _drop,
    "status": _status,
}
