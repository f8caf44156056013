"""Jobs as text: the pane of the workbench, the list of all jobs, and one job in full."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich.cells import cell_len
from rich.text import Text

from tui_pruner.domain.formatting import clock, legible, plural, score
from tui_pruner.domain.results import main_metric, short_metric
from tui_pruner.tui import colours
from tui_pruner.tui.actions import key_of
from tui_pruner.tui.drawing import GLYPHS, broken, curve, fit, fit_clauses, fit_middle, slider, wrapped
from tui_pruner.tui.job_specs.compression import stage_states
from tui_pruner.tui.job_specs.job import CANCELLED, DONE, FAILED, RUNNING, WAITING, QueuedJob
from tui_pruner.tui.job_specs.measurement import shown_metrics
from tui_pruner.tui.panes.widgets import Pane
from tui_pruner.tui.state import BEAT, COLOURS, JOBS, Note, Store

WIDEST_BAR, NARROWEST_BAR = 30, 4
LEAST_PROGRESS = 28
"""The cells beside a running job's name: a bar, a count and a time, or what it does."""
LONGEST_PART = 40
"""Letters of what a job says that it is at; more belong to the job's own pane."""


@dataclass(frozen=True)
class Activity:
    """What the jobs pane shows: the running job, the queue, the engine's long call, and the last results, newest last."""

    running: QueuedJob | None = None
    waiting: Sequence[QueuedJob] = ()
    doing: str = ""
    notes: Sequence[Note] = ()
    beat: int = 0
    now: float = 0.0


def jobs_title(automatic: bool, refitting: bool = False, data: bool = True, module: bool = False) -> str:
    """The pane's title, with the switches; without `data` nothing follows a step, and a `module` has no switches."""
    if module:
        return "Jobs"
    switches = switch_text(automatic, refitting)
    if (automatic or refitting) and not data:
        switches = f"{switches.removesuffix(' on')}{',' if refitting else ''} no data yet ({key_of('choose-data')})"
    return f"Jobs {GLYPHS.dot} {switches}"


def switch_text(automatic: bool, refitting: bool = False) -> str:
    """Whether every step is validated, and whether it is refitted first."""
    if refitting:
        return f"every step: refit{', validate' if automatic else ''}"
    return f"validate every step: {'on' if automatic else 'off'}"


def job_lines(work: Activity, width: int, height: int = 4) -> list[Text]:
    """The pane's lines, at most `height` of them: running and waiting jobs first, then as many results as fit."""
    lines = []
    if work.doing:
        lines.append(Text.assemble((f"{spinner(work.beat)} ", colours.WARNING), fit_clauses(work.doing, width - 2)))
    if work.running is not None:
        lines.append(running_line(work, width))
        told = [work.running.told] if work.running.told else running_metrics(work.running) or present_phase(work.running)
        if told and told[0] not in lines[-1].plain:
            lines.append(Text(f"  {fit_clauses(told[0], width - 2)}", colours.MUTED))
    if work.waiting:
        lines.append(Text(fit(f"  then {', '.join(job.spec.name for job in work.waiting)}", width).rstrip(), colours.MUTED))
    lines += note_lines(work.notes, width, max(height - len(lines), 0))
    return lines or [Text(f"nothing runs: {key_of('validate')} validates, {key_of('write')} writes", colours.MUTED)]


def note_lines(notes: Sequence[Note], width: int, height: int) -> list[Text]:
    """The last results, as many as fit in `height` lines: the newest wrapped where lines are left, the others without last clauses."""
    taken = list(notes)[-height:] if height else []
    left, found = height - len(taken), list[list[Text]]()
    for note, failed in reversed(taken):
        done = (GLYPHS.minus, colours.MUTED) if failed is None else (GLYPHS.good, colours.GOOD)
        sign, style = (GLYPHS.bad, colours.BAD) if failed else done
        space, shade = width - len(sign) - 1, style if failed else colours.MUTED
        words = _clauses_in_lines(note, space)
        short = fit_clauses(note, space)
        # The last clause, how long it took, is not worth a line of its own.
        if len(words) > left + 1 or (note.startswith(f"{short}, ") and ", " not in note.removeprefix(f"{short}, ")):
            words = [short]
        left -= len(words) - 1
        leads = [(f"{sign} ", style)] + [(" " * (len(sign) + 1), style)] * (len(words) - 1)
        found.append([Text.assemble(lead, (fit(line, space).rstrip(), shade)) for lead, line in zip(leads, words, strict=True)])
    return [line for lines in reversed(found) for line in lines]


