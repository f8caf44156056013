"""The screen of all jobs: the list, the details of the one under the cursor, and the end of its log as it grows."""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from rich.text import Text
from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Container, Vertical
from textual.timer import Timer

from tui_pruner.tui import colours
from tui_pruner.tui.actions import ALL_JOBS, Registry, bindings
from tui_pruner.tui.controllers import ACTIONS
from tui_pruner.tui.controllers.lists import JobListController
from tui_pruner.tui.drawing import broken
from tui_pruner.tui.messages import JobsChanged
from tui_pruner.tui.panes.bars import fitting
from tui_pruner.tui.panes.jobs import header_line, job_detail_lines, list_lines
from tui_pruner.tui.panes.widgets import ONE_MORE, Lines, Pane
from tui_pruner.tui.screens.base import BEAT_SECONDS, ActionScreen, expect_size

if TYPE_CHECKING:
    from tui_pruner.tui.screens.workbench import Workbench

SMALLEST_WIDE = 100
MOST_BYTES = 32 << 10
CONTROL = re.compile(r"\x1b\[[0-9;?]*[ -/]*[@-~]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)|[\x00-\x08\x0b-\x1f\x7f]")


class LogTail:
    """Reads the end of one log at a time."""

    def __init__(self) -> None:
        self._read: tuple[Path | None, int] = (None, -1)
        self.lines: list[str] = []

    @property
    def log(self) -> Path | None:
        """The log that is being read."""
        return self._read[0]

    def follow(self, log: Path | None) -> bool:
        """Read the end of this log if it has grown; return whether it had."""
        size = _size(log)
        if (log, size) == self._read:
            return False
        self._read = (log, size)
        self.lines = [] if log is None or size <= 0 else plain_lines(_end_of(log, size), whole=size <= MOST_BYTES)
        return True


def plain_lines(content: bytes, whole: bool = True) -> list[str]:
    """Lines without control characters; of one that a progress bar overwrote, its last state; the first one only if `whole`."""
    lines = content.decode("utf-8", "replace").split("\n")
    if not whole:
        lines = lines[1:]
    while lines and not lines[-1].strip():
        lines.pop()
    return [CONTROL.sub("", line.rstrip("\r").rpartition("\r")[2]).expandtabs().rstrip() for line in lines]


def window(lines: Sequence[str], width: int, height: int, back: int) -> list[str]:
    """The part of a log in a window of this size, `back` lines before the end: exactly `height` lines, long ones wrapped."""
    parts = [part for line in lines for part in broken(line, width)]
    end = max(len(parts) - back, min(height, len(parts)))
    shown = parts[max(end - height, 0) : end]
    return shown + [""] * (height - len(shown))


def _size(log: Path | None) -> int:
    try:
        return -1 if log is None else log.stat().st_size
    except OSError:
        return -1


def _end_of(log: Path, size: int) -> bytes:
    try:
        with log.open("rb") as stream:
            stream.seek(max(size - MOST_BYTES, 0))
            return stream.read(MOST_BYTES)
    except OSError:
        return b""


LOG_BEATS = 4  # its whole pane moves with each line
SHARED = ("automatic", "help")
PANES = ("job-list", "job", "log")
FOOTER = [action for action in ACTIONS if action.footer and (action.pane == ALL_JOBS or action.id in SHARED)]


class LogPane(Pane, inherit_bindings=False):
    """The pane of the log, which shows a part of it; the screen scrolls it."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up,k", "screen.run('log-back', 1)", "Up", show=False),
        Binding("down,j", "screen.run('log-back', -1)", "Down", show=False),
        Binding("pageup,ctrl+u", "screen.run('log-back', 10)", "Page up", show=False),
        Binding("pagedown,ctrl+d", "screen.run('log-back', -10)", "Page down", show=False),
        Binding("home,g", "screen.run('log-back', 100000)", "Beginning", show=False),
        Binding("end,G", "screen.run('log-back', -100000)", "End", show=False),
    ]


class JobList(Pane, inherit_bindings=False):
    """The pane of the list; the screen binds up and down, which move from job to job."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("home,g", "screen.run('job-move', -100000)", "First job", show=False),
        Binding("end,G", "screen.run('job-move', 100000)", "Last job", show=False),
        Binding("ctrl+u", "screen.run('job-move', -5)", "Jobs above", show=False),
        Binding("ctrl+d", "screen.run('job-move', 5)", "Jobs below", show=False),
    ]


