"""A pane of text that is composed again whenever its width changes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import ClassVar

from rich.text import Text
from textual import events
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.widgets import Static

from tui_pruner.tui.footer_text import CLICK

Compose = Callable[[int, int], Sequence[Text]]


class Lines(Static):
    """Lines of text that `compose_lines` gives for a width and a height.

    `expected` is the width in cells to compose for before the first layout, so that nothing jumps after it.
    """

    def __init__(self, id: str | None = None, expected: int = 0) -> None:
        super().__init__(id=id, markup=False)
        self._expected = expected
        self._compose_lines: Compose | None = None
        self._drawn: tuple[Text, int] | None = None

    def draw(self, compose_lines: Compose) -> None:
        """Show these lines from now on."""
        self._compose_lines = compose_lines
        self._redraw()

    def on_resize(self) -> None:
        """Compose for the new width, once the layout that brought it is done: during it a new height would be lost."""
        self.call_after_refresh(self._redraw)

    async def on_click(self, event: events.Click) -> None:
        """Run the action that the clicked text names."""
        if name := event.style.meta.get(CLICK):
            await self.screen.run_action(name)

    def _redraw(self) -> None:
        width = self.size.width or self._expected
        if self._compose_lines is None or width <= 0:
            return
        text = Text("\n", no_wrap=True, overflow="crop").join(self._compose_lines(width, self.size.height))
        if self._drawn != (text, width):
            self._drawn = (text, width)
            self.update(text)


class Pane(VerticalScroll, inherit_bindings=False, can_focus=True):
    """A scrolling box around lines; left and right stay free for the ratio."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up", "scroll_up", "Up", show=False),
        Binding("down", "scroll_down", "Down", show=False),
        Binding("home", "scroll_home", "Top", show=False),
        Binding("end", "scroll_end", "Bottom", show=False),
    ]

    def __init__(self, title: str, id: str) -> None:
        super().__init__(id=id)
        self.border_title = title
        self._lines = Lines()

    def compose(self) -> ComposeResult:
        """The lines."""
        yield self._lines

    def draw(self, compose_lines: Compose, title: str = "", to_end: bool = False) -> None:
        """Show these lines; `to_end` scrolls to the newest."""
        if title:
            self.border_title = title
        height = self.scrollable_content_region.height
        self._lines.draw(lambda width, _: compose_lines(width, height))
        if to_end:
            self.scroll_end(animate=False)
