"""One-line inputs inside the workbench: the filter above the tree, and the amount below it."""

from __future__ import annotations

from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal
from textual.widgets import Input, Static

from tui_pruner.tui.messages import AmountClosed, AmountEntered, FilterChanged, FilterClosed


class EntryLine(Horizontal):
    """A label and an input in one line, hidden until it is opened."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "leave", "Leave", show=False),
        Binding("up,down,tab", "keep", "Back", show=False),
    ]

    def __init__(self, label: str, hint: str, id: str) -> None:
        super().__init__(id=id)
        self._label = Static(label, markup=False)
        self._input = Input(placeholder=hint, select_on_focus=False, compact=True)
        self._input.cursor_blink = False
        self.display = False

    def compose(self) -> ComposeResult:
        """The label and the input."""
        yield self._label
        yield self._input

    def open(self, label: str, text: str = "") -> None:
        """Show the line with the cursor in it."""
        self._label.update(label)
        self._input.value = text
        self.display = True
        # Not focus(), which waits for its turn: keys that follow at once must land in the input.
        self.screen.set_focus(self._input)
        self._input.cursor_position = len(text)

    def close(self) -> None:
        """Hide the line."""
        self.display = False

    @property
    def text(self) -> str:
        """What is typed."""
        return self._input.value


class FilterLine(EntryLine):
    """Filters while one types; enter keeps the filter, escape drops it."""

    @on(Input.Changed)
    def typed(self, event: Input.Changed) -> None:
        """Filter by what is typed."""
        event.stop()
        self.post_message(FilterChanged(event.value))

    @on(Input.Submitted)
    def submitted(self, event: Input.Submitted) -> None:
        """Keep the filter."""
        event.stop()
        self.post_message(FilterClosed())

    def action_keep(self) -> None:
        """Keep the filter and go back to the tree."""
        self.post_message(FilterClosed())

    def action_leave(self) -> None:
        """Drop the filter."""
        self._input.value = ""
        self.post_message(FilterChanged(""))
        self.post_message(FilterClosed())


class AmountLine(EntryLine):
    """Takes a share to remove, or a width to keep."""

    keeping = False

    @on(Input.Changed)
    def typed(self, event: Input.Changed) -> None:
        """Nothing follows from typing before enter."""
        event.stop()

    @on(Input.Submitted)
    def submitted(self, event: Input.Submitted) -> None:
        """Hand the amount over."""
        event.stop()
        self.post_message(AmountEntered(event.value, self.keeping))

    def action_keep(self) -> None:
        """Leave without an amount."""
        self.post_message(AmountClosed())

    def action_leave(self) -> None:
        """Leave without an amount."""
        self.post_message(AmountClosed())
