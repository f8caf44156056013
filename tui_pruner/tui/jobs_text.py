"""The jobs as text: what runs, how far it is, what waits, and what came out last."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rich.text import Text

from tui_pruner.tui import colours
from tui_pruner.tui.drawing import fit, slider
from tui_pruner.tui.figures import clock
from tui_pruner.tui.glyphs import GLYPHS

if TYPE_CHECKING:
    from tui_pruner.engine.job_messages import JobProgress


CANCEL = "  k cancels"


@dataclass(frozen=True)
class Work:
    """What the jobs pane shows: the running job, the queue's titles, the engine's long call, and the last results, newest last."""

    title: str = ""
    progress: JobProgress | None = None
    elapsed: float = 0.0
    waiting: Sequence[str] = ()
    doing: str = ""
    notes: Sequence[tuple[str, bool]] = ()
    beat: int = 0


def job_lines(work: Work, width: int, height: int = 4) -> list[Text]:
    """The pane's lines, at most `height` of them: work first, then as many results as there is room for."""
    lines = []
    if work.doing:
        lines.append(Text.assemble((f"{spinner(work.beat)} ", colours.WARNING), fit(work.doing, width - 2).rstrip()))
    if work.title:
        lines.append(running_line(work, width))
    if work.waiting:
        lines.append(Text(fit(f"  then {', '.join(work.waiting)}", width).rstrip(), colours.MUTED))
    room = max(height - len(lines), 0)
    for note, failed in list(work.notes)[-room:] if room else []:
        sign, style = (GLYPHS.bad, colours.BAD) if failed else (GLYPHS.good, colours.GOOD)
        lines.append(Text.assemble((f"{sign} ", style), (fit(note, width - len(sign) - 1).rstrip(), style if failed else colours.MUTED)))
    return lines or [Text("nothing runs: v validates, w writes", colours.MUTED)]


def running_line(work: Work, width: int) -> Text:
    """The running job with its progress."""
    progress = work.progress
    title = f"validate {work.title}"
    if progress is None or not progress.total:
        tail = f"starting  {clock(work.elapsed)}"
        return Text.assemble((f"{spinner(work.beat)} ", colours.WARNING), title, (f"  {tail}", colours.MUTED))
    tail = f"{progress.done}/{progress.total}  {_remaining(progress, work.elapsed)}"
    if width >= len(title) + len(tail) + len(CANCEL) + 14:
        tail += CANCEL
    room = max(width - len(title) - len(tail) - 6, 4)
    return Text.assemble(
        (f"{spinner(work.beat)} ", colours.WARNING),
        title,
        "  ",
        slider(progress.done / progress.total, min(room, 30), colours.GOOD, colours.FAINT),
        (f"  {tail}", colours.MUTED),
    )


def spinner(beat: int) -> str:
    """The sign that something is under way."""
    return GLYPHS.spinner[beat % len(GLYPHS.spinner)]


def _remaining(progress: JobProgress, elapsed: float) -> str:
    if not 0 < progress.done < progress.total:
        return clock(elapsed)
    return f"{clock(elapsed / progress.done * (progress.total - progress.done))} left"
