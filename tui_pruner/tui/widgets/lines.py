"""A pane of text that is composed again whenever its width changes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import ClassVar

from rich.text import Text
from textual import events
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.geometry import Region, Size
from textual.strip import Strip
from textual.widget import Widget

from tui_pruner.tui.actions import pane_bindings
from tui_pruner.tui.drawing import strip_of
from tui_pruner.tui.footer_text import CLICK

Compose = Callable[[int, int], Sequence[Text]]


class Lines(Widget):
    """Lines of text that `compose_lines` gives for a width and a height; only those that changed are painted again.

    `expected` is the width in cells to compose for before the first layout, so that nothing jumps after it.
    """

    def __init__(self, id: str | None = None, expected: int = 0) -> None:
        super().__init__(id=id)
        self._expected = expected
        self._compose_lines: Compose | None = None
        self._texts: list[Text] = []

    def draw(self, compose_lines: Compose) -> None:
        """Show these lines from now on."""
        self._compose_lines = compose_lines
        self.redraw()

    def get_content_height(self, container: Size, viewport: Size, width: int) -> int:
        """One row for each line."""
        return len(self._texts)

    def render_line(self, y: int) -> Strip:
        """One line."""
        width, style = self.content_size.width, self.rich_style
        if y >= len(self._texts):
            return Strip.blank(width, style)
        return strip_of(self._texts[y], self.app.console, width, style)

    def on_resize(self) -> None:
        """Compose for the new width, once the layout that brought it is done: during it a new height would be lost."""
        self.call_after_refresh(self.redraw)

    async def on_click(self, event: events.Click) -> None:
        """Run the action that the clicked text names."""
        if name := event.style.meta.get(CLICK):
            await self.screen.run_action(name)

    def redraw(self) -> None:
        """Compose again what is shown."""
        width = self.content_size.width or self._expected
        if self._compose_lines is None or width <= 0:
            return
        before, self._texts = self._texts, list(self._compose_lines(width, self.content_size.height))
        if len(before) != len(self._texts):
            self.refresh(layout=True)
            return
        changed = [y for y, (old, new) in enumerate(zip(before, self._texts)) if old != new]
        if changed:
            self.refresh(*(Region(0, y, width, 1) for y in changed))


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
        self._title = self.border_title = title
        self._lines = Lines()

    def compose(self) -> ComposeResult:
        """The lines."""
        yield self._lines

    def draw(self, compose_lines: Compose, title: str = "", to_end: bool = False, see: int | None = None) -> None:
        """Show these lines; `to_end` scrolls to the newest, `see` to the line of that number."""
        if title and title != self._title:
            self._title = self.border_title = title  # setting it paints the whole pane again, even if it is the same
        height = self.scrollable_content_region.height
        self._lines.draw(lambda width, _: compose_lines(width, height))
        if to_end:
            self.scroll_end(animate=False)
        if see is not None:
            self.call_after_refresh(self.scroll_to_region, Region(0, see, 1, 2), animate=False, force=True)


class DetailPane(Pane, inherit_bindings=False):
    """A pane whose up and down are the screen's business: they scroll, or go from stop to stop of an explanation."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up", "screen.look(-1)", "Up", show=False),
        Binding("down", "screen.look(1)", "Down", show=False),
        Binding("home", "scroll_home", "Top", show=False),
        Binding("end", "scroll_end", "Bottom", show=False),
    ]


class StepsPane(Pane, inherit_bindings=False):
    """The pane of the steps: up and down go from step to step."""

    BINDINGS: ClassVar[list[BindingType]] = list(pane_bindings("steps"))


class MapPane(Pane, inherit_bindings=False):
    """The pane of the map: all four arrows go from block to block."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up", "screen.map_move(0, -1)", "Up", show=False),
        Binding("down", "screen.map_move(0, 1)", "Down", show=False),
        Binding("left", "screen.map_move(-1, 0)", "Left", show=False),
        Binding("right", "screen.map_move(1, 0)", "Right", show=False),
        Binding("home", "screen.map_move(-1000, 0)", "First block", show=False),
        Binding("end", "screen.map_move(1000, 0)", "Last block", show=False),
        Binding("enter", "screen.map_enter", "Show in the tree", show=False),
    ]