def _clauses_in_lines(note: str, width: int) -> list[str]:
    """A result in lines of at most `width` cells, which end between clauses where those fit; at least one line."""
    lines: list[str] = []
    clauses = legible(note).split(", ")
    for number, clause in enumerate(clauses, start=1):
        text = clause if number == len(clauses) else f"{clause},"
        if lines and cell_len(lines[-1]) + 1 + cell_len(text) <= width:
            lines[-1] += f" {text}"
        else:
            lines += broken(text, max(width, 1))
    return lines


def running_line(work: Activity, width: int) -> Text:
    """The running job with its progress."""
    assert work.running is not None
    name = fit_middle(work.running.spec.name, max(width - LEAST_PROGRESS, SHORTEST_NAME))
    lead = Text.assemble((f"{spinner(work.beat)} ", colours.WARNING), name)
    hint = f"  {work.running.spec.hint or key_of('cancel-job') + ' ' + _ending(work.running)}"
    return lead.append_text(progress_text(work.running, work.now, width - lead.cell_len, hint, more=True))


def progress_text(job: QueuedJob, now: float, width: int, hint: str = "", more: bool = False) -> Text:
    """A running job's bar, count, running metric and time left, as much as fits into `width` cells, and `hint` if there is space.

    `more`: a second line follows, which has what does not fit.
    """
    progress = job.progress
    if progress is None or not progress.total:
        gone = f"  {clock(job.elapsed(now))} elapsed"
        doing = progress.doing if progress is not None and progress.doing else "starting"
        if more and len(doing) + len(gone) + 2 > width:
            return Text(gone, colours.MUTED)
        return Text(f"  {fit(doing, max(width - len(gone) - 2, 8)).rstrip()}{gone}", colours.MUTED)
    counted, left, gone = f"{progress.done}/{progress.total}", time_left(job, now), f"{clock(job.elapsed(now))} elapsed"
    times = [left] if left == gone else [gone, left]
    part = [progress.doing] if progress.doing and not job.told and len(progress.doing) <= LONGEST_PART else []
    told = running_metrics(job)
    ways = (
        [*part, counted, *told, *times],
        [counted, *told, *times],
        [counted, *told, left],
        [counted, *times],
        [counted, left],
        [counted],
    )
    tail = next((tail for way in ways if len(tail := "  ".join(way)) + NARROWEST_BAR + 4 <= width), "  ".join(ways[-1]))
    if width >= len(tail) + len(hint) + 14:
        tail += hint
    space = min(max(width - len(tail) - 4, NARROWEST_BAR), WIDEST_BAR)
    return Text.assemble("  ", slider(progress.done / progress.total, space, colours.GOOD, colours.FAINT), (f"  {tail}", colours.MUTED))


def _ending(job: QueuedJob) -> str:
    """The effect of the cancel key on a job."""
    return "cancels" if job.stopping or not job.spec.stops_early else "ends it early"


def running_metrics(job: QueuedJob) -> list[str]:
    """The job's main metric on the images so far, if it reports one."""
    found = short_metric(job.progress.metrics) if job.progress and not job.told else None
    return [] if found is None else [f"{found[0]} {score(found[1])} so far"]


def present_phase(job: QueuedJob) -> list[str]:
    """What the job does before its first count, since a bar without motion would show nothing; in a recipe at any time."""
    return [job.progress.doing] if job.progress and job.progress.doing and (job.spec.recipe or not job.progress.done) else []


def progress_lines(job: QueuedJob, now: float, width: int) -> list[Text]:
    """A job's progress and what it does now, in two lines; how it ended, if it is over."""
    if job.state != RUNNING:
        return [Text(fit(_state(job, 0, now), width).rstrip()), Text()]
    phase = present_phase(job)
    first = progress_text(job, now, width, more=True)
    return [first, Text(fit(f"  {phase[0]}", width).rstrip() if phase and phase[0] not in first.plain else "")]


def time_left(job: QueuedJob, now: float) -> str:
    """The remaining time, of a recipe that of its present part, or if that is unknown the elapsed time."""
    remaining, of = job.remaining(now), " in this part" if job.spec.recipe else ""
    return f"{clock(job.elapsed(now))} elapsed" if remaining is None else f"{clock(remaining)} left{of}"


def unfinished_jobs(work: Activity) -> str:
    """The unfinished jobs that would be lost by quitting, as a sentence."""
    parts = []
    if work.running is not None:
        progress = work.running.progress
        parts.append(f"{work.running.spec.name} is running" + (f" ({progress.done} of {progress.total})" if progress else ""))
    if work.waiting:
        parts.append(f"{plural(len(work.waiting), 'job')} wait{'s' if len(work.waiting) == 1 else ''}")
    sentence = " and ".join(parts)
    return f"{sentence[:1].upper()}{sentence[1:]}."


