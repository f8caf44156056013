"""The jobs pane as text: what runs, how far it is, what waits, and what came out last."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich.text import Text

from tui_pruner.metrics import short_metric
from tui_pruner.tui import colours
from tui_pruner.tui.actions import key_of
from tui_pruner.tui.drawing import fit, slider
from tui_pruner.tui.figures import clock, plural, score
from tui_pruner.tui.glyphs import GLYPHS
from tui_pruner.tui.queued_job import QueuedJob

WIDEST_BAR, NARROWEST_BAR = 30, 4


@dataclass(frozen=True)
class Work:
    """What the jobs pane shows: the running job, the queue, the engine's long call, and the last results, newest last."""

    running: QueuedJob | None = None
    waiting: Sequence[QueuedJob] = ()
    doing: str = ""
    notes: Sequence[tuple[str, bool]] = ()
    beat: int = 0
    now: float = 0.0


def jobs_title(automatic: bool, refitting: bool = False) -> str:
    """The pane's title, with the switches."""
    return f"Jobs {GLYPHS.dot} {switch_text(automatic, refitting)}"


def switch_text(automatic: bool, refitting: bool = False) -> str:
    """Whether every step is validated, and that it is refitted before where it is."""
    if refitting:
        return f"every step: refit{', validate' if automatic else ''}"
    return f"validate every step: {'on' if automatic else 'off'}"


def job_lines(work: Work, width: int, height: int = 4) -> list[Text]:
    """The pane's lines, at most `height` of them: work first, then as many results as there is room for."""
    lines = []
    if work.doing:
        lines.append(Text.assemble((f"{spinner(work.beat)} ", colours.WARNING), fit(work.doing, width - 2).rstrip()))
    if work.running is not None:
        lines.append(running_line(work, width))
        if (told := so_far(work.running)) and told[0] not in lines[-1].plain:
            lines.append(Text(f"  {told[0]}", colours.MUTED))
    if work.waiting:
        lines.append(Text(fit(f"  then {', '.join(job.wanted.title for job in work.waiting)}", width).rstrip(), colours.MUTED))
    room = max(height - len(lines), 0)
    for note, failed in list(work.notes)[-room:] if room else []:
        sign, style = (GLYPHS.bad, colours.BAD) if failed else (GLYPHS.good, colours.GOOD)
        lines.append(Text.assemble((f"{sign} ", style), (fit(note, width - len(sign) - 1).rstrip(), style if failed else colours.MUTED)))
    return lines or [Text(f"nothing runs: {key_of('validate')} validates, {key_of('write')} writes", colours.MUTED)]


def running_line(work: Work, width: int) -> Text:
    """The running job with its progress."""
    assert work.running is not None
    lead = Text.assemble((f"{spinner(work.beat)} ", colours.WARNING), work.running.wanted.name)
    hint = f"  {key_of('cancel-job')} {_ending(work.running)}"
    return lead.append_text(progress_text(work.running, work.now, width - lead.cell_len, hint))


def progress_text(job: QueuedJob, now: float, width: int, hint: str = "") -> Text:
    """A running job's bar, count, metric so far, and time left, as much as fits into `width` cells, and `hint` if there is room."""
    progress = job.progress
    if progress is None or not progress.total:
        return Text(f"  starting  {clock(job.elapsed(now))}", colours.MUTED)
    tails = [f"{progress.done}/{progress.total}", *so_far(job), time_left(job, now)]
    tail = "  ".join(tails)
    if len(tail) + NARROWEST_BAR + 4 > width:
        tail = "  ".join((tails[0], tails[-1]))
    if width >= len(tail) + len(hint) + 14:
        tail += hint
    room = min(max(width - len(tail) - 4, NARROWEST_BAR), WIDEST_BAR)
    return Text.assemble("  ", slider(progress.done / progress.total, room, colours.GOOD, colours.FAINT), (f"  {tail}", colours.MUTED))


def _ending(job: QueuedJob) -> str:
    """What the key that cancels does to a job."""
    return "cancels" if job.stopping or not job.wanted.stops_early else "ends it early"


def so_far(job: QueuedJob) -> list[str]:
    """The job's main metric over what it has done so far, where it tells one."""
    found = short_metric(job.progress.metrics) if job.progress else None
    return [] if found is None else [f"{found[0]} {score(found[1])} so far"]


def time_left(job: QueuedJob, now: float) -> str:
    """The time that remains, or where that cannot be said the time so far."""
    remaining = job.remaining(now)
    return clock(job.elapsed(now)) if remaining is None else f"{clock(remaining)} left"


def unfinished_jobs(work: Work) -> str:
    """What would be lost by leaving now, as a sentence."""
    parts = []
    if work.running is not None:
        progress = work.running.progress
        parts.append(f"{work.running.wanted.name} is running" + (f" ({progress.done} of {progress.total})" if progress else ""))
    if work.waiting:
        parts.append(f"{plural(len(work.waiting), 'job')} wait{'s' if len(work.waiting) == 1 else ''}")
    sentence = " and ".join(parts)
    return f"{sentence[:1].upper()}{sentence[1:]}."


def spinner(beat: int) -> str:
    """The sign that something is under way."""
    return GLYPHS.spinner[beat % len(GLYPHS.spinner)]
