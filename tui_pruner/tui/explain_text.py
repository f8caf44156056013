"""An explanation as lines of text: the sentence, the path station by station, and what else a cut touches."""

from __future__ import annotations

from collections.abc import Sequence

from rich.style import Style
from rich.text import Text

from tui_pruner.tui import colours
from tui_pruner.tui.actions import key_of
from tui_pruner.tui.drawing import fit, wrapped
from tui_pruner.tui.figures import plural
from tui_pruner.tui.footer_text import CLICK
from tui_pruner.tui.glyphs import GLYPHS
from tui_pruner.tui.inquiry import Inquiry, short

Cells = tuple[str, str, str]
GAP = "  "
INDENT = 4
ON_ANOTHER = "on another layer or block: the path to it"


def explain_title(inquiry: Inquiry) -> str:
    """The two ends."""
    ends = [short(name) for name in (inquiry.found.first, inquiry.found.second) if name]
    return f"Explain {f' {GLYPHS.arrow} '.join(ends)}"


def explain_lines(inquiry: Inquiry, width: int) -> tuple[list[Text], int]:
    """All lines of at most `width` cells, and the number of the chosen stop's line; 0 where none is chosen."""
    found = inquiry.found
    path: list[Cells] = [(short(station.at), station.operation, station.detail) for station in found.path]
    touches: list[Cells] = [(short(touched.layer), f"{touched.role} {touched.channels}", touched.because) for touched in found.touches]
    lines = [*_sentence(inquiry, width), Text()]
    if path:
        lines.append(_heading("Path", plural(len(path), "station")))
        chosen = len(lines) + _line_of(path, inquiry.chosen, width)
        lines += [*_table(path, inquiry.chosen, 0, width), Text()]
    if touches:
        lines.append(_heading(f"A cut of {short(found.first)} touches", plural(len({cells[0] for cells in touches}), "layer")))
        below = len(lines)
        lines += [*_table(touches, inquiry.chosen, len(path), width), Text()]
    number = inquiry.chosen
    line = 0 if number is None else chosen if number < len(path) else below + _line_of(touches, number - len(path), width)
    return [*lines, *(_hint(key, does, width) for key, does in _hints(with_path=bool(found.second)))], line


def _hints(with_path: bool) -> list[tuple[str, str]]:
    other_end = [] if with_path else [(key_of("explain"), ON_ANOTHER)]
    return [
        *other_end,
        (f"{key_of('station-1')} {key_of('station-minus-1')}", "from stop to stop: the tree follows"),
        ("enter", "to the chosen one"),
        (key_of("back"), "back to where you were"),
        (key_of("path-to"), "type another end"),
    ]


def stop_line(inquiry: Inquiry, width: int) -> Text:
    """The chosen stop in one line, for a screen that shows only the tree; the sentence where none is chosen."""
    found, number = inquiry.found, inquiry.chosen
    if number is None:
        return Text(fit(found.summary, width).rstrip(), colours.HEADING)
    if number < len(found.path):
        station = found.path[number]
        said = f"{short(station.at)} {station.operation} {station.detail}"
    else:
        touched = found.touches[number - len(found.path)]
        said = f"{short(touched.layer)} {touched.role} {touched.channels}: {touched.because}"
    return Text(fit(f"{number + 1}/{len(inquiry.stops)} {said}", width).rstrip(), colours.HEADING)


def _sentence(inquiry: Inquiry, width: int) -> list[Text]:
    lost = inquiry.found.second and not inquiry.found.path
    return wrapped(inquiry.found.summary, width, colours.WARNING if lost else colours.STRONG)


def _heading(title: str, counted: str) -> Text:
    return Text.assemble((title, colours.HEADING), (f"{GAP}{counted}", colours.MUTED))


def _hint(key: str, does: str, width: int) -> Text:
    return Text.assemble((fit(key, 8), f"bold {colours.WARNING}"), (fit(does, width - 8).rstrip(), colours.MUTED))


def _table(rows: Sequence[Cells], chosen: int | None, first: int, width: int) -> list[Text]:
    lines = []
    for number, row in enumerate(rows, start=first):
        for line in _row(row, _widths(rows, width), width, number == chosen):
            line.stylize(Style(meta={CLICK: f"visit({number})"}))
            lines.append(line)
    return lines


def _widths(rows: Sequence[Cells], width: int) -> tuple[int, int]:
    names = min(max(len(row[0]) for row in rows), width // 3)
    return names, min(max(len(row[1]) for row in rows), width - names - 2 * len(GAP) - 2)


def _row(row: Cells, widths: tuple[int, int], width: int, chosen: bool) -> list[Text]:
    name, what, detail = row
    sign = f"{GLYPHS.pending} " if chosen else "  "
    first = Text.assemble((sign, colours.WARNING), fit(name, widths[0]), GAP, (fit(what, widths[1]), colours.BLUE))
    lines = [first]
    if first.cell_len + len(GAP) + len(detail) <= width:
        first.append(GAP + detail, colours.MUTED)
    else:
        lines += [Text.assemble(" " * INDENT, more) for more in wrapped(detail, width - INDENT, colours.MUTED)]
    if chosen:
        for line in lines:
            line.append(" " * (width - line.cell_len))
            line.stylize(f"bold on {colours.SELECTION}")
    return lines


def _line_of(rows: Sequence[Cells], number: int | None, width: int) -> int:
    before = rows[: number or 0]
    return sum(len(_row(row, _widths(rows, width), width, False)) for row in before)
