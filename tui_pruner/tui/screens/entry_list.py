"""A list of entries to open, and the input above it that filters the list and moves its cursor."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar

from rich.style import Style
from rich.text import Text
from textual import events
from textual.binding import Binding, BindingType
from textual.geometry import Region, Size
from textual.message import Message
from textual.scroll_view import ScrollView
from textual.strip import Strip
from textual.widgets import Input

from tui_pruner.tui import colours
from tui_pruner.tui.drawing import strip_of


@dataclass(frozen=True)
class Entry:
    """One line: its text by width, and the key that it is opened by; without a key it is a heading, which the cursor skips."""

    draw: Callable[[int], Text]
    key: str = ""


class Entries(ScrollView):
    """Entries with a cursor; the focused widget moves it."""

    class Moved(Message):
        """The cursor moved to another entry, or to none."""

    class Taken(Message):
        """An entry was clicked."""

        def __init__(self, key: str) -> None:
            self.key = key
            super().__init__()

    def __init__(self, id: str) -> None:
        super().__init__(id=id)
        self.can_focus = False
        self._entries: Sequence[Entry] = ()
        self._cursor = 0

    @property
    def key(self) -> str:
        """The key of the entry under the cursor; empty where there is none."""
        return self._entries[self._cursor].key if self._cursor < len(self._entries) else ""

    def show(self, entries: Sequence[Entry], at: str = "") -> None:
        """Show these entries, the cursor on the one with this key, else on the first that can be opened."""
        self._entries = entries
        keys = [entry.key for entry in entries]
        self._cursor = keys.index(at) if at and at in keys else next((number for number, key in enumerate(keys) if key), 0)
        self.virtual_size = Size(0, len(entries))
        self.refresh(layout=True)
        self.call_after_refresh(self._reveal)

    def move(self, lines: int) -> None:
        """Move the cursor by this many entries, skipping headings, within the list."""
        keyed = [number for number, entry in enumerate(self._entries) if entry.key]
        if not keyed:
            return
        here = keyed.index(self._cursor) if self._cursor in keyed else 0
        self._cursor = keyed[min(max(here + lines, 0), len(keyed) - 1)]
        self._reveal()
        self.refresh()

    def page(self, direction: int) -> None:
        """Move the cursor by a page."""
        self.move(direction * max(self.scrollable_content_region.height - 1, 1))

    def get_content_height(self, container: Size, viewport: Size, width: int) -> int:
        """One row for each entry."""
        return len(self._entries)

    def render_line(self, y: int) -> Strip:
        """Render one entry."""
        number, width = y + self.scroll_offset.y, self.scrollable_content_region.width
        ground = colours.SELECTION if number == self._cursor and self.key else colours.SURFACE
        base = Style(bgcolor=ground)
        if number >= len(self._entries):
            return Strip.blank(width, base)
        text = self._entries[number].draw(width)
        if number == self._cursor and self.key:
            text.stylize("bold")
        return strip_of(text, self.app.console, width, base)

    def on_click(self, event: events.Click) -> None:
        """Open the clicked entry."""
        place = event.get_content_offset(self)
        number = place.y + self.scroll_offset.y if place is not None else -1
        if 0 <= number < len(self._entries) and self._entries[number].key:
            self._cursor = number
            self.refresh()
            self.post_message(self.Taken(self.key))

    def _reveal(self) -> None:
        above = 1 if self._cursor == 1 else 0  # the heading of the first entry
        self.scroll_to_region(Region(0, self._cursor - above, 1, 1 + above), animate=False, force=True)
        self.post_message(self.Moved())


class ChooserInput(Input):
    """An input whose up, down and page keys move the list's cursor; with `upward`, backspace in an empty input is `screen.up`."""

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
        """Delete to the left; if there is nothing to delete, go to the folder above."""
        if self.value or not self._upward:
            self.action_delete_left()
        else:
            await self.screen.run_action("up")
