"""Asks for a path: where to write, or which data to validate on."""

from __future__ import annotations

from typing import ClassVar

from rich.cells import cell_len
from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.geometry import Region
from textual.screen import ModalScreen
from textual.widgets import Input, Static

from tui_pruner.printable import legible


class PathPrompt(ModalScreen[str | None]):
    """One path, or another short text; enter takes it, an empty one only where that means something, and escape gives None."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "leave", "Cancel", show=False)]

    def __init__(self, title: str, text: str, path: str, hint: str = "", may_be_empty: bool = False) -> None:
        super().__init__()
        self._title = title
        self._text = text
        self._path = path
        self._hint = hint
        self._may_be_empty = may_be_empty

    def compose(self) -> ComposeResult:
        """The prompt in a box."""
        with Vertical(classes="dialog wide") as box:
            box.border_title = self._title
            box.border_subtitle = "enter takes it    escape cancels"
            yield Static(legible(self._text), markup=False, id="what")
            field = Input(self._path, placeholder=self._hint, select_on_focus=False)
            field.cursor_blink = False
            yield field

    def on_mount(self) -> None:
        """Show the end of a long path, the file's name, once there is a layout to scroll in."""
        self.call_after_refresh(self._scroll_to_cursor)

    def tell(self, text: str) -> None:
        """Say something else above the line."""
        self.query_one("#what", Static).update(legible(text))

    def _scroll_to_cursor(self) -> None:
        field = self.query_one(Input)
        before = cell_len(field.value[: field.cursor_position])
        field.scroll_to_region(Region(before, 0, 1, 1), force=True, animate=False)

    @on(Input.Submitted)
    def submitted(self, event: Input.Submitted) -> None:
        """Take the path."""
        event.stop()
        self.take(event.value.strip())

    def take(self, text: str) -> None:
        """Give what was typed."""
        if text or self._may_be_empty:
            self.dismiss(text)

    def action_leave(self) -> None:
        """Give no path."""
        self.dismiss(None)
