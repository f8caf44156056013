"""The loading screen: the frame of the workbench, while the engine starts and reads the checkpoint."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar

from textual import events, on
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.geometry import Region
from textual.screen import Screen
from textual.strip import Strip
from textual.worker import Worker, WorkerState

from tui_pruner.domain.formatting import clock, running_code_of
from tui_pruner.engine.processes import kill_group, start_engine
from tui_pruner.storage.error_log import keep_traceback, one_line
from tui_pruner.tui.controllers import ACTIONS
from tui_pruner.tui.messages import Doing, EngineDied, OpenFailed, RequestRefused
from tui_pruner.tui.opening import Opening
from tui_pruner.tui.panes.bars import footer_lines, waiting_line
from tui_pruner.tui.panes.jobs import Activity, JobsPane, spinner
from tui_pruner.tui.panes.widgets import Lines, Pane, PaneColumn, PaneRow, backdrop
from tui_pruner.tui.screens.base import BEAT_SECONDS, SMALLEST, expect_size, too_small
from tui_pruner.tui.state import MOST_NOTES, Note

if TYPE_CHECKING:
    from tui_pruner.storage.sessions import KeptSessions
    from tui_pruner.tui.engine_session import EngineSession

ENGINE = "engine"
KEYS = ("back", "help", "quit")


class LoadingScreen(Screen[None], inherit_bindings=False):
    """Starts the engine first, unless it runs, then paints; messages until the model is loaded are passed on to the workbench."""

    BINDINGS: ClassVar[list[BindingType]] = [action.binding for action in ACTIONS if action.id in KEYS]
    AUTO_FOCUS = ""
    HORIZONTAL_BREAKPOINTS = [(0, "-tiny"), (SMALLEST[0], "-narrow"), (100, "-wide")]
    VERTICAL_BREAKPOINTS = [(0, "-flat"), (SMALLEST[1], "-low"), (32, "-tall"), (48, "-high")]

    def __init__(self, opening: Opening, automatic: bool, process: asyncio.subprocess.Process | None = None) -> None:
        super().__init__(classes="show-tree")
        self.opening = opening
        self.automatic = automatic
        self.engine: EngineSession | None = None
        names = opening.module
        self.notes: list[Note] = [(running_code_of(opening.model, names.inputs, names.forward), None)] if names else []
        self.doing = f"loading {opening.name}"
        self.asking = False
        self._began = time.monotonic()
        self._beats = 0
        self._painted = asyncio.Event()
        self._process = process

    def compose(self) -> ComposeResult:
        """Compose header, empty panes and footer."""
        expect_size(self)
        width = self.app.size.width
        yield Lines(id="header", expected=width)
        with PaneRow(id="panes"):
            with PaneColumn(id="left"):
                yield Pane("Model", id="tree")
            yield Pane("Detail", id="detail")
        with PaneRow(id="bottom"):
            yield Pane("Steps", id="steps")
            yield JobsPane("Jobs", id="jobs")
        yield Lines(id="status")
        yield Lines(id="footer", expected=width)
        yield Lines(id="too-small")

    def render_lines(self, crop: Region) -> list[Strip]:
        """Render the background."""
        return backdrop(self, crop)

    def on_mount(self) -> None:
        """Start the engine, then paint."""
        # By way of the app, which paints nothing before it gets its first message: until then a refresh is over without a frame.
        self.app.call_later(self.call_after_refresh, self._painted.set)
        self.run_worker(self._start_engine(), name=ENGINE, exit_on_error=False)
        self.set_interval(BEAT_SECONDS, self._beat)
        idle = {action.id for action in ACTIONS}.difference(KEYS)
        self.query_one("#footer", Lines).draw(lambda width, height: footer_lines(ACTIONS, width, height, pane="tree", disabled=idle))
        self.draw()

    def _compositor_refresh(self) -> None:
        # While the app starts, Textual renders frames only to drop them, and then takes for painted what was in them.
        if not getattr(self.app, "_batch_count", 0):
            super()._compositor_refresh()

    def on_resize(self, event: events.Resize) -> None:
        """Compose everything for the new size."""
        self.call_after_refresh(self.draw)

    def draw(self) -> None:
        """Draw the state of loading; a screen that is being left loses its panes one by one."""
        if not self.children or self not in self.app.screen_stack:
            return
        loading = f"{spinner(self._beats)} loading  {clock(time.monotonic() - self._began)}" if self.doing else "not loaded"
        what = "not loaded until you answer" if self.asking else loading
        self.query_one("#header", Lines).draw(lambda width, _: [waiting_line(self.opening.name, what, width)])
        work = Activity(doing=self.doing, notes=self.notes, beat=self._beats)
        self.query_one("#jobs", JobsPane).show(work, self.automatic, module=bool(self.opening.module))
        self.query_one("#too-small", Lines).draw(too_small(self.size))

    def wait_for_answer(self) -> None:
        """Show that nothing is being loaded while a question about the file is open."""
        self.asking = True
        self.doing = f"{self.opening.name} waits for your answer"
        self.draw()

    def note(self, text: str, failed: bool = False) -> None:
        """Add a line to the jobs pane."""
        self.notes = [*self.notes, (text, failed)][-MOST_NOTES:]
        self.draw()

    def action_run(self, id: str) -> None:
        """Leave for another checkpoint, quit, or show all keys."""
        if id == "back":
            self.close_children()
            self.post_message(OpenFailed(""))
        elif id == "quit":
            self.app.exit(0)
        elif id == "help":
            from tui_pruner.tui.screens.help import HelpScreen

            self.app.push_screen(HelpScreen([(action, "") for action in ACTIONS]))

    @on(EngineDied)
    def report_death(self, event: EngineDied) -> None:
        """Report how the engine ended, and what follows."""
        self.doing = event.doing
        self.note(event.reason, failed=True)
        self.app.notify(f"{event.reason}; {event.follows}", severity="error", timeout=8, markup=False)

    @on(Doing)
    def show_doing(self, event: Doing) -> None:
        """Show the engine's current activity."""
        self.doing = event.what or self.doing
        self.draw()

    @on(RequestRefused)
    def report_refusal(self, event: RequestRefused) -> None:
        """Show why a request was refused."""
        self.app.notify(event.reason, severity="error", timeout=8, markup=False)

    @on(Worker.StateChanged)
    def report_failed_work(self, event: Worker.StateChanged) -> None:
        """Report that the checkpoint cannot be opened, where the engine could not be started."""
        error = event.worker.error
        if event.state is WorkerState.ERROR and error is not None:
            keep_traceback(error)
            self.post_message(OpenFailed(one_line("starting the engine", error)))

    def close_children(self) -> None:
        """End the engine at once."""
        if self.engine is not None:
            self.engine.kill()
        elif self._process is not None:
            kill_group(self._process)

    async def on_unmount(self) -> None:
        """End the engine, unless the workbench has taken it over."""
        if self.engine is None or self.engine.target is self:
            self.close_children()
            if self.engine is not None:
                await self.engine.close()

    async def _start_engine(self) -> None:
        self._process = self._process or await start_engine()
        await self._painted.wait()
        reading = asyncio.create_task(self._read_sessions())
        # Only now: the messages' classes take a tenth of a second to import, and the first screen shall not wait for them.
        from tui_pruner.tui.engine_session import EngineSession
        from tui_pruner.tui.screens import workbench  # noqa: F401 (so that it is there when the model is)

        await reading  # before the engine is asked: the workbench takes all that it posts
        self.engine = EngineSession(self, self.opening)
        await self.engine.start(self._process)

    async def _read_sessions(self) -> None:
        """Read the earlier sessions of this file, which the workbench resumes or takes measurements from."""

        def read() -> KeptSessions:
            from tui_pruner.storage.sessions import kept_sessions

            return kept_sessions(self.opening.model, self.opening.data)

        try:
            self.opening = replace(self.opening, kept=await asyncio.to_thread(read))
        except Exception as error:  # the model can be opened without them
            keep_traceback(error)
            self.note(one_line("reading the kept sessions", error), failed=True)

    def _beat(self) -> None:
        self._beats += 1
        if self.is_active:
            self.draw()
