"""All jobs: the list, the one under the cursor in full, and the end of its log as it grows."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, ClassVar

from rich.text import Text
from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Container, Vertical
from textual.screen import Screen
from textual.timer import Timer

from tui_pruner.errors import RequestError
from tui_pruner.tui import colours
from tui_pruner.tui.actions import ACTIONS, pane_bindings
from tui_pruner.tui.actions.jobs import SCREEN
from tui_pruner.tui.footer_text import fitting
from tui_pruner.tui.job_detail_text import job_detail_lines
from tui_pruner.tui.job_list_text import header_line, list_lines
from tui_pruner.tui.log_tail import LogTail, window
from tui_pruner.tui.messages import JobsChanged
from tui_pruner.tui.screens.bench import BEAT
from tui_pruner.tui.screens.help import HelpScreen
from tui_pruner.tui.widgets.lines import Lines, Pane

if TYPE_CHECKING:
    from tui_pruner.tui.screens.job_keys import JobKeys

LOG_BEATS = 4  # its whole pane moves with each line
SHARED = ("automatic", "help")
VIEWS = ("job-list", "job", "log")
FOOTER = [action for action in ACTIONS if action.footer and (action.pane == SCREEN or action.name in SHARED)]


class LogPane(Pane, inherit_bindings=False):
    """The pane of the log, which shows a part of it: going back and forth is the screen's business."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up", "screen.log_back(1)", "Up", show=False),
        Binding("down", "screen.log_back(-1)", "Down", show=False),
        Binding("pageup", "screen.log_back(10)", "Page up", show=False),
        Binding("pagedown", "screen.log_back(-10)", "Page down", show=False),
        Binding("home", "screen.log_back(100000)", "Beginning", show=False),
        Binding("end", "screen.log_back(-100000)", "End", show=False),
    ]


class JobList(Pane, inherit_bindings=False):
    """The pane of the list: up and down are the screen's, and go from job to job."""


class AllJobs(Screen[None], inherit_bindings=False):
    """What ran, runs and waits; it changes nothing but the queue."""

    BINDINGS: ClassVar[list[BindingType]] = [
        *pane_bindings(SCREEN),
        *(action.binding for action in ACTIONS if action.name in SHARED),
    ]
    HORIZONTAL_BREAKPOINTS = [(0, "-narrow"), (100, "-wide")]
    AUTO_FOCUS = "#job-list"
    has_palette = True

    def __init__(self, bench: JobKeys) -> None:
        super().__init__()
        self._bench = bench
        self._queue = bench.jobs
        self._chosen = self._queue.running or (self._queue.jobs[-1] if self._queue.jobs else None)
        self._tail = LogTail()
        self._back = 0
        self._beats = 0
        self._heart: Timer | None = None

    def compose(self) -> ComposeResult:
        """Header, list, job, log, footer."""
        yield Lines(id="jobs-header", expected=self.app.size.width)
        with Container(id="views"):
            yield JobList("Jobs", id="job-list")
            with Vertical(id="one"):
                yield Pane("Job", id="job")
                yield LogPane("Log", id="log")
        yield Lines(id="jobs-footer", expected=self.app.size.width)

    def on_mount(self) -> None:
        """Follow the queue for as long as the screen is there."""
        self._heart = self.set_interval(BEAT, self._beat)
        self._unwatch = self._queue.watch(self)
        self.query_one("#jobs-footer", Lines).draw(lambda width, _: [fitting(FOOTER, width)])
        self.draw_all()

    def on_unmount(self) -> None:
        """Leave the queue alone."""
        self._unwatch()

    def on_resize(self) -> None:
        """Compose everything for the new size."""
        self.call_after_refresh(self.draw_all)
        self.call_after_refresh(self._show_log)

    @on(JobsChanged)
    def show_change(self) -> None:
        """Draw what the queue says."""
        self.draw_all()

    def action_job_move(self, lines: int) -> None:
        """Go to another job."""
        jobs = self._queue.jobs
        if jobs:
            here = jobs.index(self._chosen) if self._chosen in jobs else len(jobs)
            self._chosen = jobs[min(max(here + lines, 0), len(jobs) - 1)]
            self.draw_all()

    def action_cancel_chosen(self) -> None:
        """Stop the job under the cursor, or drop it."""
        if self._chosen is None or not self._queue.cancel(self._chosen):
            self._bench.say("this job is over" if self._chosen else "no job to cancel", "warning")

    def action_again(self) -> None:
        """Queue the job under the cursor once more, and go to it."""
        if self._chosen is None:
            return
        try:
            queued = self._queue.again(self._chosen)
        except RequestError as error:
            self._bench.say(str(error), "warning")
            return
        if queued:
            self._chosen = self._queue.jobs[-1]
            self.draw_all()
        else:
            self._bench.say("this job waits or runs already", "warning")

    def action_log_back(self, lines: int) -> None:
        """Look further back in the log, or towards its end, where it is followed."""
        self._back = min(max(self._back + lines, 0), max(len(self._tail.lines) - 1, 0))
        self._show_log()

    def action_automatic(self) -> None:
        """Switch the validation after every step."""
        self._bench.action_automatic()
        self.draw_all()

    def action_next_view(self) -> None:
        """Focus the next pane."""
        focused = self.focused.id if self.focused is not None else None
        here = VIEWS.index(focused) if focused in VIEWS else -1
        self.set_focus(self.query_one(f"#{VIEWS[(here + 1) % len(VIEWS)]}"))

    def action_help(self) -> None:
        """Show all keys."""
        self.app.push_screen(HelpScreen(SCREEN))

    def action_leave(self) -> None:
        """Go back to the workbench."""
        self.dismiss(None)

    def draw_all(self, with_log: bool = True) -> None:
        """Show the present state in every pane, and let the pulse run while a job does; nothing once it is being left."""
        if self not in self.app.screen_stack:
            return
        if self._chosen not in self._queue.jobs:
            self._chosen = self._queue.jobs[-1] if self._queue.jobs else None
        self._draw_header()
        self._draw_list()
        self._draw_job()
        if with_log:
            self._draw_log()
        if self._heart is not None:
            (self._heart.resume if self._queue.busy else self._heart.pause)()

    def _draw_header(self) -> None:
        jobs, automatic, refitting = list(self._queue.jobs), self._bench.automatic, self._bench.refitting
        self.query_one("#jobs-header", Lines).draw(lambda width, _: [header_line(jobs, automatic, width, refitting)])

    def _draw_list(self) -> None:
        jobs, chosen, now = list(self._queue.jobs), self._chosen, time.monotonic()
        line = jobs.index(chosen) if chosen is not None else None
        self.query_one("#job-list", Pane).draw(lambda width, _: list_lines(jobs, chosen, now, width, self._beats), see=line)

    def _draw_job(self) -> None:
        job = self._chosen
        if job is None:
            return
        before, now = self._queue.before(job), time.monotonic()
        self.query_one("#job", Pane).draw(lambda width, _: job_detail_lines(job, before, now, width), job.wanted.name)

    def _draw_log(self) -> None:
        log = self._chosen.log if self._chosen else None
        if log != self._tail.log:
            self._back = 0
        if self._tail.follow(log):
            self._show_log()

    def _show_log(self) -> None:
        lines, back = self._tail.lines or ["nothing is in its log"], self._back
        self.query_one("#log", Pane).draw(lambda width, height: [Text(line, colours.MUTED) for line in window(lines, width, height, back)])

    def _beat(self) -> None:
        self._beats += 1
        self.draw_all(with_log=self._beats % LOG_BEATS == 0)
