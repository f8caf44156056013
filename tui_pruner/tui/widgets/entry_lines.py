"""A one-line input inside the workbench: the filter above the tree, and the amount below it."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal
from textual.widgets import Input, Static


class EntryInput(Input):
    """An input that hands over what is typed at once, not through a message."""

    async def action_submit(self) -> None:
        """Hand what is typed to the line."""
        if isinstance(self.parent, EntryLine):
            self.parent.action_done()


class EntryLine(Horizontal):
    """A label and an input in one line, hidden until it is opened.

    It answers through callables and not through messages: keys typed fast, or sent in one piece over a slow line,
    must find what the keys before them did already done.
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("tab", "done", "Done", show=False),
        Binding("up", "step(-1)", "Up", show=False),
        Binding("down", "step(1)", "Down", show=False),
        Binding("escape", "leave", "Leave", show=False),
    ]

    def __init__(self, hint: str, id: str) -> None:
        super().__init__(id=id)
        self._label = Static(markup=False)
        self._input = EntryInput(placeholder=hint, select_on_focus=False, compact=True)
        self._input.cursor_blink = False
        self._typed: Callable[[str], None] = lambda _: None
        self._done: Callable[[str], None] = lambda _: None
        self._left: Callable[[], None] = lambda: None
        self._stepped: Callable[[int], None] | None = None
        self.display = False

    def connect(
        self,
        done: Callable[[str], None],
        left: Callable[[], None],
        typed: Callable[[str], None] | None = None,
        stepped: Callable[[int], None] | None = None,
    ) -> None:
        """Say what happens on enter, on escape, while one types, and on up and down (-1 and 1), which otherwise are like enter."""
        self._done, self._left, self._stepped = done, left, stepped
        if typed is not None:
            self._typed = typed

    def compose(self) -> ComposeResult:
        """The label and the input."""
        yield self._label
        yield self._input

    def open(self, label: str, text: str = "", replacing: bool = False) -> None:
        """Show the line with the cursor in it; `replacing` selects its text, so that typing replaces it."""
        self._label.update(label)
        self._input.value = text
        self.display = True
        # Not focus(), which waits for its turn: keys that follow at once must land in the input.
        self.screen.set_focus(self._input)
        self._input.cursor_position = len(text)
        if replacing:
            self._input.select_all()

    def show(self, label: str, text: str) -> None:
        """Show the line without the cursor in it; nothing to show hides it."""
        self._label.update(label)
        self._input.value = text
        self.display = bool(text.strip())

    def close(self) -> None:
        """Hide the line, empty."""
        self._input.value = ""
        self.display = False

    @property
    def text(self) -> str:
        """What is typed."""
        return self._input.value

    @on(Input.Changed)
    def changed(self, event: Input.Changed) -> None:
        """Tell what is typed, unless more has been typed since."""
        event.stop()
        if self.display and event.value == self._input.value:
            self._typed(event.value)

    def action_done(self) -> None:
        """Take what is typed."""
        self._done(self._input.value)

    def action_step(self, lines: int) -> None:
        """Move in what the line is about, or take what is typed."""
        if self._stepped is None:
            self.action_done()
        else:
            self._stepped(lines)

    def action_leave(self) -> None:
        """Leave without it."""
        self._left()