class AllJobs(ActionScreen, inherit_bindings=False):
    """Shows all jobs; it changes only the queue."""

    BINDINGS: ClassVar[list[BindingType]] = [
        *bindings(ACTIONS, ALL_JOBS),
        *(action.binding for action in ACTIONS if action.id in SHARED),
    ]
    HORIZONTAL_BREAKPOINTS = [(0, "-narrow"), (100, "-wide")]
    AUTO_FOCUS = "#job-list"

    def __init__(self, workbench: Workbench) -> None:
        super().__init__()
        self.store = workbench.store
        self.dialogs = workbench.dialogs
        self._queue = workbench.queue
        self._controller = JobListController(self._queue, self.dialogs, self)
        shared = [action for action in workbench.registry if action.id in SHARED]
        self.registry = Registry([*self._controller.actions(), *shared])
        self.registry.register((), {"log-back": self.log_back, "job-move": self._controller.move})
        self._tail = LogTail()
        self._back = 0
        self._beats = 0
        self._heart: Timer | None = None

    def compose(self) -> ComposeResult:
        """Compose header, list, job, log and footer."""
        expect_size(self)
        yield Lines(id="jobs-header", expected=self.app.size.width)
        with Container(id="views"):
            yield JobList("Jobs", id="job-list")
            with Vertical(id="one"):
                yield Pane("Job", id="job")
                yield LogPane("Log", id="log")
        yield Lines(id="jobs-footer", expected=self.app.size.width)

    @property
    def current_pane(self) -> str:
        """What the keys act on: the jobs."""
        return ALL_JOBS

    def on_mount(self) -> None:
        """Observe the queue while the screen exists."""
        self._heart = self.set_interval(BEAT_SECONDS, self._beat)
        self._unwatch = self._queue.watch(self)
        width = self.app.size.width
        for pane in self.query(Pane):
            pane.expect(width * (5 if pane.id == "job-list" else 4) // 9 - 4 if width >= SMALLEST_WIDE else width - 4)
        self.query_one("#jobs-footer", Lines).draw(lambda width, _: [fitting(FOOTER, width)])
        self.draw_all()

    def on_unmount(self) -> None:
        """Stop observing the queue."""
        self._unwatch()

    def on_resize(self) -> None:
        """Compose everything for the new size."""
        self.call_after_refresh(self.draw_all)
        self.call_after_refresh(self._show_log)

    @on(JobsChanged)
    def show_change(self) -> None:
        """Draw the queue's state."""
        self.draw_all()

    def acted(self) -> None:
        """Show the changes of an action."""
        self.draw_all(with_log=False)

    def log_back(self, lines: int) -> None:
        """Scroll back in the log, or towards its end, where it follows new lines."""
        self._back = min(max(self._back + lines, 0), max(len(self._tail.lines) - 1, 0))
        self._show_log()

    def next_pane(self) -> None:
        """Focus the next pane."""
        focused = self.focused.id if self.focused is not None else None
        here = PANES.index(focused) if focused in PANES else -1
        self.set_focus(self.query_one(f"#{PANES[(here + 1) % len(PANES)]}"))

    def leave(self) -> None:
        """Go back to the workbench."""
        self.dismiss(None)

    def draw_all(self, with_log: bool = True) -> None:
        """Draw every pane, and run the pulse while a job runs; nothing once the screen is being left."""
        if self not in self.app.screen_stack or not self.children:
            return
        self._draw_header()
        self._draw_list()
        self._draw_job()
        if with_log:
            self._draw_log()
        if self._heart is not None:
            (self._heart.resume if self._queue.busy else self._heart.pause)()

    def _draw_header(self) -> None:
        jobs, state = list(self._queue.jobs), self.store.state
        self.query_one("#jobs-header", Lines).draw(lambda width, _: [header_line(jobs, state.automatic, width, state.refitting)])

    def _draw_list(self) -> None:
        jobs, chosen, now = list(self._queue.jobs), self._controller.chosen, time.monotonic()
        line = jobs.index(chosen) if chosen is not None else 0
        self.query_one("#job-list", Pane).draw_at(lambda width: (list_lines(jobs, chosen, now, width, self._beats), line, ONE_MORE))

    def _draw_job(self) -> None:
        job = self._controller.chosen
        if job is None:
            return
        before, now = self._queue.before(job), time.monotonic()
        self.query_one("#job", Pane).draw(lambda width, _: job_detail_lines(job, before, now, width), job.spec.name)

    def _draw_log(self) -> None:
        chosen = self._controller.chosen
        log = chosen.log if chosen else None
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
