"""The start screen's list: sessions to go on with, checkpoints opened lately, checkpoints near, the picker, and the demo."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from rich.text import Text

from tui_pruner import places
from tui_pruner.tui import colours
from tui_pruner.tui.drawing import fit, fit_middle
from tui_pruner.tui.figures import ago
from tui_pruner.tui.places_text import file_line, heading, recent_line
from tui_pruner.tui.recent import Recent, checkpoints_near, recent_checkpoints
from tui_pruner.tui.unfinished import Unfinished, unfinished_sessions
from tui_pruner.tui.widgets.entries import Entry

BROWSE, DEMO, SESSION, FILE = "browse", "demo", "session:", "file:"


def start_entries(folder: Path) -> list[Entry]:
    """Everything to choose from, each part under its heading, the empty ones left out."""
    recent = recent_checkpoints()
    known = {entry.path for entry in recent}
    near = [path for path in checkpoints_near(folder) if (folder / path).resolve() not in known]
    return [
        *_part("Go on with", [_unfinished(entry, number) for number, entry in enumerate(unfinished_sessions())]),
        *_part("Opened lately", [_recent(entry) for entry in recent]),
        *_part("Near", [_near(path, folder / path) for path in near]),
        *_part("Elsewhere", [Entry(_words("browse the folders", "ctrl+o"), BROWSE), *_demo()]),
    ]


def _part(title: str, entries: Sequence[Entry]) -> list[Entry]:
    return [Entry(lambda width: heading(title)), *entries] if entries else []


def _unfinished(entry: Unfinished, number: int) -> Entry:
    return Entry(_words(entry.title, ago(entry.left)), f"{SESSION}{number}")


def _recent(entry: Recent) -> Entry:
    key = "" if entry.problem else f"{FILE}{entry.path}"
    return Entry(partial(recent_line, entry.path, entry.opened, entry.problem), key)


def _near(name: Path, path: Path) -> Entry:
    return Entry(partial(file_line, str(name), path), f"{FILE}{name}")


def _demo() -> list[Entry]:
    if not (places.demo_folder() / "digits.pt").is_file():
        return []
    return [Entry(_words("demo: handwritten digits", "YOLOv8n, ten classes"), DEMO)]


def _words(left: str, right: str) -> Callable[[int], Text]:
    def draw(width: int) -> Text:
        room = max(width - len(right) - 4, 8)
        return Text.assemble(" ", (fit(fit_middle(left, room), room), colours.TEXT), "  ", (right, colours.MUTED))

    return draw
