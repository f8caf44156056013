"""The recipe of a compression: its stages in their order, and what can be changed of each."""

from __future__ import annotations

from typing import Any, ClassVar

from rich.cells import cell_len
from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, VerticalScroll
from textual.geometry import Region
from textual.screen import ModalScreen
from textual.widgets import Input, Static

from tui_pruner.tui.compressions import RECIPE, Item, understood


class Recipe(ModalScreen[dict[str, Any] | None]):
    """A line for each stage; enter starts, tab goes to the next field, and escape gives None."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "leave", "Cancel", show=False),
        Binding("up", "app.focus_previous", "Field above", show=False),
        Binding("down", "app.focus_next", "Field below", show=False),
    ]

    def __init__(self, text: str, folder: str) -> None:
        super().__init__()
        self._text = text
        self._items = (*RECIPE, Item("", "folder", "folder", folder))

    def compose(self) -> ComposeResult:
        """The stages in a box."""
        with VerticalScroll(classes="dialog wide recipe", can_focus=False) as box:
            box.border_title = "Compress"
            box.border_subtitle = "enter starts    tab next field    escape cancels"
            yield Static(self._text, markup=False, id="what")
            for item in self._items:
                with Horizontal(classes="item"):
                    yield Static(item.stage, markup=False, classes="stage")
                    yield Static(item.label, markup=False, classes="label")
                    field = Input(item.value, placeholder=item.hint, id=item.field, compact=True, select_on_focus=False)
                    field.cursor_blink = False
                    yield field

    def on_mount(self) -> None:
        """Show the end of each text that is longer than its field, once there is a layout to scroll in."""
        self.call_after_refresh(self._scroll_to_ends)

    def _scroll_to_ends(self) -> None:
        for field in self.query(Input):
            field.scroll_to_region(Region(cell_len(field.value), 0, 1, 1), force=True, animate=False)

    @on(Input.Submitted)
    def submitted(self, event: Input.Submitted) -> None:
        """Give what the fields say, or say what is wrong with one."""
        event.stop()
        try:
            found = understood({item.field: self.query_one(f"#{item.field}", Input).value for item in self._items})
        except ValueError as error:
            self.query_one("#what", Static).update(str(error))
            return
        self.dismiss(found)

    def action_leave(self) -> None:
        """Give nothing."""
        self.dismiss(None)
