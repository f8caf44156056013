"""An input above a list: letters are typed, the other keys move in the list."""

from __future__ import annotations

from typing import ClassVar

from textual.binding import Binding, BindingType
from textual.widgets import Input


class ChooserInput(Input):
    """Up, down and the page keys move the list's cursor while one types; with `upward`, backspace in an empty input is `screen.up`."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up", "screen.move(-1)", "Up", show=False),
        Binding("down,tab", "screen.move(1)", "Down", show=False),
        Binding("pageup", "screen.page(-1)", "Page up", show=False),
        Binding("pagedown", "screen.page(1)", "Page down", show=False),
        Binding("backspace", "erase", "Erase", show=False),
    ]

    def __init__(self, text: str, hint: str, upward: bool = False) -> None:
        super().__init__(text, placeholder=hint, select_on_focus=False)
        self.cursor_blink = False
        self._upward = upward

    async def action_erase(self) -> None:
        """Delete to the left, or with nothing to delete go up."""
        if self.value or not self._upward:
            self.action_delete_left()
        else:
            await self.screen.run_action("up")
