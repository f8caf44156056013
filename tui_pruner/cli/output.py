"""Two streams: results on the real stdout, all other output on stderr."""

from __future__ import annotations

import json
import math
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, TextIO

import typer
from rich.console import Console
from rich.table import Table

from tui_pruner.domain.errors import ProofError, PrunerError
from tui_pruner.domain.formatting import clock, large, printable
from tui_pruner.domain.results import short_metric

if TYPE_CHECKING:
    from tui_pruner.engine.job_messages import JobProgress

AS_EVENTS: ContextVar[bool] = ContextVar("AS_EVENTS", default=False)
"""Whether remarks and progress are written as JSON, a line each: {"event": "progress", "done", "total", "doing", "metrics"}, and
{"event": "remark", "text"}.
"""
WIDTH_WITHOUT_TERMINAL = 10_000
"""No line is cut, since a program or a file is the reader."""


class PlainConsole(Console):
    """A console that leaves a closed pipe to the caller; Rich's own exits with the status that means "no" here."""

    def on_broken_pipe(self) -> None:
        """Raise the BrokenPipeError that is being handled."""
        raise


class Output:
    """The results of a command: a table for people, or one JSON document."""

    def __init__(self, stream: TextIO, as_json: bool) -> None:
        self.as_json = as_json
        self._stream = stream
        terminal = stream.isatty()
        width = None if terminal else WIDTH_WITHOUT_TERMINAL
        self._console = PlainConsole(file=stream, force_terminal=terminal, width=width, highlight=False, soft_wrap=not terminal)

    def document(self, content: dict[str, Any]) -> None:
        """Print the JSON document, if JSON was requested; NaN becomes null."""
        if self.as_json:
            end_line()
            self._stream.write(json.dumps(finite(content), allow_nan=False) + "\n")

    def result(self, found: Any) -> None:
        """Write the notes of a job's result to stderr, and all of it as the document."""
        for note in found.notes:
            say(note)
        self.document(found.model_dump())

    def line(self, text: str = "", style: str = "") -> None:
        """Print a line for people."""
        if not self.as_json:
            end_line()
            text = "\n".join(map(printable, text.split("\n")))
            self._console.print(text, style=style or None, markup=False)

    def table(self, columns: Sequence[str], rows: Sequence[Sequence[object]], right: Sequence[str] = (), wraps: Sequence[str] = ()) -> None:
        """Print a table for people; the columns named in `right` are aligned to the right.

        Where it is too wide, the last column and those in `wraps` continue on further lines, so that no number is cut.
        """
        if self.as_json:
            return
        end_line()
        table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
        for column in columns:
            table.add_column(
                column, justify="right" if column in right else "left", no_wrap=column in right or column not in (*wraps, columns[-1])
            )
        for row in rows:
            table.add_row(*(printable(str(cell)) for cell in row))
        if self._console.is_terminal:
            self._console.print(table)
            return
        with self._console.capture() as written:
            self._console.print(table)
        # Without spaces at the ends: a pager on a narrow terminal would show them as empty lines.
        self._stream.write("".join(f"{line.rstrip()}\n" for line in written.get().splitlines()))


@contextmanager
def reserved_stdout(as_json: bool) -> Iterator[Output]:
    """Reserve stdout for results while a command runs: output of native code and library handlers goes to stderr instead."""
    sys.stdout.flush()
    real, shown = os.dup(1), sys.stdout
    os.dup2(2, 1)
    sys.stdout = sys.stderr
    stream = os.fdopen(real, "w", encoding="utf-8", closefd=False)
    try:
        output = Output(stream, as_json)
        try:
            yield output
        except ProofError as error:  # a script gets the figures too
            if error.proof is not None:
                output.document({"output": None, "proof": error.proof})
            raise
        stream.flush()
    except BrokenPipeError:  # `| head` has seen enough; the option parser would make it status 1, which means "no" here
        raise typer.Exit from None
    finally:
        with suppress(OSError):
            stream.flush()
        os.dup2(real, 1)
        os.close(real)
        sys.stdout = shown


def finite(content: Any) -> Any:
    """Plain data with null for infinity and not-a-number, which JSON does not have."""
    if isinstance(content, float):
        return content if math.isfinite(content) else None
    if isinstance(content, dict):
        return {key: finite(value) for key, value in content.items()}
    return [finite(value) for value in content] if isinstance(content, (list, tuple)) else content


