"""The keys that change how the workbench looks, and what it tells about the pane that one is in."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from textual import events

from tui_pruner.tui.actions import panes
from tui_pruner.tui.screens.bench import PANES
from tui_pruner.tui.screens.help import HelpScreen
from tui_pruner.tui.screens.map_keys import MapKeys

if TYPE_CHECKING:
    from tui_pruner.tui.app import PrunerApp


class LookKeys(MapKeys):
    """Themes, the footer and the help for the focused pane."""

    @property
    def place(self) -> str:
        """What the keys act on: a pane, or what is shown in it."""
        if self.pane == panes.TREE and self.on_map:
            return panes.MAP
        return panes.PATH if self.pane == panes.DETAIL and self.inquiry is not None else self.pane

    def action_use_theme(self, name: str) -> None:
        """Draw in other colours."""
        cast("PrunerApp", self.app).use_palette(name)
        self.draw_all()

    def action_help(self) -> None:
        """Show all keys, those of the focused pane first."""
        self.app.push_screen(HelpScreen(self.place))

    def on_descendant_focus(self, event: events.DescendantFocus) -> None:
        """The mouse moves the focus too: the keys are those of the pane that has it."""
        pane = panes.TREE if event.widget.id == panes.MAP else event.widget.id
        if pane in PANES and pane != self.pane:
            self.show_pane(pane)