def spinner(beat: int) -> str:
    """The sign of activity."""
    return GLYPHS.spinner[beat % len(GLYPHS.spinner)]


SHORTEST_NAME, LONGEST_NAME = 12, 24
NAMES_SHARE = 0.4
"""The share of a wide list for names that are longer."""
TIME = 6
STATES = (RUNNING, WAITING, DONE, FAILED, CANCELLED)


def list_lines(jobs: Sequence[QueuedJob], chosen: QueuedJob | None, now: float, width: int, beat: int) -> list[Text]:
    """A line for each job, with the cursor on the chosen one."""
    longest = max(LONGEST_NAME, int(width * NAMES_SHARE))
    names = min(max(SHORTEST_NAME, *(cell_len(job.spec.name) for job in jobs)), longest) if jobs else 0
    lines = []
    for place, job in enumerate(jobs):
        text = _head(job, job is chosen, names, beat)
        text.append_text(_course(job, sum(not other.over for other in jobs[:place]), now, width - text.cell_len))
        lines.append(_filled(text, job is chosen, width))
    return lines or [Text(fit(none_yet(), width).rstrip(), colours.MUTED)]


def none_yet() -> str:
    """The text of an empty list."""
    return f"no job yet: {key_of('validate')} in the workbench validates the current model"


def header_line(jobs: Sequence[QueuedJob], automatic: bool, width: int, refitting: bool = False) -> Text:
    """The number of jobs, and whether every step is validated and refitted."""
    switch = f"   {switch_text(automatic, refitting)}"
    return Text.assemble((f" {fit(counted(jobs), width - len(switch) - 1).rstrip()}", colours.STRONG), switch)


def counted(jobs: Sequence[QueuedJob]) -> str:
    """The number of jobs by state: "1 running, 2 waiting, 3 done"."""
    numbers = {state: sum(job.state == state for job in jobs) for state in STATES}
    return ", ".join(f"{number} {state}" for state, number in numbers.items() if number) or "no jobs"


def sign(job: QueuedJob, beat: int) -> tuple[str, str]:
    """A job's state as one sign, with its colour."""
    signs = {
        RUNNING: (spinner(beat), colours.WARNING),
        WAITING: (GLYPHS.dot, colours.MUTED),
        DONE: (GLYPHS.good, colours.GOOD),
        FAILED: (GLYPHS.bad, colours.BAD),
        CANCELLED: (GLYPHS.minus, colours.MUTED),
    }
    return signs[job.state]


def job_status(job: QueuedJob, before: int) -> str:
    """The state of a job that does not run, in a few words; `before` jobs come before it."""
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
        (fit(fit_middle(job.spec.name, names), names), colours.STRONG if chosen else colours.TEXT),
    )


def _course(job: QueuedJob, before: int, now: float, width: int) -> Text:
    if job.state == RUNNING:
        return progress_text(job, now, width)
    time = clock(job.elapsed(now)) if job.started is not None else ""
    words, space = job_status(job, before), width - TIME - 3
    if job.state == DONE:  # without what follows the figure, rather than with a cut number
        words = next((part for part in (words, words.partition(", ")[0], words.partition(" (")[0]) if cell_len(part) <= space), words)
    return Text(f"  {fit(words, space)} {fit(time, TIME, right=True)}", colours.BAD if job.state == FAILED else colours.MUTED)


def _filled(text: Text, chosen: bool, width: int) -> Text:
    text.append(" " * max(width - text.cell_len, 0))
    if chosen:
        text.stylize(f"on {colours.SELECTION}")
    return text


NAMES, FIGURE = 14, 6
FEWEST_POINTS = 3
LOSSES = "train/"


def job_detail_lines(job: QueuedJob, before: int, now: float, width: int) -> list[Text]:
    """All details of one job; `before` is the number of jobs before it."""
    lines = [Text(line.plain, colours.BAD if job.state == FAILED else colours.STRONG) for line in wrapped(_state(job, before, now), width)]
    if job.error is not None:
        lines += wrapped(str(job.error), width, colours.BAD if job.state == FAILED else colours.MUTED)
    lines += _section("Stages", [(stage, " ".join(dict.fromkeys(told)).strip()) for stage, told in stage_states(job).items()], width)
    lines += _section("Result", job.outcome.details, width)
    if job.state == RUNNING and job.progress is not None:
        lines += _section("So far", [("doing", job.progress.doing), *shown_metrics(job.progress.metrics)], width)
    lines += _curves(job, width)
    lines += [line for note in job.outcome.notes for line in wrapped(note, width, colours.WARNING)]
    lines += _section("Asked for", _parameters(job), width)
    return lines + _section("Plan", _plan(job), width)


