"""The base of screens with actions: a key, a click or the palette runs an action by its id, or shows why it is disabled."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from textual.geometry import Size
from textual.screen import Screen

from tui_pruner.tui.actions import Action, Registry
from tui_pruner.tui.controllers.base import Dialogs
from tui_pruner.tui.drawing import CALM, wrapped
from tui_pruner.tui.panes.widgets import Compose
from tui_pruner.tui.state import Store

SMALLEST = (60, 15)
BEAT_SECONDS = 2.0 if CALM else 0.25


def too_small(size: Size) -> Compose:
    """The lines in place of the panes in a terminal below the smallest size."""
    message = f"The terminal is {size.width}x{size.height}; tui-pruner needs {SMALLEST[0]}x{SMALLEST[1]}. q quits."
    return lambda width, _: wrapped(message, width)


def expect_size(screen: Screen[Any]) -> None:
    """Give a screen the classes of the present size before its first layout: set after it, they would move the panes painted by then."""
    width, height = screen.app.size
    for size, breakpoints in ((width, screen.HORIZONTAL_BREAKPOINTS), (height, screen.VERTICAL_BREAKPOINTS)):
        reached = [name for least, name in sorted(breakpoints or []) if size >= least]
        screen.add_class(*reached[-1:])


class ActionScreen(Screen[None], inherit_bindings=False):
    """A screen whose actions are in a registry."""

    registry: Registry
    store: Store
    dialogs: Dialogs

    @property
    def current_pane(self) -> str:
        """What the keys act on: a pane, or the content shown in it."""
        raise NotImplementedError

    @property
    def hides_panes(self) -> bool:
        """Whether the window is too small for the panes, so that no one would see what a key does."""
        return self.has_class("-tiny") or self.has_class("-flat")

    def action_run(self, id: str, first: object = None, second: object = None) -> None:
        """Run an action, or show why it is disabled; where the panes are hidden, only the program can be left."""
        if self.hides_panes and id != "quit":
            return
        arguments = [argument for argument in (first, second) if argument is not None]
        if move := self.registry.move(id):
            move(*arguments)
        elif action := self.registry.find(id):
            if reason := action.why_disabled(self.store.state):
                self.dialogs.say(reason, "warning")
            else:
                action.run(*arguments)
        self.acted()

    def acted(self) -> None:
        """React to an action that was run."""

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Whether this screen has such an action; disabled ones are kept, since their keys show why."""
        if action != "run":
            return super().check_action(action, parameters)
        id = str(parameters[0]) if parameters else ""
        return self.registry.find(id) is not None or self.registry.move(id) is not None

    def help_of(self, action: Action) -> str:
        """An action's help, with the reason if it is disabled."""
        reason = action.why_disabled(self.store.state)
        return f"{action.help} Not now: {reason}." if reason else action.help

    def help_actions(self) -> Sequence[tuple[Action, str]]:
        """All actions of the app, each with the reason if this screen has it and it is disabled."""
        from tui_pruner.tui.controllers import ACTIONS

        state = self.store.state
        found = [(action, self.registry.find(action.id)) for action in ACTIONS]
        return [(own or action, own.why_disabled(state) if own else "") for action, own in found]
