"""A file picker that knows what can be opened: folders, .pt and .yaml."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import ClassVar

from rich.markup import escape
from rich.text import Text
from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.screen import ModalScreen
from textual.widgets import Input

from tui_pruner.domain.formatting import plural
from tui_pruner.tui.panes.widgets import Lines
from tui_pruner.tui.screens.entry_list import ChooserInput, Entries, Entry
from tui_pruner.tui.screens.files import PARENT, FolderEntry, entries_in, kind_of, matching, place_line
from tui_pruner.tui.theme import colours
from tui_pruner.tui.theme.drawing import fit_middle


class FilePicker(ModalScreen[str]):
    """Walks through folders until a file is taken; escape gives the empty text."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "leave", "Back", show=False)]

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self._folder = folder
        self._places: list[FolderEntry] = []
        self._shown: dict[str, FolderEntry] = {}
        self._problem = ""

    def compose(self) -> ComposeResult:
        """The filter, the folder's places, and a line about the one under the cursor."""
        with Vertical(classes="dialog wide picker") as box:
            box.border_subtitle = "type filters  enter opens  backspace up  escape"
            yield ChooserInput("", "filter, or a path", upward=True)
            yield Entries("places")
            yield Lines(id="about", expected=70)

    def on_mount(self) -> None:
        """Show the current folder."""
        self._enter(self._folder)

    @on(Input.Changed)
    def typed(self, event: Input.Changed) -> None:
        """Filter; a path to a folder goes there."""
        event.stop()
        if event.value != self._input.value:
            return
        path = self._folder / Path(event.value).expanduser() if event.value.endswith("/") else None
        if path is not None and path.is_dir():
            self._enter(path.resolve())
        else:
            self._show()

    @on(Input.Submitted)
    def submitted(self, event: Input.Submitted) -> None:
        """Open what the cursor is on, or the path that is typed."""
        event.stop()
        typed = self._folder / Path(event.value.strip()).expanduser()
        if "/" in event.value and typed.is_file():
            self.dismiss(str(typed))
        else:
            self._show()  # what was typed in the same instant counts
            self._open(self._entries.key)

    @on(Entries.Taken)
    def taken(self, event: Entries.Taken) -> None:
        """Open what was clicked."""
        event.stop()
        self._open(event.key)

    @on(Entries.Moved)
    def moved(self, event: Entries.Moved) -> None:
        """Say what is under the cursor."""
        event.stop()
        self._tell()

    def action_move(self, lines: int) -> None:
        """Move the cursor."""
        self._entries.move(lines)

    def action_page(self, direction: int) -> None:
        """Move the cursor by a page."""
        self._entries.page(direction)

    def action_up(self) -> None:
        """Go to the folder above, the cursor on the one that was left."""
        if self._folder.parent != self._folder:
            self._enter(self._folder.parent, came_from=self._folder.name)

    def action_leave(self) -> None:
        """Take no file."""
        self.dismiss("")

    @property
    def _entries(self) -> Entries:
        return self.query_one(Entries)

    @property
    def _input(self) -> ChooserInput:
        return self.query_one(ChooserInput)

    def _open(self, key: str) -> None:
        place = self._shown.get(key)
        if place is None:
            return
        if place.name == PARENT:
            self.action_up()
        elif place.is_folder:
            self._enter(place.path)
        else:
            self.dismiss(str(place.path))

    def _enter(self, folder: Path, came_from: str = "") -> None:
        try:
            self._places = entries_in(folder)
        except OSError as error:
            self._problem = f"{folder.name or folder} cannot be opened: {(error.strerror or str(error)).lower()}"
            self._tell()
            return
        self._folder, self._problem = folder, ""
        self._input.value = ""
        self._show(came_from)

    def _show(self, at: str = "") -> None:
        shown = matching(self._places, self._input.value)
        self._shown = {place.name: place for place in shown}
        files = [place.name for place in shown if place.name != PARENT]
        box = self.query_one(".picker", Vertical)
        box.border_title = escape(fit_middle(str(self._folder), max(box.size.width - 8, 20)))
        self._entries.show([Entry(partial(place_line, place), place.name) for place in shown], at or (files[0] if files else ""))
        self._tell()

    def _tell(self) -> None:
        line = self._about(self._shown.get(self._entries.key))
        self.query_one("#about", Lines).draw(lambda width, _: [line])

    def _about(self, place: FolderEntry | None) -> Text:
        if self._problem:
            return Text(self._problem, colours.BAD)
        if place is not None and not place.is_folder:
            return Text(kind_of(place.path), colours.MUTED)
        if self._input.value and not any(name != PARENT for name in self._shown):
            return Text("nothing here has that in its name", colours.WARNING)
        files = sum(not place.is_folder for place in self._places)
        return Text(f"{plural(files, 'model')} here" if files else "no models here", colours.MUTED)
