"""The app: its theme, its first screen, its palette, and its end."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, ClassVar

from textual import events
from textual.app import App, SystemCommand
from textual.binding import BindingType
from textual.screen import Screen
from textual.widgets import Input

from tui_pruner.tui import terminal
from tui_pruner.tui.actions import ACTIONS
from tui_pruner.tui.colours import THEME
from tui_pruner.tui.glyphs import ASCII, GLYPHS
from tui_pruner.tui.messages import ModelChosen
from tui_pruner.tui.opening import Opening
from tui_pruner.tui.screens.workbench import Workbench


class PrunerApp(App[int]):
    """tui-pruner on one checkpoint, or on the start screen without one."""

    CSS_PATH = "app.tcss"
    TITLE = "tui-pruner"
    BINDINGS: ClassVar[list[BindingType]] = []
    NOTIFICATION_TIMEOUT = 4

    def __init__(self, opening: Opening | None) -> None:
        super().__init__()
        self._opening = opening
        self.register_theme(THEME)
        self.theme = THEME.name
        self.set_class(GLYPHS is ASCII, "-ascii")

    def on_mount(self) -> None:
        """Show the workbench at once, or the start screen; give the terminal back on signals too."""
        self.push_screen(self._first_screen())
        terminal.on_hangup(lambda status: self.exit(status, return_code=status), self.kill_children)

    def _first_screen(self) -> Screen[None]:
        if self._opening is not None:
            return Workbench(self._opening)
        from tui_pruner.tui.screens.start import StartScreen

        return StartScreen()

    def on_model_chosen(self, event: ModelChosen) -> None:
        """Open what was chosen on the start screen."""
        settings = self._opening or Opening(event.model)
        self._opening = Opening(
            event.model, settings.imgsz, settings.classes, event.data or settings.data, settings.images, settings.device
        )
        self.switch_screen(Workbench(self._opening))

    def on_key(self, event: events.Key) -> None:
        """Give letters to the input that has the focus by now: they were typed before the key that opened it was handled."""
        if isinstance(self.focused, Input) and event.is_printable and event.character is not None:
            self.focused.replace(event.character, *self.focused.selection)
            event.prevent_default()

    async def action_quit(self) -> None:
        """Quit through the workbench's question."""
        workbench = next((screen for screen in self.screen_stack if isinstance(screen, Workbench)), None)
        if workbench is None:
            self.exit(0)
        elif self.screen is workbench:
            workbench.action_quit()

    def get_system_commands(self, screen: Screen[Any]) -> Iterable[SystemCommand]:
        """The palette: every action of the workbench by name, from any pane."""
        if not isinstance(screen, Workbench):
            return
        for action in ACTIONS:
            yield SystemCommand(action.title, action.help, lambda name=action.name: self.call_later(screen.run_action, name))

    def kill_children(self) -> None:
        """End every child process at once."""
        for screen in self.screen_stack:
            if isinstance(screen, Workbench):
                screen.close_children()


def run_app(
    model: str | None,
    *,
    imgsz: int | None = None,
    classes: int | None = None,
    data: str | None = None,
    images: int | None = 64,
    device: str = "",
    plan: dict[str, Any] | None = None,
) -> int:
    """Run the app until the user quits; gives the exit status."""
    terminal.tolerate_stray_bytes()
    opening = Opening(model, imgsz, classes, data, images, device, plan) if model is not None else None
    app = PrunerApp(opening)
    status = app.run()
    return status if isinstance(status, int) else app.return_code or 0
