"""The start screen: type a path, or choose a session, a checkpoint, a folder to look in, or the demo."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import ClassVar

from rich.text import Text
from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.screen import Screen
from textual.widgets import Input, Static

from tui_pruner.domain.formatting import ago
from tui_pruner.storage import paths
from tui_pruner.tui import colours
from tui_pruner.tui.drawing import fit, fit_middle
from tui_pruner.tui.messages import ModelChosen, SessionChosen
from tui_pruner.tui.opening import Recent, Unfinished, checkpoints_below, recent_checkpoints, unfinished_sessions
from tui_pruner.tui.screens.entry_list import ChooserInput, Entries, Entry
from tui_pruner.tui.screens.file_picker import FilePicker, file_line, heading, recent_line

BROWSE, DEMO, SESSION, FILE = "browse", "demo", "session:", "file:"
MOST = 3
"""Sessions in the list."""


def start_entries(folder: Path) -> list[Entry]:
    """Everything to choose from, each part under its heading, the empty ones left out."""
    recent = recent_checkpoints()
    known = {entry.path for entry in recent}
    near = [path for path in checkpoints_below(folder) if (folder / path).resolve() not in known]
    return [
        *_part("Resume", [_unfinished(entry) for entry in unfinished_sessions()[:MOST]]),
        *_part("Recent", [_recent(entry) for entry in recent]),
        *_part("This folder", [_near(path, folder / path) for path in near]),
        *_part("More", [Entry(_words("browse the folders", "ctrl+o"), BROWSE), *_demo()]),
    ]


def _part(title: str, entries: Sequence[Entry]) -> list[Entry]:
    return [Entry(lambda width: heading(title)), *entries] if entries else []


def _unfinished(entry: Unfinished) -> Entry:
    return Entry(_words(entry.title, ago(entry.left)), f"{SESSION}{entry.id}")


def _recent(entry: Recent) -> Entry:
    key = "" if entry.problem else f"{FILE}{entry.path}"
    return Entry(partial(recent_line, entry.path, entry.opened, entry.problem), key)


def _near(name: Path, path: Path) -> Entry:
    return Entry(partial(file_line, str(name), path), f"{FILE}{name}")


def _demo() -> list[Entry]:
    if not (paths.demo_folder() / "digits.pt").is_file():
        return []
    return [Entry(_words("demo: handwritten digits", "YOLOv8n, ten classes"), DEMO)]


def _words(left: str, right: str) -> Callable[[int], Text]:
    def draw(width: int) -> Text:
        space = max(width - len(right) - 4, 8)
        return Text.assemble(" ", (fit(fit_middle(left, space), space), colours.TEXT), "  ", (right, colours.MUTED))

    return draw


class StartScreen(Screen[None]):
    """Asks which checkpoint to prune; enter opens the typed path or the entry under the cursor, whichever changed last."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,ctrl+q", "app.quit", "Quit", show=False),
        Binding("ctrl+o", "browse", "Browse", show=False, priority=True),
    ]

    def __init__(self, path: str = "", problem: str = "") -> None:
        super().__init__()
        self._path = path
        self._problem = problem
        self._by_list = not path

    def compose(self) -> ComposeResult:
        """Compose the path, and the list of what can be opened."""
        with Vertical(id="start", classes="dialog wide") as box:
            box.border_title = "tui-pruner"
            box.border_subtitle = "up down enter   ctrl+o browse   escape quit"
            yield Static("Which checkpoint is to be pruned?", classes="question")
            yield ChooserInput(self._path, "path/to/best.pt, or yolov8n.yaml")
            yield Static(self._problem, id="problem", markup=False)
            yield Entries("choices")

    def on_mount(self) -> None:
        """Look for what can be opened, while the path can be typed already."""
        self.run_worker(self._look())

    async def _look(self) -> None:
        found = await asyncio.to_thread(start_entries, Path())
        for entries in self.query(Entries):  # none where the screen was left meanwhile
            entries.show(found)

    @on(Input.Changed)
    def typing(self, event: Input.Changed) -> None:
        """Use the typed text while there is any; a message about another text is over."""
        event.stop()
        self._by_list = not event.value.strip()
        if self._problem and event.value != self._path:
            self._say("")

    @on(Input.Submitted)
    def typed(self, event: Input.Submitted) -> None:
        """Open the typed path, or the entry under the cursor."""
        event.stop()
        text = event.value.strip()
        if self._by_list or not text:
            self._open(self.query_one(Entries).key)
            return
        path = Path(text).expanduser()
        if path.is_dir():
            self._browse(path.resolve())
        elif path.suffix != ".yaml" and not path.is_file():
            self._say(f"{path} does not exist")
        else:
            self.post_message(ModelChosen(str(path)))

    @on(Entries.Taken)
    def chosen(self, event: Entries.Taken) -> None:
        """Open the clicked entry."""
        event.stop()
        self._open(event.key)

    def action_move(self, lines: int) -> None:
        """Move the cursor in the list."""
        self._by_list = True
        self.query_one(Entries).move(lines)

    def action_page(self, direction: int) -> None:
        """Move the cursor by a page."""
        self._by_list = True
        self.query_one(Entries).page(direction)

    def action_browse(self) -> None:
        """Open the file picker."""
        self._browse(Path.cwd())

    def _browse(self, folder: Path) -> None:
        self.app.push_screen(FilePicker(folder), lambda path: self._open(f"{FILE}{path}" if path else ""))

    def _open(self, key: str) -> None:
        if key == BROWSE:
            self.action_browse()
        elif key == DEMO:
            folder = paths.demo_folder()
            self.post_message(ModelChosen(str(folder / "digits.pt"), str(folder / "digits.yaml")))
        elif key.startswith(SESSION):
            self._resume(key.removeprefix(SESSION))
        elif key.startswith(FILE):
            self.post_message(ModelChosen(key.removeprefix(FILE)))

    def _resume(self, id: str) -> None:
        """Resume a session as it is now: another window may have gone on with it, or have it, since the list was read."""
        found = next((session for session in unfinished_sessions() if session.id == id), None)
        if found is None:
            self._say("this session is open in another window, or gone")
        else:
            self.post_message(SessionChosen(found.opening))

    def _say(self, problem: str) -> None:
        self._problem, self._path = problem, self.query_one(ChooserInput).value
        self.query_one("#problem", Static).update(problem)
