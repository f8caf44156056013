"""The screen of stages: as a tree, or as dots on the front, with the figures of the one under the cursor."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType

from tui_pruner.domain.lineage import ASKED
from tui_pruner.tui.actions import STAGES, Registry, bindings
from tui_pruner.tui.controllers import ACTIONS
from tui_pruner.tui.controllers.lineage import StageListController
from tui_pruner.tui.panes.bars import fitting, with_short_labels
from tui_pruner.tui.panes.front import dots_of, front_lines
from tui_pruner.tui.panes.lineage import graph_lines, stage_lines
from tui_pruner.tui.panes.widgets import ONE_MORE, Lines, Pane
from tui_pruner.tui.screens.base import ActionScreen
from tui_pruner.tui.session_stages import asked_reach, asked_stage, shown_of

if TYPE_CHECKING:
    from tui_pruner.tui.screens.workbench import Workbench

MEASURING = ("validate", "latency")
"""Actions of the workbench that an empty front names; they are in no footer here, since they measure the current model only."""
SHARED = ("help", *MEASURING)
EVERY = 0.5
FAR = 100_000
"""More stages than any list has."""


class StagePane(Pane, inherit_bindings=False):
    """The pane of the tree or the front; the screen binds its keys."""

    BINDINGS: ClassVar[list[BindingType]] = []


class Stages(ActionScreen, inherit_bindings=False):
    """Shows the stages of the session; it changes only the cursor."""

    BINDINGS: ClassVar[list[BindingType]] = [
        *bindings(ACTIONS, STAGES),
        Binding("home,g", "to_end(-1)", "First stage", show=False),
        Binding("end,G", "to_end(1)", "Last stage", show=False),
        *(action.binding for action in ACTIONS if action.id in SHARED),
    ]
    AUTO_FOCUS = "#picture"

    def __init__(self, workbench: Workbench, on_front: bool) -> None:
        super().__init__()
        self.store = workbench.store
        self.dialogs = workbench.dialogs
        controllers = workbench.controllers
        self._controller = StageListController(self.store, controllers.lineage, self, on_front, controllers.target.slide)
        shared = [action for action in workbench.registry if action.id in SHARED]
        self.registry = Registry([*self._controller.actions(), *shared])

    def compose(self) -> ComposeResult:
        """Compose the tree or the front, the stage under the cursor, and the keys."""
        yield StagePane("Lineage", id="picture")
        yield Lines(id="stage", expected=self.app.size.width)
        yield Lines(id="stages-footer", expected=self.app.size.width)

    @property
    def current_pane(self) -> str:
        """What the keys act on: the stages."""
        return STAGES

    def on_mount(self) -> None:
        """Draw, and draw again when measurements change behind this screen."""
        self.set_interval(EVERY, self.draw_all)
        self.call_after_refresh(self.draw_all)

    def on_resize(self) -> None:
        """Compose everything for the new size."""
        self.call_after_refresh(self.draw_all)

    def acted(self) -> None:
        """Show the changes of an action."""
        self.draw_all()

    def action_to_end(self, way: int) -> None:
        """Go to the first or the last stage."""
        self._controller.move(way * FAR)
        self.draw_all()

    def leave(self) -> None:
        """Go back to the workbench."""
        self.dismiss(None)

    def draw_all(self) -> None:
        """Draw the present state, unless the screen is being left."""
        if self not in self.app.screen_stack or not self.children:
            return
        state, at = self.store.state, self._controller
        shown, asked = shown_of(state), asked_stage(state)
        pane = self.query_one("#picture", Pane)
        if at.on_front:
            dots, reach = dots_of(shown, at.axis, asked), asked_reach(state, self.store.view.slider, at.axis)
            pane.draw(lambda width, height: front_lines(dots, at.axis, shown.metric, width, height, at.cursor, reach=reach), "Front")
        else:
            pane.draw_at(lambda width: (*graph_lines(shown, width, at.cursor, at.held), ONE_MORE), "Lineage")
        stage = asked if at.cursor == ASKED else state.lineage.stages.get(at.cursor)
        held = asked if at.held == ASKED else state.lineage.stages.get(at.held)
        told = self.query_one("#stage", Lines)
        told.draw(lambda width, _: stage_lines(shown, stage, held, width) if stage is not None else [Text()])
        hidden = MEASURING if at.on_front else (*MEASURING, "next-axis")
        own = [action for action in self.registry if action.footer and action.id not in hidden]
        self.query_one("#stages-footer", Lines).draw(lambda width, _: [fitting(with_short_labels(own, width), width)])