class ProgressLine:
    """One line at the end of a terminal: what is done, a bar, the time elapsed and left, the current figure. Remarks are printed above it.

    It is shown from the first report until `end`; nothing of it stays on the screen.
    """

    def __init__(self, console: Console | None = None) -> None:
        self._console = console
        self._shown: Any = None
        self._task: Any = None
        self._began = 0.0
        self._last = (0, 0)

    def show(self, progress: JobProgress, job: str = "") -> None:
        """Show the progress of a job; the time left is estimated again for each part."""
        done, total = progress.done, progress.total
        if self._shown is None:
            self._begin()
        if total != self._last[1] or done < self._last[0]:
            self._shown.remove_task(self._task)
            self._task = self._shown.add_task("", total=total or None, completed=done, figure="", counted="")
        self._last = (done, total)
        found = short_metric(progress.metrics) or next(
            ((name.rpartition("/")[2], value) for name, value in progress.metrics.items() if name.startswith("train/")), None
        )
        figure = f"{found[0]} {found[1]:.3g}" if found else ""
        words = printable(" ".join(filter(None, (job, progress.doing))))
        self._shown.update(self._task, completed=done, description=words, figure=figure, counted=f"{done}/{total}" if total else "")

    def say(self, text: str) -> None:
        """Print a line above."""
        self._shown.console.print(text, markup=False, highlight=False)

    def end(self) -> None:
        """Remove it."""
        if self._shown is not None:
            self._shown.stop()
            self._shown = None

    @property
    def there(self) -> bool:
        """Whether it is on the screen now."""
        return self._shown is not None

    def _begin(self) -> None:
        from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn
        from rich.table import Column
        from rich.text import Text

        self._began = self._began or time.monotonic()

        class Times(ProgressColumn):
            """The time since the first report, and the estimate for the rest of the current part."""

            def render(inner, task: Task) -> Text:
                left = task.time_remaining
                known = f", {clock(left)} left" if left is not None and task.total else ""
                return Text(f"{clock(time.monotonic() - self._began)}{known}", no_wrap=True)

        console = self._console or Console(stderr=True, highlight=False)
        self._shown = Progress(
            TextColumn("{task.description}", markup=False, table_column=Column(ratio=1, no_wrap=True, overflow="ellipsis")),
            BarColumn(bar_width=max(8, console.width // 5)), TextColumn("{task.fields[counted]}", markup=False), Times(),
            TextColumn("{task.fields[figure]}", markup=False),
            console=console, transient=True, expand=True, refresh_per_second=4,
        )  # fmt: skip
        self._task = self._shown.add_task("", total=None, figure="", counted="")
        self._last = (0, 0)
        self._shown.start()
        console.show_cursor(True)  # a process that is killed leaves it as it is


BEGINNING: ContextVar[list[str] | None] = ContextVar("BEGINNING", default=None)
"""Lines of text about what is read and prepared: told with the first thing that is done, since bad input is one line alone."""
LINE: ContextVar[ProgressLine | None] = ContextVar("LINE", default=None)
"""Where progress is shown on a terminal; None where it is written as lines."""


@contextmanager
def progress_shown(as_events: bool) -> Iterator[None]:
    """Show progress while a command runs: JSON events, a bar on a terminal, or lines of text."""
    terminal = sys.stderr.isatty() and os.environ.get("TERM", "dumb") not in ("dumb", "unknown")
    line = ProgressLine() if terminal and not as_events else None
    events, before, beginning = AS_EVENTS.set(as_events), LINE.set(line), BEGINNING.set([])
    try:
        yield
    except PrunerError as error:
        if error.exit_status == PrunerError.exit_status:
            BEGINNING.set([])
        raise
    finally:
        if line is not None:
            line.end()
        begin()
        BEGINNING.reset(beginning)
        LINE.reset(before)
        AS_EVENTS.reset(events)


def end_line() -> None:
    """Remove the bar before something else is printed."""
    line = LINE.get()
    if line is not None:
        line.end()


def begin() -> None:
    """Tell what was held back."""
    held = BEGINNING.get()
    for text in held or ():
        print(text, file=sys.stderr)
    if held:
        held.clear()


def write_line(text: str, progress: JobProgress) -> None:
    """A line of progress on stderr; later, where input is only looked at."""
    held = BEGINNING.get()
    if held is not None and not progress.begun:
        held.append(printable(text))
    else:
        say(text)


def say(text: str) -> None:
    """Write a remark to stderr."""
    begin()
    line, shown = LINE.get(), "\n".join(map(printable, text.split("\n")))
    if AS_EVENTS.get():
        event("remark", text=text)
    elif line is not None and line.there:
        line.say(shown)
    else:
        print(shown, file=sys.stderr)


def event(kind: str, **content: Any) -> None:
    """Write one JSON line to stderr."""
    print(json.dumps(finite({"event": kind, **content}), allow_nan=False), file=sys.stderr, flush=True)


def progress_of(job: str) -> Callable[[JobProgress], None]:
    """A function that writes a job's progress to stderr."""

    def tell(progress: JobProgress) -> None:
        line = LINE.get()
        if AS_EVENTS.get():
            event("progress", job=job, **progress.model_dump(exclude={"begun"}))
        elif line is not None:
            line.show(progress, job)
        else:
            write_line(f"{job} {progress.done}/{progress.total} {progress.doing}".rstrip(), progress)

    return tell


def write_progress(progress: JobProgress, figures: str = "") -> None:
    """Write the progress of the part that a job names; `figures` is appended to a line of text."""
    line = LINE.get()
    if AS_EVENTS.get():
        event("progress", **progress.model_dump(exclude={"begun"}))
    elif line is not None:
        line.show(progress)
    else:
        words = f"{progress.doing}  {figures} ".rstrip() if figures else progress.doing
        write_line(f"{words} {progress.done}/{progress.total}" if progress.total else words, progress)


def change(before: float, after: float) -> str:
    """Two figures and the change between them: "3.01M > 2.21M -27%"."""
    share = f" {100 * (after - before) / before:+.1f}%" if before else ""
    return f"{large(before)} -> {large(after)}{share}"


def shape(sides: Sequence[int]) -> str:
    """A shape: 64x80x80."""
    return "x".join(str(side) for side in sides)
