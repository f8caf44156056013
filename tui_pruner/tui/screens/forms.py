"""What is chosen from a list, and the form of a compression."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from rich.cells import cell_len
from rich.text import Text
from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.geometry import Region
from textual.screen import ModalScreen
from textual.widgets import Input, OptionList, Static
from textual.widgets.option_list import Option

from tui_pruner.tui.job_specs.compression import RECIPE, Item, understood
from tui_pruner.tui.theme.drawing import fit


@dataclass(frozen=True)
class Choice:
    """One thing to choose: the value that the list ends with, its name, and a few words on it."""

    value: str
    name: str
    meaning: str = ""


class Chooser(ModalScreen[str]):
    """Asks once; escape is the empty answer. `chosen` is the value that the cursor starts on."""

    # Bindings and no on_key: a number that was typed before the list was there comes to the screen's bindings only.
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "leave", "Back", show=False),
        *(Binding(str(number), f"choose({number})", "Choose", show=False) for number in range(1, 10)),
    ]
    DEFAULT_CSS = """
    Chooser Static { height: auto; }
    Chooser OptionList { height: auto; max-height: 50vh; margin-top: 1; padding: 0; border: none; background: $surface; }
    Chooser OptionList:focus { border: none; }
    """

    def __init__(self, title: str, text: str, choices: Sequence[Choice], chosen: str = "") -> None:
        super().__init__()
        self._title = title
        self._text = text
        self._choices = choices
        self._chosen = chosen

    def compose(self) -> ComposeResult:
        """The list in a box."""
        with Vertical(classes="dialog wide") as box:
            box.border_title = self._title
            box.border_subtitle = "number or Enter choose    Esc close"
            yield Static(self._text, markup=False)
            yield OptionList(*self._options(), markup=False)

    def on_mount(self) -> None:
        """Put the cursor on what is chosen now."""
        values = [choice.value for choice in self._choices]
        self.query_one(OptionList).highlighted = values.index(self._chosen) if self._chosen in values else 0

    def action_choose(self, number: int) -> None:
        """Choose by number."""
        if number <= len(self._choices):
            self.dismiss(self._choices[number - 1].value)

    @on(OptionList.OptionSelected)
    def take(self, event: OptionList.OptionSelected) -> None:
        """Choose what the cursor is on."""
        event.stop()
        self.dismiss(self._choices[event.option_index].value)

    def action_leave(self) -> None:
        """Choose nothing."""
        self.dismiss("")

    def _options(self) -> list[Option]:
        names = max(len(choice.name) for choice in self._choices)
        return [Option(_prompt(number, choice, names)) for number, choice in enumerate(self._choices, start=1)]


def _prompt(number: int, choice: Choice, names: int) -> Text:
    # No colours: the list has its own for the row under the cursor, which others would not be readable on in every theme.
    text = Text.assemble((f"{number}", "bold"), "  ", (fit(choice.name, names), "bold" if choice.meaning else ""))
    return text.append(f"  {choice.meaning}") if choice.meaning else text


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
            box.border_subtitle = "Enter start    Tab next field    Esc cancel"
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
