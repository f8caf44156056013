"""A row of the tree as text: one small function per column."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

from rich.text import Text

from tui_pruner.tui import colours
from tui_pruner.tui.board import Board, Change
from tui_pruner.tui.columns import GAP, SHARE, Column
from tui_pruner.tui.drawing import bar, fit, fit_middle
from tui_pruner.tui.figures import arrow, drop, percent, shape
from tui_pruner.tui.glyphs import GLYPHS
from tui_pruner.tui.outline import Row

Cell = tuple[str, str]
PERCENT = 5
LITTLE, MUCH = 0.01, 0.05
FASTER = 0.95


@dataclass(frozen=True)
class Look:
    """What a row needs besides itself: the state, the open rows, and the largest parameter and FLOP counts for the bars' scale."""

    board: Board
    expanded: Collection[str]
    most_parameters: int = 1
    most_flops: int = 1


def heading(columns: Sequence[Column]) -> Text:
    """The titles of the columns."""
    gap = " " * GAP
    return Text(gap.join(fit(column.title, column.width, column.right) for column in columns), colours.MUTED, no_wrap=True)


def row_text(row: Row, columns: Sequence[Column], look: Look) -> Text:
    """One row, every cell in its column's width."""
    text = Text(no_wrap=True)
    for number, column in enumerate(columns):
        content, style = _CELLS[column.key](row, look, column.width)
        text.append((" " * GAP if number else "") + fit(content, column.width, column.right), style)
    return text


def share(part: int, most: int, whole: int, width: int) -> str:
    """A bar on the scale of the largest part, with the share of the whole in percent where there is room for both."""
    if width < SHARE or not part:
        return bar(part / max(most, 1), width)
    return bar(part / max(most, 1), width - PERCENT) + fit(percent(part / max(whole, 1)), PERCENT, right=True)


def heat_colour(fall: float, baseline: float) -> str:
    """The colour of a fall of the metric: good below a hundredth of it, bad from a twentieth."""
    share = fall / max(baseline, 1e-9)
    return colours.GOOD if share < LITTLE else colours.WARNING if share < MUCH else colours.BAD


def _name(row: Row, look: Look, width: int) -> Cell:
    board = look.board
    sign = (GLYPHS.opened if row.key in look.expanded else GLYPHS.closed) if row.expandable else " "
    if row.kind == "section":
        return f"{sign} {row.name}", colours.HEADING
    marked = GLYPHS.mark if _is_marked(row, board) else " "
    style = _change_style(row, look) or (colours.MUTED if _all_locked(row) else colours.TEXT)
    if row.depth == 0:
        return f"{marked} {fit_middle(row.name, width - 2)}", style
    return f"{'  ' * (row.depth - 1)}{marked} {sign} {row.name}", style


def _type(row: Row, look: Look, width: int) -> Cell:
    return row.type, colours.MUTED


def _inputs(row: Row, look: Look, width: int) -> Cell:
    if row.kind == "section":
        return "", ""
    return str(row.inputs), colours.MUTED


def _channels(row: Row, look: Look, width: int) -> Cell:
    if row.kind == "section":
        return "", ""
    before, after = outputs(row, look.board)
    if before == after:
        return str(before), colours.MUTED if _all_locked(row) else colours.TEXT
    return arrow(before, after), _change_style(row, look) or colours.GOOD


def _output(row: Row, look: Look, width: int) -> Cell:
    if not row.output_shape or row.kind == "section":
        return "", ""
    after = next((block.after for block in look.board.shapes if block.name == row.key), list(row.output_shape))
    changed = list(after) != list(row.output_shape)
    return shape(after), colours.GOOD if changed else colours.MUTED


def _parameters(row: Row, look: Look, width: int) -> Cell:
    if row.kind == "section":
        return "", ""
    return share(row.parameters, look.most_parameters, look.board.session.original.parameters, width), colours.BLUE


def _flops(row: Row, look: Look, width: int) -> Cell:
    if row.kind == "section":
        return "", ""
    return share(row.flops, look.most_flops, look.board.session.original.flops, width), colours.PURPLE


