"""The list of all jobs as text: one line each, the oldest first."""

from __future__ import annotations

from collections.abc import Sequence

from rich.text import Text

from tui_pruner.tui import colours
from tui_pruner.tui.actions import key_of
from tui_pruner.tui.drawing import fit
from tui_pruner.tui.figures import clock, plural
from tui_pruner.tui.glyphs import GLYPHS
from tui_pruner.tui.jobs_text import progress_text, spinner, switch_text
from tui_pruner.tui.queued_job import CANCELLED, DONE, FAILED, RUNNING, WAITING, QueuedJob

SHORTEST_NAME, LONGEST_NAME = 12, 24
TIME = 6
STATES = (RUNNING, WAITING, DONE, FAILED, CANCELLED)


def list_lines(jobs: Sequence[QueuedJob], chosen: QueuedJob | None, now: float, width: int, beat: int) -> list[Text]:
    """A line for each job, the chosen one marked."""
    names = min(max(SHORTEST_NAME, *(len(job.wanted.name) for job in jobs)), LONGEST_NAME) if jobs else 0
    lines = []
    for place, job in enumerate(jobs):
        text = _head(job, job is chosen, names, beat)
        text.append_text(_course(job, sum(not other.over for other in jobs[:place]), now, width - text.cell_len))
        lines.append(_filled(text, job is chosen, width))
    return lines or [Text(fit(none_yet(), width).rstrip(), colours.MUTED)]


def none_yet() -> str:
    """What stands in an empty list."""
    return f"no job yet: {key_of('validate')} in the workbench validates the model as it stands"


def header_line(jobs: Sequence[QueuedJob], automatic: bool, width: int, refitting: bool = False) -> Text:
    """How many jobs there are, and whether every step is validated and refitted."""
    switch = f"   {switch_text(automatic, refitting)}"
    return Text.assemble((f" {fit(counted(jobs), width - len(switch) - 1).rstrip()}", colours.STRONG), switch)


def counted(jobs: Sequence[QueuedJob]) -> str:
    """How many there are of each state: "1 running, 2 waiting, 3 done"."""
    numbers = {state: sum(job.state == state for job in jobs) for state in STATES}
    return ", ".join(f"{number} {state}" for state, number in numbers.items() if number) or "no jobs"


def sign(job: QueuedJob, beat: int) -> tuple[str, str]:
    """A job's state in one sign, with its colour."""
    signs = {
        RUNNING: (spinner(beat), colours.WARNING),
        WAITING: (GLYPHS.dot, colours.MUTED),
        DONE: (GLYPHS.good, colours.GOOD),
        FAILED: (GLYPHS.bad, colours.BAD),
        CANCELLED: (GLYPHS.minus, colours.MUTED),
    }
    return signs[job.state]


def standing(job: QueuedJob, before: int) -> str:
    """Where a job that does not run stands, in a few words; `before` jobs come before it."""
    words = {
        WAITING: "is next" if before == 0 else f"waits for {plural(before, 'job')}",
        DONE: job.outcome.figure,
        FAILED: str(job.error),
        CANCELLED: "cancelled",
    }
    return words[job.state]


def _head(job: QueuedJob, chosen: bool, names: int, beat: int) -> Text:
    mark, style = sign(job, beat)
    cursor = GLYPHS.closed if chosen else " "
    return Text.assemble(
        (f"{cursor} ", colours.WARNING),
        (fit(mark, 2), style),
        " ",
        (fit(job.wanted.name, names), colours.STRONG if chosen else colours.TEXT),
    )


def _course(job: QueuedJob, before: int, now: float, width: int) -> Text:
    if job.state == RUNNING:
        return progress_text(job, now, width)
    time = clock(job.elapsed(now)) if job.started is not None else ""
    words = fit(standing(job, before), width - TIME - 3)
    return Text(f"  {words} {fit(time, TIME, right=True)}", colours.BAD if job.state == FAILED else colours.MUTED)


def _filled(text: Text, chosen: bool, width: int) -> Text:
    text.append(" " * max(width - text.cell_len, 0))
    if chosen:
        text.stylize(f"on {colours.SELECTION}")
    return text
