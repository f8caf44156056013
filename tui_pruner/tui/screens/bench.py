"""The workbench's frame: its panes, what they show, and how they are laid out at each size."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from rich.text import Text
from textual import events
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Horizontal, Vertical
from textual.screen import Screen
from textual.timer import Timer

from tui_pruner.tui.actions import bindings
from tui_pruner.tui.board import Board
from tui_pruner.tui.compare_text import Compared, NotCompared, compare_lines, compare_title
from tui_pruner.tui.detail_text import detail_lines, title
from tui_pruner.tui.drawing import fit
from tui_pruner.tui.explain_text import explain_lines, explain_title, stop_line
from tui_pruner.tui.figures import clock, plural
from tui_pruner.tui.footer_text import footer_text
from tui_pruner.tui.glyphs import CALM
from tui_pruner.tui.header_text import header_lines, waiting_line
from tui_pruner.tui.inquiry import Inquiry
from tui_pruner.tui.job_queue import JobQueue
from tui_pruner.tui.jobs_text import Work, job_lines, jobs_title, running_line, spinner
from tui_pruner.tui.opening import Opening
from tui_pruner.tui.scores import Scores
from tui_pruner.tui.screens.path_prompt import PathPrompt
from tui_pruner.tui.screens.question import Answer, Question
from tui_pruner.tui.steps_text import last_step, step_lines
from tui_pruner.tui.timeline import Timeline
from tui_pruner.tui.widgets.entry_lines import EntryLine
from tui_pruner.tui.widgets.lines import DetailPane, Lines, MapPane, Pane, StepsPane
from tui_pruner.tui.widgets.model_tree import ModelTree

if TYPE_CHECKING:
    from tui_pruner.tui.session import EngineSession
    from tui_pruner.tui.subject import Subject
    from tui_pruner.tui.validations import Validations

SMALLEST = (60, 15)
PANES = ("tree", "detail", "steps")
BEAT = 2.0 if CALM else 0.25


class Bench(Screen[None], inherit_bindings=False):
    """State and drawing; the actions are in its subclasses."""

    BINDINGS: ClassVar[list[BindingType]] = list(bindings())
    AUTO_FOCUS = "#tree"
    has_palette = True
    HORIZONTAL_BREAKPOINTS = [(0, "-tiny"), (SMALLEST[0], "-narrow"), (100, "-wide")]
    VERTICAL_BREAKPOINTS = [(0, "-flat"), (SMALLEST[1], "-low"), (32, "-tall"), (48, "-high")]

    def __init__(self, opening: Opening) -> None:
        super().__init__()
        self.opening = opening
        self.board: Board | None = None
        self.inquiry: Inquiry | None = None
        self.on_map = False
        self.pane = "tree"
        self.timeline = Timeline()
        self.compared: Compared | NotCompared | None = None
        self.scores = Scores()
        self.session: EngineSession | None = None
        self.jobs = JobQueue(self)
        self.subject: Subject | None = None
        self.validations: Validations | None = None
        self.automatic = True
        self.refitting = False
        self.doing = f"loading {opening.name}"
        self.notes: list[tuple[str, bool]] = []
        self.began = time.monotonic()
        self.filter_line = EntryLine("name, type, section or status", id="filter")
        self.amount_line = EntryLine("", id="amount")
        self._beats = 0
        self._heart: Timer | None = None

    def compose(self) -> ComposeResult:
        """Header, panes, footer."""
        yield Lines(id="header", expected=self.app.size.width)
        with Horizontal(id="panes"):
            with Vertical(id="left"):
                yield self.filter_line
                yield ModelTree(id="tree")
                yield MapPane("Map", id="map")
            yield DetailPane("Detail", id="detail")
        with Horizontal(id="bottom"):
            yield StepsPane("Steps", id="steps")
            yield Pane("Jobs", id="jobs")
        yield Lines(id="status")
        yield self.amount_line
        yield Lines(id="footer", expected=self.app.size.width)
        yield Lines(id="too-small")

    @property
    def model_tree(self) -> ModelTree:
        """The model tree."""
        return self.query_one("#tree", ModelTree)

    @property
    def left_pane(self) -> ModelTree | MapPane:
        """The tree, or the map in its place."""
        return self.query_one("#map", MapPane) if self.on_map else self.model_tree

    @property
    def detail_pane(self) -> DetailPane:
        """The detail of the row under the cursor, or an explanation."""
        return self.query_one("#detail", DetailPane)

    @property
    def place(self) -> str:
        """What the footer tells about: the pane that one is in."""
        return self.pane

    @property
    def busy(self) -> bool:
        """Whether something is under way that the screen shows moving."""
        return bool(self.doing) or self.jobs.busy

    def on_mount(self) -> None:
        """Draw the empty frame and set the pulse that runs only while something is under way."""
        self.add_class("show-tree")
        self.query_one("#jobs").can_focus = False
        self._heart = self.set_interval(BEAT, self._beat)
        self.draw_all()

    def on_resize(self, event: events.Resize) -> None:
        """Compose everything for the new size."""
        self.call_after_refresh(self.draw_all)

    def on_screen_resume(self) -> None:
        """Catch up with what went on behind the screen that was in front."""
        self.call_after_refresh(self.draw_all)

    def draw_all(self) -> None:
        """Show the present state in every pane; a screen that was left meanwhile loses its panes one by one."""
        if not self.children or self not in self.app.screen_stack:
            return
        self.draw_header()
        self.draw_detail()
        self.draw_steps()
        self.draw_jobs()
        self.draw_footer()
        self.redraw_left()
        width, height = self.size
        message = Text(f"The terminal is {width}x{height}; tui-pruner needs {SMALLEST[0]}x{SMALLEST[1]}.")
        self.query_one("#too-small", Lines).draw(lambda *_: [message])

    def redraw_left(self) -> None:
        """Show what changed in the tree and on the map."""
        self.model_tree.redraw()
        self.draw_map()

    def keep_session(self) -> None:
        """Keep the session on disk, where the screen does."""

    def draw_map(self) -> None:
        """The map, where the screen has one."""

    def compare_steps(self) -> None:
        """Compare the step under the cursor, where the screen can."""

    def draw_header(self) -> None:
        """The model and its totals."""
        board = self.board
        if board is None:
            what = f"{spinner(self._beats)} loading  {clock(time.monotonic() - self.began)}" if self.doing else "not loaded"
            self.query_one("#header", Lines).draw(lambda width, _: [waiting_line(self.opening.name, what, width)])
            return
        self.query_one("#header", Lines).draw(lambda width, _: header_lines(board, self.scores, width))

    def draw_detail(self) -> None:
        """The explanation that is open, or the row under the cursor."""
        board, row, inquiry = self.board, self.model_tree.row, self.inquiry
        if board is None:
            return
        if compared := self.compared:
            self.detail_pane.draw(lambda width, _: compare_lines(compared, width), compare_title(compared))
        elif inquiry is None:
            self.detail_pane.draw(lambda width, _: detail_lines(row, board, width), title(row))
        else:
            self._draw_inquiry(inquiry)

    def _draw_inquiry(self, inquiry: Inquiry) -> None:
        room = self.detail_pane.scrollable_content_region.width
        line = explain_lines(inquiry, room)[1] if room else 0
        self.detail_pane.draw(lambda width, _: explain_lines(inquiry, width)[0], explain_title(inquiry), see=line)

    def draw_steps(self) -> None:
        """The steps, and in a small window the last one."""
        board = self.board
        if board is None:
            return
        timeline = self.timeline if self.pane == "steps" else None
        line = step_lines(board, self.scores, 80, timeline)[1]
        self.query_one("#steps", StepsPane).draw(lambda width, _: step_lines(board, self.scores, width, timeline)[0], see=line)
        if self.compared:
            self.draw_detail()
        self._draw_status(board)

    def draw_jobs(self) -> None:
        """What runs."""
        work = self.work()
        self.query_one("#jobs", Pane).draw(lambda width, height: job_lines(work, width, height), jobs_title(self.automatic, self.refitting))
        if self.board is not None:
            self._draw_status(self.board)

    def draw_footer(self) -> None:
        """The main keys, with what they act on."""
        marks = len(self.board.marks) if self.board else 0
        place = self.place
        rounding = self.board.asked.round_to if self.board else 1
        states = (f"{plural(marks, 'layer')} marked" if marks else "", f"multiples of {rounding}" if rounding > 1 else "")
        leading = ", ".join(filter(None, states))
        self.query_one("#footer", Lines).draw(lambda width, _: [footer_text(width, leading, place)])

    def work(self) -> Work:
        """What the jobs pane shows now."""
        return Work(self.jobs.running, self.jobs.waiting, self.doing, self.notes, self._beats, time.monotonic())

    def wake(self) -> None:
        """Let the pulse run while something is under way, and stop it otherwise."""
        if self._heart is not None:
            (self._heart.resume if self.busy else self._heart.pause)()
        self.draw_jobs()

    def say(self, text: str, severity: str = "information") -> None:
        """One line to the user."""
        self.app.notify(text, severity=severity, timeout=8 if severity != "information" else 4, markup=False)  # type: ignore[arg-type]

    def ask_place(self, prompt: PathPrompt, put: Callable[[str, bool], None], fault: Callable[[Path], str] = lambda _: "") -> None:
        """Ask where to put a file, and before replacing one; `put` gets the place, and whether a file there may be replaced."""

        def take(path: str | None) -> None:
            place = Path(path or "").expanduser()
            if not path:
                return
            if said := fault(place):
                self.say(said, "error")
            elif place.exists():
                question = Question("Replace the file?", f"{place} exists.", [Answer("r", "replace it", "replace")])
                self.app.push_screen(question, lambda answer: put(str(place), True) if answer else None)
            else:
                put(str(place), False)

        self.app.push_screen(prompt, take)

    def _draw_status(self, board: Board) -> None:
        work, inquiry = self.work(), None if self.has_class("show-detail") else self.inquiry
        self.query_one("#status", Lines).draw(
            lambda width, _: [
                last_step(board, self.scores, width - 2) if inquiry is None else stop_line(inquiry, width - 2),
                *([running_line(work, width - 2)] if work.running else [Text(fit(work.doing, width - 2))] if work.doing else []),
            ]
        )

    def _beat(self) -> None:
        self._beats += 1
        # Behind another screen not: Textual would paint that one whole each time, a hundred kilobytes a second.
        if self.is_active:
            if self.board is None:
                self.draw_header()
            self.draw_jobs()
        if not self.busy and self._heart is not None:
            self._heart.pause()
