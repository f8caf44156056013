"""What the cards of the map show: channels before and after, what is asked or cut, where the cursor and the explained path are."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from tui_pruner.tui import colours
from tui_pruner.tui.board import Board
from tui_pruner.tui.figures import arrow
from tui_pruner.tui.glyphs import GLYPHS
from tui_pruner.tui.map_text import Face
from tui_pruner.tui.outline import Row
from tui_pruner.tui.tree_text import outputs, state


def faces(rows: Sequence[Row], board: Board, lit: Collection[int], here: str) -> dict[int, Face]:
    """The face of every block by its number; `here` is the key of the block under the cursor."""
    indices = {block.name: block.index for block in board.opened.blocks}
    return {indices[row.key]: face(row, board, indices[row.key] in lit, row.key == here) for row in rows if row.kind == "block"}


def face(row: Row, board: Board, lit: bool, here: bool) -> Face:
    """One block: what changes at its output, else what changes inside it, else its channels."""
    before, after = outputs(row, board)
    words, style = state(row, board)
    tint = tint_of(row, board)
    changed = tint != colours.BAND
    line = arrow(before, after) if before != after else words if changed else str(before)
    text = style if changed else colours.MUTED if not row.layers else colours.TEXT
    sign = f"{GLYPHS.lit} " if lit else f"{GLYPHS.pending} " if here else ""
    return Face(f"{sign}{line}", f"{colours.WARNING if lit else text} on {colours.SELECTION if here else tint}".removeprefix("bold "))


def tint_of(row: Row, board: Board) -> str:
    """The card's ground: in conflict, about to change, cut by a step, or as it was."""
    changes = [board.change(layer) for layer in row.layers]
    now = next((block.after for block in board.session.blocks if block.name == row.key), [])
    after = next((block.after for block in board.shapes if block.name == row.key), [])
    if any(board.in_conflict(layer.name) for layer in row.layers):
        return colours.CONFLICT_TINT
    asked = any(board.asked.of(layer.name) for layer in row.layers)
    if asked or now != after or any(change.pending or change.reads_less for change in changes):
        return colours.PENDING_TINT
    cut = list(now[:1]) != list(row.output_shape[:1]) or any(change.stepped for change in changes)
    return colours.CUT_TINT if cut else colours.BAND