def _time(row: Row, look: Look, width: int) -> Cell:
    """A block's milliseconds, after the steps where those are what was timed, else in the checkpoint."""
    timed = look.board.timed
    before = timed.before.get(row.key) if timed is not None else None
    if timed is None or before is None or row.kind != "block":
        return "", ""
    time = timed.after.get(row.key, before)
    faster = time < FASTER * before
    return f"{time:.2f}"[:width], colours.GOOD if faster else colours.BAD if time > before / FASTER else colours.TEXT


def _drop(row: Row, look: Look, width: int) -> Cell:
    scan = look.board.scan
    heat = scan.heat(row.layer.name) if scan is not None and row.layer is not None else None
    return ("", "") if scan is None or heat is None else (drop(heat), heat_colour(heat, scan.baseline))


def _status(row: Row, look: Look, width: int) -> Cell:
    if row.kind == "section":
        return "", ""
    return state(row, look.board)


def state(row: Row, board: Board) -> Cell:
    """What is going on with a layer or a block in a few words, with its colour."""
    return _layer_status(row, board) if row.layer is not None else _block_status(row, board)


def _layer_status(row: Row, board: Board) -> Cell:
    layer = row.layer
    assert layer is not None
    change = board.change(layer)
    amount = board.asked.of(layer.name)
    if amount is not None and board.in_conflict(layer.name):
        return f"{amount.label} {GLYPHS.bad}", colours.BAD
    if amount is not None:
        return amount.label, f"bold {colours.GOOD}"
    if change.pending:
        return "goes along", colours.WARNING
    if change.reads_less:
        return "reads less", colours.WARNING
    if change.gone:
        return "dropped", colours.GOOD
    if change.stepped:
        return f"cut {GLYPHS.minus}{_lost(change)}%", colours.GOOD
    return layer.status, colours.STATUS_COLOURS[layer.status]


def _block_status(row: Row, board: Board) -> Cell:
    if not row.layers:
        return "", ""
    asked = sum(board.asked.of(layer.name) is not None for layer in row.layers)
    if any(board.in_conflict(layer.name) for layer in row.layers):
        return f"conflict {GLYPHS.bad}", colours.BAD
    if asked:
        return f"{asked} to cut", f"bold {colours.GOOD}"
    changes = [board.change(layer) for layer in row.layers]
    if any(change.pending for change in changes):
        return "goes along", colours.WARNING
    if any(change.reads_less for change in changes):
        return "reads less", colours.WARNING
    if cut := sum(change.stepped for change in changes):
        return f"{cut} cut", colours.GOOD
    locked = sum(layer.status == "locked" for layer in row.layers)
    return (f"{locked} locked", colours.MUTED) if locked else ("", "")


def _lost(change: Change) -> int:
    return round(100 * (1 - change.outputs[1] / change.outputs[0]))


def outputs(row: Row, board: Board) -> tuple[int, int]:
    """A row's output channels in the checkpoint, and with the steps and what is asked for."""
    if row.layer is not None:
        change = board.change(row.layer)
        return change.outputs[0], change.outputs[2]
    after = next((block.after for block in board.shapes if block.name == row.key), None)
    return row.outputs, (after[0] if after and after[0] != row.output_shape[0] else row.outputs)


def _is_marked(row: Row, board: Board) -> bool:
    names = [layer.name for layer in row.layers] if row.layer else row.prunable
    return bool(names) and all(name in board.marks for name in names)


def _all_locked(row: Row) -> bool:
    return all(layer.status == "locked" for layer in row.layers)


def _change_style(row: Row, look: Look) -> str:
    if any(look.board.in_conflict(layer.name) for layer in row.layers):
        return colours.BAD
    if any(look.board.asked.of(layer.name) for layer in row.layers):
        return f"bold {colours.GOOD}"
    changes = [look.board.change(layer) for layer in row.layers]
    if any(change.pending or change.reads_less for change in changes):
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