def _curves(job: QueuedJob, width: int) -> list[Text]:
    """The losses and the main metric over the job's time, each scaled from its lowest to its highest value."""
    main = main_metric({name: points[-1] for name, points in job.history.items()})
    wanted = [name for name in job.history if name.startswith(LOSSES) or (main and name == main[0])]
    lines = [_curve(name, job.history[name], width) for name in wanted if len(job.history[name]) >= FEWEST_POINTS]
    return [Text(), Text("Curves", colours.HEADING), *lines] if lines else []


def _curve(name: str, points: Sequence[float], width: int) -> Text:
    low, high = min(points), max(points)
    space = max(width - NAMES - FIGURE - 2, 8)
    drawn = curve([(point - low) / (high - low) if high > low else 0.5 for point in points], min(space, len(points)))[0]
    label = fit(name.rpartition("/")[2], NAMES)
    return Text.assemble(
        (label, colours.MUTED), " ", (fit(f"{points[-1]:.3g}", FIGURE, right=True), colours.TEXT), " ", (drawn, colours.BLUE)
    )


def _state(job: QueuedJob, before: int, now: float) -> str:
    if job.state == WAITING:
        return f"waiting: {plural(before, 'job')} before it" if before else "waiting: it is next"
    if job.state == RUNNING:
        progress = job.progress
        counted = f", {progress.done} of {progress.total}" if progress and progress.total else ""
        left = f", {time_left(job, now)}" if counted and job.remaining(now) is not None else ""
        return f"running for {clock(job.elapsed(now))}{counted}{left}"
    after = f" after {clock(job.elapsed(now))}" if job.started is not None else " before its turn"
    return f"done: {job.outcome.figure}" if job.state == DONE else f"{job.state}{after}"


def _parameters(job: QueuedJob) -> list[tuple[str, str]]:
    if job.parameters is None:
        return [("data", job.spec.data)] if job.spec.data else []
    from tui_pruner.engine.job_messages import told_of

    log = [("log", str(job.log))] if job.log else []
    return [(name, _short(value)) for name, value in told_of(job.parameters).items()] + log


def _plan(job: QueuedJob) -> list[tuple[str, str]]:
    plan = getattr(job.parameters, "plan", None)
    steps: Sequence[Mapping[str, Any]] = (plan or {}).get("steps", [])
    return [(f"step {number}", _step(step)) for number, step in enumerate(steps, start=1)]


def _step(step: Mapping[str, Any]) -> str:
    cuts = ", ".join(f"{cut['layer']} {cut['amount']}" for cut in step["cuts"])
    return f"{step['name']}: {cuts}" if step.get("name") else cuts


def _short(value: Any) -> str:
    text = " ".join(map(_short, value)) if isinstance(value, (list, tuple)) else str(value)
    return text[:12] + GLYPHS.ellipsis if len(text) == 64 and text.isalnum() else text


def _section(title: str, pairs: Sequence[tuple[str, str]], width: int) -> list[Text]:
    if not pairs:
        return []
    lines = [Text(), Text(title, colours.HEADING)]
    for name, value in pairs:
        for number, line in enumerate(broken(value, max(width - NAMES - 1, 10))):
            lines.append(Text.assemble((fit(name if number == 0 else "", NAMES), colours.MUTED), " ", (line, colours.TEXT)))
    return lines


class JobsPane(Pane, inherit_bindings=False):
    """The running and waiting jobs, and the latest results."""

    def follow(self, store: Store, work: Callable[[], Activity]) -> None:
        """Observe the jobs of a session."""
        state, names = store.state, ("doing", "notes", "automatic", "refitting", "session", "scan", JOBS, BEAT, COLOURS)
        module, checkpoint = state.checkpoint.opening.module, state.checkpoint

        def draw() -> None:
            switched = ((state.automatic and module is None) or bool(checkpoint.data), state.refitting)
            self.show(work(), *switched, bool(checkpoint.data or checkpoint.fitted_on), module is not None and not any(switched))

        store.observe(names, draw)

    def show(self, work: Activity, automatic: bool, refitting: bool = False, data: bool = True, module: bool = False) -> None:
        """Draw the jobs."""
        self.draw(lambda width, height: job_lines(work, width, height), jobs_title(automatic, refitting, data, module))
