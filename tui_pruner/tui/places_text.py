"""Files and folders as lines: name, size, date, or how long ago a file was opened."""

from __future__ import annotations

import os
from pathlib import Path

from rich.text import Text

from tui_pruner.tui import colours
from tui_pruner.tui.drawing import fit, fit_middle
from tui_pruner.tui.figures import ago, file_size
from tui_pruner.tui.folders import PARENT, Place, day

SIZE, DAY = 9, 16
ROOM_FOR_DAY, ROOM_FOR_SIZE = 50, 30


def place_line(place: Place, width: int) -> Text:
    """One line of a folder's listing; a folder has a slash and no size."""
    if place.is_folder:
        title = f"{PARENT}  the folder above" if place.name == PARENT else f"{place.name}{os.sep}"
        return Text.assemble(" ", (fit_middle(title, width - 2), colours.BLUE))
    return file_line(place.name, place.path, width)


def file_line(name: str, path: Path, width: int) -> Text:
    """A file with its size and date, as far as there is room."""
    try:
        facts = path.stat()
        size, changed = file_size(facts.st_size), day(facts.st_mtime)
    except OSError as error:
        size, changed = "", (error.strerror or "").lower()
    columns = [(fit(size, SIZE, right=True), ROOM_FOR_SIZE), (fit(changed, DAY), ROOM_FOR_DAY)]
    return _with_columns(name, [text for text, room in columns if width >= room], width)


def recent_line(path: Path, opened: float, problem: str, width: int) -> Text:
    """A checkpoint that was opened: its name first, where it is, and when that was; greyed with the reason where it cannot be opened."""
    tail = problem or ago(opened)
    room = max(width - len(tail) - 4, 8)
    name = fit_middle(path.name, room)
    folder = fit_middle(_short(path.parent), room - len(name) - 2) if room - len(name) > 6 else ""
    gap = " " * max(room - len(name) - len(folder) - 2, 0)
    style = colours.FAINT if problem else colours.TEXT
    return Text.assemble(" ", (name, style), "  ", (folder, colours.FAINT if problem else colours.MUTED), gap, " ", (tail, colours.MUTED))


def heading(title: str) -> Text:
    """The title of a part of a list."""
    return Text(title, colours.HEADING)


def _short(folder: Path) -> str:
    home = Path.home()
    return f"~{os.sep}{folder.relative_to(home)}" if folder.is_relative_to(home) else str(folder)


def _with_columns(name: str, columns: list[str], width: int) -> Text:
    room = width - 2 - sum(len(column) + 2 for column in columns)
    return Text.assemble(" ", (fit(fit_middle(name, room), room), colours.TEXT), *(("  " + column, colours.MUTED) for column in columns))
