"""The start screen: type a path, or choose a session, a checkpoint, a folder to look in, or the demo."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.screen import Screen
from textual.widgets import Input, Static

from tui_pruner import places
from tui_pruner.tui.messages import ModelChosen
from tui_pruner.tui.screens.file_picker import FilePicker
from tui_pruner.tui.start_text import BROWSE, DEMO, FILE, SESSION, start_entries
from tui_pruner.tui.unfinished import SessionChosen, unfinished_sessions
from tui_pruner.tui.widgets.chooser_input import ChooserInput
from tui_pruner.tui.widgets.entries import Entries


class StartScreen(Screen[None]):
    """Asks which checkpoint to prune; enter takes what was typed or moved to last."""

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
        """The path, and a list of what there is to open."""
        with Vertical(id="start", classes="dialog wide") as box:
            box.border_title = "tui-pruner"
            box.border_subtitle = "up down enter   ctrl+o browse   escape quit"
            yield Static("Which checkpoint is to be pruned?", classes="question")
            yield ChooserInput(self._path, "path/to/best.pt, or yolov8n.yaml")
            yield Static(self._problem, id="problem", markup=False)
            yield Entries("choices")

    def on_mount(self) -> None:
        """Look for what there is to open, once the frame is painted."""
        self.call_after_refresh(lambda: self.query_one(Entries).show(start_entries(Path())))

    @on(Input.Changed)
    def typing(self, event: Input.Changed) -> None:
        """What is typed counts, as long as there is any."""
        event.stop()
        self._by_list = not event.value.strip()

    @on(Input.Submitted)
    def typed(self, event: Input.Submitted) -> None:
        """Open the typed path, or what the cursor is on."""
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
        """Open what was clicked."""
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
        """Look for a checkpoint in the folders."""
        self._browse(Path.cwd())

    def _browse(self, folder: Path) -> None:
        self.app.push_screen(FilePicker(folder), lambda path: self._open(f"{FILE}{path}" if path else ""))

    def _open(self, key: str) -> None:
        if key == BROWSE:
            self.action_browse()
        elif key == DEMO:
            folder = places.demo_folder()
            self.post_message(ModelChosen(str(folder / "digits.pt"), str(folder / "digits.yaml")))
        elif key.startswith(SESSION):
            self.post_message(SessionChosen(unfinished_sessions()[int(key.removeprefix(SESSION))].opening))
        elif key.startswith(FILE):
            self.post_message(ModelChosen(key.removeprefix(FILE)))

    def _say(self, problem: str) -> None:
        self.query_one("#problem", Static).update(problem)
