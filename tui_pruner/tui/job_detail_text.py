"""One job in full as text: how it stands, what came out, what it was asked for, and where its log is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.text import Text

from tui_pruner.metrics import main_metric
from tui_pruner.tui import colours
from tui_pruner.tui.drawing import broken, curve, fit, wrapped
from tui_pruner.tui.figures import clock, plural
from tui_pruner.tui.glyphs import GLYPHS
from tui_pruner.tui.jobs_text import time_left
from tui_pruner.tui.queued_job import DONE, FAILED, RUNNING, WAITING, QueuedJob
from tui_pruner.tui.validations import shown_metrics

NAMES, FIGURE = 14, 6
FEWEST_POINTS = 3
LOSSES = "train/"
HIDDEN = ("plan",)


def job_detail_lines(job: QueuedJob, before: int, now: float, width: int) -> list[Text]:
    """Everything about one job; `before` is how many come before it."""
    lines = [Text(line.plain, colours.BAD if job.state == FAILED else colours.STRONG) for line in wrapped(_state(job, before, now), width)]
    if job.error is not None:
        lines += wrapped(str(job.error), width, colours.BAD if job.state == FAILED else colours.MUTED)
    lines += _section("Result", job.outcome.details, width)
    if job.state == RUNNING and job.progress is not None:
        lines += _section("So far", [("doing", job.progress.doing), *shown_metrics(job.progress.metrics)], width)
    lines += _curves(job, width)
    lines += [line for note in job.outcome.notes for line in wrapped(note, width, colours.WARNING)]
    lines += _section("Asked for", _parameters(job), width)
    return lines + _section("Plan", _plan(job), width)


def _curves(job: QueuedJob, width: int) -> list[Text]:
    """The losses and the main metric from the beginning until now, each from its lowest to its highest value."""
    main = main_metric({name: points[-1] for name, points in job.history.items()})
    wanted = [name for name in job.history if name.startswith(LOSSES) or (main and name == main[0])]
    lines = [_curve(name, job.history[name], width) for name in wanted if len(job.history[name]) >= FEWEST_POINTS]
    return [Text(), Text("Curves", colours.HEADING), *lines] if lines else []


def _curve(name: str, points: Sequence[float], width: int) -> Text:
    low, high = min(points), max(points)
    room = max(width - NAMES - FIGURE - 2, 8)
    drawn = curve([(point - low) / (high - low) if high > low else 0.5 for point in points], min(room, len(points)))[0]
    label = fit(name.rpartition("/")[2], NAMES)
    return Text.assemble(
        (label, colours.MUTED), " ", (fit(f"{points[-1]:.3g}", FIGURE, right=True), colours.TEXT), " ", (drawn, colours.BLUE)
    )


def _state(job: QueuedJob, before: int, now: float) -> str:
    if job.state == WAITING:
        return f"waiting: {plural(before, 'job')} before it" if before else "waiting: it is next"
    if job.state == RUNNING:
        progress = job.progress
        counted = f", {progress.done} of {progress.total}, {time_left(job, now)}" if progress and progress.total else ""
        return f"running for {clock(job.elapsed(now))}{counted}"
    after = f" after {clock(job.elapsed(now))}" if job.started is not None else " before its turn"
    return f"done: {job.outcome.figure}" if job.state == DONE else f"{job.state}{after}"


def _parameters(job: QueuedJob) -> list[tuple[str, str]]:
    if job.parameters is None:
        return [("data", job.wanted.data)] if job.wanted.data else []
    fields: Mapping[str, Any] = job.parameters.model_dump(exclude=set(HIDDEN), exclude_none=True)
    log = [("log", str(job.log))] if job.log else []
    return [(name, _short(value)) for name, value in fields.items() if value != ""] + log


def _plan(job: QueuedJob) -> list[tuple[str, str]]:
    plan = getattr(job.parameters, "plan", None)
    steps: Sequence[Mapping[str, Any]] = (plan or {}).get("steps", [])
    return [(f"step {number}", _step(step)) for number, step in enumerate(steps, start=1)]


def _step(step: Mapping[str, Any]) -> str:
    cuts = ", ".join(f"{cut['layer']} {cut['amount']}" for cut in step["cuts"])
    return f"{step['name']}: {cuts}" if step.get("name") else cuts


def _short(value: Any) -> str:
    text = str(value)
    return text[:12] + GLYPHS.ellipsis if len(text) == 64 and text.isalnum() else text


def _section(title: str, pairs: Sequence[tuple[str, str]], width: int) -> list[Text]:
    if not pairs:
        return []
    lines = [Text(), Text(title, colours.HEADING)]
    for name, value in pairs:
        for number, line in enumerate(broken(value, max(width - NAMES - 1, 10))):
            lines.append(Text.assemble((fit(name if number == 0 else "", NAMES), colours.MUTED), " ", (line, colours.TEXT)))
    return lines
