"""Two streams: results on the real stdout, everything that anybody else prints on stderr."""

from __future__ import annotations

import json
import math
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, TextIO

import typer
from rich.console import Console
from rich.table import Table

from tui_pruner.domain.errors import ProofError
from tui_pruner.domain.formatting import large, printable

if TYPE_CHECKING:
    from tui_pruner.engine.job_messages import JobProgress

AS_EVENTS: ContextVar[bool] = ContextVar("AS_EVENTS", default=False)
"""Whether remarks and progress are told as JSON, a line each: {"event": "progress", "done", "total", "doing", "metrics"}, and
{"event": "remark", "text"}."""
WIDTH_WITHOUT_TERMINAL = 10_000
"""No line is cut: it is for a program or a file."""


class PlainConsole(Console):
    """A console that leaves a reader who has gone away to the caller; Rich's own exits with the status that means "no" here."""

    def on_broken_pipe(self) -> None:
        """Raise the BrokenPipeError that is being handled."""
        raise


class Output:
    """Where a command's results go: a table for people, or one JSON document."""

    def __init__(self, stream: TextIO, as_json: bool) -> None:
        self.as_json = as_json
        self._stream = stream
        terminal = stream.isatty()
        width = None if terminal else WIDTH_WITHOUT_TERMINAL
        self._console = PlainConsole(file=stream, force_terminal=terminal, width=width, highlight=False, soft_wrap=not terminal)

    def document(self, content: dict[str, Any]) -> None:
        """Print the JSON document, where JSON was asked for; NaN becomes null."""
        if self.as_json:
            self._stream.write(json.dumps(finite(content), allow_nan=False) + "\n")

    def line(self, text: str = "", style: str = "") -> None:
        """Print a line for people."""
        if not self.as_json:
            text = "\n".join(map(printable, text.split("\n")))
            self._console.print(text, style=style or None, markup=False)

    def table(self, columns: Sequence[str], rows: Sequence[Sequence[object]], right: Sequence[str] = ()) -> None:
        """Print a table for people; the columns named in `right` are aligned to the right."""
        if self.as_json:
            return
        table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
        for column in columns:
            table.add_column(column, justify="right" if column in right else "left", no_wrap=True)
        for row in rows:
            table.add_row(*(printable(str(cell)) for cell in row))
        self._console.print(table)


@contextmanager
def reserved_stdout(as_json: bool) -> Iterator[Output]:
    """Keep stdout for results while a command runs: native code and library handlers that print there reach stderr instead."""
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


def say(text: str) -> None:
    """A remark on stderr."""
    if AS_EVENTS.get():
        event("remark", text=text)
    else:
        print("\n".join(map(printable, text.split("\n"))), file=sys.stderr)


def event(kind: str, **content: Any) -> None:
    """One JSON line on stderr."""
    print(json.dumps(finite({"event": kind, **content}), allow_nan=False), file=sys.stderr, flush=True)


def progress_of(job: str) -> Callable[[JobProgress], None]:
    """Says on stderr how far a job is."""

    def tell(progress: JobProgress) -> None:
        if AS_EVENTS.get():
            event("progress", job=job, **progress.model_dump())
        else:
            say(f"{job} {progress.done}/{progress.total} {progress.doing}".rstrip())

    return tell


def tell_progress(progress: JobProgress) -> None:
    """Says on stderr how far the part of a job is that it names itself."""
    if AS_EVENTS.get():
        event("progress", **progress.model_dump())
    else:
        say(f"{progress.doing} {progress.done}/{progress.total}" if progress.total else progress.doing)


def change(before: float, after: float) -> str:
    """Two figures and the change between them: "3.01M > 2.21M -27%"."""
    share = f" {100 * (after - before) / before:+.1f}%" if before else ""
    return f"{large(before)} -> {large(after)}{share}"


def shape(sides: Sequence[int]) -> str:
    """A shape: 64x80x80."""
    return "x".join(str(side) for side in sides)
