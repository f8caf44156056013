"""The header as text: what the model is, and its figures before and after."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from rich.text import Text

from tui_pruner.tui import colours
from tui_pruner.tui.board import Board
from tui_pruner.tui.drawing import fit_middle
from tui_pruner.tui.figures import change, count, giga, score
from tui_pruner.tui.glyphs import GLYPHS

if TYPE_CHECKING:
    from tui_pruner.engine.protocol import ModelInfo
    from tui_pruner.tui.metrics import Scores

GAP = "   "
ONE_LINE = 100


def header_lines(board: Board, scores: Scores, width: int) -> list[Text]:
    """One line where everything fits, two where it does not or could soon not, so that the panes do not jump."""
    figures = _figures(board, scores)
    room = width - figures.cell_len - len(GAP) - 2
    full = _identity(board.opened.model, 200)
    if width >= ONE_LINE and full.cell_len <= room:
        space = " " * (width - 2 - full.cell_len - figures.cell_len)
        return [Text.assemble(" ", full, space, figures, " ")]
    return [Text.assemble(" ", _identity(board.opened.model, width - 2)), Text.assemble(" ", figures)]


def waiting_line(name: str, what: str, width: int) -> Text:
    """The header before the model is there."""
    return Text.assemble(" ", (fit_middle(name, max(width - len(what) - 6, 8)), colours.STRONG), GAP, (what, colours.WARNING))


def _identity(model: ModelInfo, width: int) -> Text:
    dot = f" {GLYPHS.dot} "
    what = f"{model.family} {model.task}{dot}{model.classes} classes{dot}{model.imgsz}"
    name = fit_middle(Path(model.path).name, max(width - len(what) - 2, 8))
    return Text.assemble((name, colours.STRONG), "  ", (what, colours.MUTED))


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
        (f" {GLYPHS.arrow} ", colours.MUTED),
        (after, f"bold {colours.GOOD}"),
        (f" {moved}", colours.GOOD),
    )


def _metric(name: str, baseline: float, now: float | None) -> Text:
    if now is None:
        return Text.assemble((f"{name} ", colours.MUTED), (score(baseline), colours.STRONG))
    style = f"bold {colours.GOOD if now >= baseline - 0.005 else colours.WARNING}"
    return Text.assemble((f"{name} ", colours.MUTED), score(baseline), (f" {GLYPHS.arrow} ", colours.MUTED), (score(now), style))
