"""The workbench: the panes of one checkpoint being pruned, with every action bound."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, ClassVar

from textual import events, on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.geometry import Region
from textual.strip import Strip
from textual.timer import Timer
from textual.worker import Worker, WorkerState

from tui_pruner.storage.error_log import keep_traceback, one_line
from tui_pruner.tui.actions import DIGITS, MAP, SLIDER, STEPS_PANE, TREE, Registry, bindings
from tui_pruner.tui.controllers import ACTIONS, Controllers
from tui_pruner.tui.controllers.base import Jobs
from tui_pruner.tui.engine_session import EngineSession
from tui_pruner.tui.job_queue import JobQueue
from tui_pruner.tui.job_specs.job import OpenCheckpoint
from tui_pruner.tui.messages import EngineMessage, JobsChanged
from tui_pruner.tui.opening import Opening
from tui_pruner.tui.outline import TreeState
from tui_pruner.tui.panes.bars import FooterBar, HeaderBar, StatusBar
from tui_pruner.tui.panes.detail import DetailPane
from tui_pruner.tui.panes.front import SliderLine
from tui_pruner.tui.panes.jobs import Activity, JobsPane
from tui_pruner.tui.panes.map import MapPane
from tui_pruner.tui.panes.steps import StepsPane
from tui_pruner.tui.panes.tree import ModelTree
from tui_pruner.tui.panes.widgets import EntryLine, Lines, PaneColumn, PaneRow, backdrop
from tui_pruner.tui.screens.base import BEAT_SECONDS, SMALLEST, ActionScreen, expect_size, too_small
from tui_pruner.tui.screens.dialogs import ScreenDialogs
from tui_pruner.tui.state import BEAT, JOBS, AppState, Store, ViewState
from tui_pruner.tui.timeline import StepMetrics

if TYPE_CHECKING:
    from tui_pruner.engine.messages import OpenResult
    from tui_pruner.tui.screens.loading import LoadingScreen

PANES = ("tree", "detail", "steps")


class BoundSteps(StepsPane, inherit_bindings=False):
    """The pane of the steps with the keys of its actions."""

    BINDINGS: ClassVar[list[BindingType]] = [
        *bindings(ACTIONS, STEPS_PANE),
        Binding("home,g", "screen.run('step-move', -100000)", "The checkpoint", show=False),
        Binding("end,G", "screen.run('step-move', 100000)", "The last step", show=False),
        Binding("ctrl+u", "screen.run('step-move', -5)", "Steps before", show=False),
        Binding("ctrl+d", "screen.run('step-move', 5)", "Steps after", show=False),
    ]


class BoundSlider(SliderLine, inherit_bindings=False):
    """The line of the target slider with the keys of its actions."""

    BINDINGS: ClassVar[list[BindingType]] = [
        *bindings(ACTIONS, SLIDER),
        Binding("up,k", "screen.run('move', -1)", "Up", show=False),
        Binding("down,j", "screen.run('move', 1)", "Down", show=False),
    ]


class Workbench(ActionScreen, inherit_bindings=False):
    """Composes the panes, runs actions by their ids, and passes the engine's messages to the controllers."""

    BINDINGS: ClassVar[list[BindingType]] = [*bindings(ACTIONS), *DIGITS]
    AUTO_FOCUS = "#tree"
    HORIZONTAL_BREAKPOINTS = [(0, "-tiny"), (SMALLEST[0], "-narrow"), (100, "-wide")]
    VERTICAL_BREAKPOINTS = [(0, "-flat"), (SMALLEST[1], "-low"), (32, "-tall"), (48, "-high")]

    def __init__(self, engine: EngineSession, state: AppState, view: ViewState) -> None:
        super().__init__(classes="show-tree")
        self.engine = engine
        self.store = Store(state, view, self.call_later)
        self.queue = JobQueue(self)
        self.dialogs = ScreenDialogs(self, self.show_jobs, self.leave)
        self.jobs = Jobs(self.store, self.queue, self.dialogs)
        self.controllers = Controllers.of(self.store, engine, self.jobs, self.dialogs)
        self.registry = Registry()
        for controller in self.controllers.all:
            self.registry.register(controller.actions(), controller.moves())
        self._beats = 0
        self._heart: Timer | None = None
        engine.target = self

    def compose(self) -> ComposeResult:
        """Compose header, panes and footer."""
        expect_size(self)
        width = self.app.size.width
        yield HeaderBar(id="header", expected=width)
        with PaneRow(id="panes"):
            with PaneColumn(id="left"):
                yield EntryLine("name, type, section or status", id="filter")
                yield ModelTree(self.store, id="tree")
                yield MapPane("Map", id="map")
            yield DetailPane("Detail", id="detail")
        with PaneRow(id="bottom"):
            yield BoundSteps("Steps", id="steps")
            yield JobsPane("Jobs", id="jobs")
        yield StatusBar(id="status")
        yield EntryLine("", id="amount")
        yield BoundSlider(id=SLIDER, expected=width - 2)
        yield FooterBar(id="footer", expected=width)
        yield Lines(id="too-small")

    def render_lines(self, crop: Region) -> list[Strip]:
        """Render the background."""
        return backdrop(self, crop)

    @property
    def current_pane(self) -> str:
        """What the keys act on: a pane, or the content shown in it."""
        return self.store.view.pane

    @property
    def opening(self) -> Opening:
        """The options that the checkpoint was opened with."""
        return self.store.state.checkpoint.opening

    @property
    def busy(self) -> bool:
        """Whether something is running that the screen animates."""
        return bool(self.store.state.doing) or self.queue.busy

    def on_mount(self) -> None:
        """Let the panes observe the store, then start the controllers."""
        store = self.store
        self.query_one(HeaderBar).follow(store)
        self.query_one(MapPane).follow(store)
        self.query_one(DetailPane).follow(store)
        self.query_one(StepsPane).follow(store)
        jobs = self.query_one(JobsPane)
        jobs.can_focus = False
        jobs.follow(store, self.work)
        self.query_one(StatusBar).follow(store, self.work, lambda: not self.has_class("show-detail"))
        self.query_one(FooterBar).follow(store, self.registry)
        self.query_one(SliderLine).follow(store)
        store.observe(("focus", "on_map", "sliding"), self.move_focus, at_once=True)
        store.observe(("tree", "on_map", "focus"), self.show_filter, at_once=True)
        store.observe(("doing", JOBS), self.wake)
        self._heart = self.set_interval(BEAT_SECONDS, self._beat)
        for controller in self.controllers.all:
            controller.begin()
        self.draw_all()

    def on_resize(self, event: events.Resize) -> None:
        """Compose everything for the new size."""
        self.call_after_refresh(self.draw_all)

    def on_screen_resume(self) -> None:
        """Draw what changed while another screen was in front."""
        self.call_after_refresh(self.draw_all)

    def draw_all(self) -> None:
        """Show the present state in every pane."""
        for lines in self.query("#too-small").results(Lines):
            lines.draw(too_small(self.size))
        if self.focused is None and not self.hides_panes:  # they lose it where they were hidden
            self.move_focus()
        self.store.redraw()

    @on(EngineMessage)
    @on(JobsChanged)
    def take(self, message: EngineMessage | JobsChanged) -> None:
        """Pass a message to the controllers, which change the store."""
        for handler in self.controllers.handlers_of(message):
            handler(message)

    @on(Worker.StateChanged)
    def report_failed_work(self, event: Worker.StateChanged) -> None:
        """Report an error in work of this screen."""
        error = event.worker.error
        if event.state is WorkerState.ERROR and error is not None:
            keep_traceback(error)
            self.dialogs.say(one_line(event.worker.name, error), "error")

    def on_descendant_focus(self, event: events.DescendantFocus) -> None:
        """Follow a focus that the mouse moved: the keys are those of the focused pane."""
        pane = TREE if event.widget.id == MAP else event.widget.id
        if pane in PANES and self.store.view.sliding:
            self.action_run("slider-keep")
        elif pane in PANES:
            self.action_run("pane", pane)

    def move_focus(self) -> None:
        """Focus the current pane; in a small window show it. Keys that follow at once must reach it."""
        view = self.store.view
        for pane in PANES:
            self.set_class(pane == view.focus, f"show-{pane}")
        self.set_class(view.on_map, "show-map")
        self.set_class(view.sliding, "sliding")
        self.query_one(SliderLine).display = view.sliding
        pane = MAP if view.focus == TREE and view.on_map else view.focus
        self.set_focus(self.query_one(f"#{SLIDER if view.sliding else pane}"))
        self.call_after_refresh(self.draw_all)

    def show_filter(self) -> None:
        """Show the filter's words above the tree if there are any and they are not being typed."""
        line, view = self.query_one("#filter", EntryLine), self.store.view
        if not line.typing:
            line.show("/", "" if view.on_map else view.tree.words)

    def show_jobs(self) -> None:
        """List all jobs."""
        from tui_pruner.tui.screens.all_jobs import AllJobs

        self.app.push_screen(AllJobs(self))

    def work(self) -> Activity:
        """The content of the jobs pane."""
        state, queue = self.store.state, self.queue
        return Activity(queue.running, queue.waiting, state.doing, state.notes, self._beats, time.monotonic())

    def wake(self) -> None:
        """Run the pulse while something is running, and stop it otherwise."""
        if self._heart is not None:
            (self._heart.resume if self.busy else self._heart.pause)()

    def leave(self) -> None:
        """Save the session as left on purpose, and end the app."""
        self.controllers.autosave.leave()
        self.app.exit(0)

    def close_children(self) -> None:
        """End the engine and the running job at once."""
        self.queue.close()
        self.engine.kill()

    async def on_unmount(self) -> None:
        """End the child processes and wait for the engine."""
        for controller in self.controllers.all:
            controller.end()
        self.close_children()
        await self.engine.close()

    def _beat(self) -> None:
        self._beats += 1
        # Behind another screen not: Textual would paint that one whole each time, a hundred kilobytes a second.
        if self.is_active:
            self.store.touch(BEAT)
        self.wake()


def first_state(result: OpenResult, loading: LoadingScreen) -> tuple[AppState, ViewState]:
    """The state of a newly opened checkpoint, with the notes from loading."""
    opening = loading.opening
    metrics = StepMetrics()
    metrics.follow(result.session)
    notes = [*loading.notes, *((warning, None) for warning in result.warnings)]
    checkpoint = OpenCheckpoint(opening, result.model, (opening.module.evaluate or None) if opening.module else opening.data)
    state = AppState(result, result.session, checkpoint, metrics=metrics, notes=notes, automatic=loading.automatic)
    return state, ViewState(tree=TreeState.of(result.blocks))
