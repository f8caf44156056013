"""The hint of the first run: what to press first, once for each user."""

from __future__ import annotations

import contextlib
from pathlib import Path

from rich.text import Text

from tui_pruner import places
from tui_pruner.tui import colours
from tui_pruner.tui.actions import key_of
from tui_pruner.tui.glyphs import GLYPHS
from tui_pruner.tui.widgets.lines import Lines
from tui_pruner.whole_file import replace_file

WIDTH = 51


def is_now() -> bool:
    """Whether the user has never dismissed the hint."""
    return not _file().exists()


def is_over() -> None:
    """Never show it again; where that cannot be remembered, it comes again."""
    with contextlib.suppress(OSError):
        replace_file(_file(), b"")


def hint() -> Lines:
    """The hint as a widget."""
    lines = Lines(id="hint", expected=WIDTH)
    lines.border_title = "The first keys"
    lines.border_subtitle = "any key closes this"
    lines.draw(lambda width, _: hint_lines())
    return lines


def hint_lines() -> list[Text]:
    """Three lines: the keys, and what they are for."""
    words = (
        ("up down enter", f"look around; {key_of('explain')} explains a layer"),
        (f"{GLYPHS.horizontal} then {key_of('apply')}", "how much goes, then cut and prove it"),
        (f"{key_of('undo')}, {key_of('write')}, {key_of('help')}", "undo, write the file, all other keys"),
    )
    room = max(len(keys) for keys, _ in words)
    return [Text.assemble((keys.ljust(room), f"bold {colours.WARNING}"), f"  {meaning}") for keys, meaning in words]


def _file() -> Path:
    return places.state_folder() / "first-run-is-over"
