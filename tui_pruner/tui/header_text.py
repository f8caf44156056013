"""The header as text: what the model is, and its figures before and after."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from rich.cells import cell_len
from rich.text import Text

from tui_pruner.tui import colours
from tui_pruner.tui.board import Board
from tui_pruner.tui.drawing import fit_middle
from tui_pruner.tui.figures import change, count, giga, score
from tui_pruner.tui.glyphs import GLYPHS

if TYPE_CHECKING:
    from tui_pruner.engine.protocol import ModelInfo
    from tui_pruner.tui.scores import Scores

GAP = "   "
ONE_LINE = 100
SHORTEST_NAME = 12


def header_lines(board: Board, scores: Scores, width: int) -> list[Text]:
    """One line on a wide screen, the least needed facts left out, and two on a narrow one: never a jump between them."""
    figures, model = _figures(board, scores), board.opened.model
    room = width - figures.cell_len - len(GAP) - 2
    if width < ONE_LINE or room < SHORTEST_NAME:
        return [Text.assemble(" ", _identity(model, width - 2)), Text.assemble(" ", figures)]
    identity = _identity(model, room)
    space = " " * (width - 2 - identity.cell_len - figures.cell_len)
    return [Text.assemble(" ", identity, space, figures, " ")]


def waiting_line(name: str, what: str, width: int) -> Text:
    """The header before the model is there."""
    return Text.assemble(" ", (fit_middle(name, max(width - len(what) - 6, 8)), colours.STRONG), GAP, (what, colours.WARNING))


def _identity(model: ModelInfo, width: int) -> Text:
    dot = f" {GLYPHS.dot} "
    facts = [f"{model.family} {model.task}", f"{model.classes} classes", str(model.imgsz)]
    name = Path(model.path).name
    while facts and cell_len(name + "  " + dot.join(facts)) > width:
        facts.pop()
    return Text.assemble((fit_middle(name, width), colours.STRONG), "  " if facts else "", (dot.join(facts), colours.MUTED))


def _figures(board: Board, scores: Scores) -> Text:
    before, after = board.session.original, board.after
    text = Text.assemble(
        _pair("params", count(before.parameters), count(after.parameters), change(before.parameters, after.parameters)),
        GAP,
        _pair("GFLOPs", giga(before.flops), giga(after.flops), change(before.flops, after.flops)),
    )
    if scores.baseline is not None:
        now = scores.latest
        text.append(GAP)
        text.append_text(_metric(scores.name, scores.baseline, now))
    return text


def _pair(name: str, before: str, after: str, moved: str) -> Text:
    if not moved:
        return Text.assemble((f"{name} ", colours.MUTED), (after, colours.STRONG))
    return Text.assemble(
        (f"{name} ", colours.MUTED),
        before,
        (GLYPHS.arrow, colours.MUTED),
        (after, f"bold {colours.GOOD}"),
        (f" {moved}", colours.GOOD),
    )


def _metric(name: str, baseline: float, now: float | None) -> Text:
    if now is None:
        return Text.assemble((f"{name} ", colours.MUTED), (score(baseline), colours.STRONG))
    style = f"bold {colours.GOOD if now >= baseline - 0.005 else colours.WARNING}"
    return Text.assemble((f"{name} ", colours.MUTED), score(baseline), (GLYPHS.arrow, colours.MUTED), (score(now), style))
