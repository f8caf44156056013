"""The bars above and below the panes as text: the header with the figures of the model, and the footer with the main keys."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from rich.cells import cell_len
from rich.style import Style
from rich.text import Text

from tui_pruner.domain.formatting import count, giga, plural, score
from tui_pruner.domain.results import MeasuredMetric
from tui_pruner.tui import colours
from tui_pruner.tui.actions import DETAIL, FLOW, MAP, PATH, SLIDER, STEPS_PANE, Action, Registry, key_of, shown
from tui_pruner.tui.drawing import GLYPHS, change, fit, fit_middle, gain
from tui_pruner.tui.panes.explanation import stop_line
from tui_pruner.tui.panes.jobs import Activity, running_line
from tui_pruner.tui.panes.steps import last_step
from tui_pruner.tui.panes.tree_row import metric_colour
from tui_pruner.tui.panes.widgets import CLICK, Lines
from tui_pruner.tui.state import BEAT, COLOURS, JOBS, PROOFS, AppState, Store

if TYPE_CHECKING:
    from tui_pruner.engine.messages import ModelInfo


GAP = "   "
ONE_LINE = 100
SHORTEST_NAME = 12
UNKNOWN = " ~?"
"""The metric after pending cuts whose forecast is unknown or too uncertain."""


def header_lines(state: AppState, width: int) -> list[Text]:
    """One line on a wide screen, without the least needed figures, and two on a narrow one: it never alternates between them."""
    name, model = state.checkpoint.opening.name, state.opened.model
    figures = next(found for level in range(LEVELS) if (found := _figures(state, level)).cell_len <= width - 2 or level == LEVELS - 1)
    space_left = width - figures.cell_len - len(GAP) - 2
    if width < ONE_LINE or space_left < SHORTEST_NAME:
        return [Text.assemble(" ", _identity(name, model, width - 2)), Text.assemble(" ", figures)]
    identity = _identity(name, model, space_left)
    space = " " * (width - 2 - identity.cell_len - figures.cell_len)
    return [Text.assemble(" ", identity, space, figures, " ")]


def waiting_line(name: str, what: str, width: int) -> Text:
    """The header before the model is loaded."""
    return Text.assemble(" ", (fit_middle(name, max(width - len(what) - 6, 8)), colours.STRONG), GAP, (what, colours.WARNING))


def _identity(name: str, model: ModelInfo, width: int) -> Text:
    dot = f" {GLYPHS.dot} "
    sizes = [f"{model.classes} classes", str(model.imgsz)] if model.imgsz else []
    facts = [f"{model.family} {model.task}", *sizes]
    while facts and cell_len(name + "  " + dot.join(facts)) > width:
        facts.pop()
    return Text.assemble((fit_middle(name, width), colours.STRONG), "  " if facts else "", (dot.join(facts), colours.MUTED))


LEVELS = 4
"""Levels of brevity of the figures: complete, without units, without the values before, without the savings."""


def _figures(state: AppState, level: int = 0) -> Text:
    before, after, metrics = state.origin, state.after, state.metrics
    text = Text.assemble(
        _pair("params", count(before.parameters), count(after.parameters), change(before.parameters, after.parameters), level),
        GAP,
        _pair("GFLOPs", giga(before.flops), giga(after.flops), change(before.flops, after.flops), level, "G"),
    )
    if (baseline := state.origin_metric) is not None:
        now = metrics.measurement_of_step(metrics.steps) if metrics.steps else None
        if now is None and not state.session.steps and state.lineage.ancestors():
            now = metrics.measurement_of_step(0)
        awaited = now is None and bool(state.session.steps or state.lineage.ancestors())
        text.append(GAP)
        text.append_text(_metric(metrics.name, baseline, now, awaited))
    if (expected := state.forecast) is not None:
        spread = f" {GLYPHS.about}{score(expected.spread)}" if level < 2 else ""
        words = f" ~{score(expected.expected)}{spread}"
        text.append(words if state.origin_metric is not None else f"{GAP}{metrics.name}{words}", f"italic {colours.WARNING}")
    elif baseline is not None and state.pending and state.preview is not None:
        text.append(UNKNOWN, f"italic {colours.WARNING}")
    return text


def _pair(name: str, before: str, after: str, moved: str, level: int, unit: str = "") -> Text:
    title = (f"{name} ", colours.MUTED) if not level else ""
    shown_after = after + unit if level else after
    if not moved:
        return Text.assemble(title, (shown_after, colours.STRONG))
    was = (before, (GLYPHS.arrow, colours.MUTED)) if level < 2 else ()
    return Text.assemble(title, *was, (shown_after, f"bold {colours.GOOD}"), (f" {moved}" if level < 3 else "", colours.GOOD))


def _metric(name: str, baseline: MeasuredMetric, now: MeasuredMetric | None, awaited: bool) -> Text:
    """The metric; where it was not measured after the steps (`awaited`), that it is unknown."""
    if now is None:
        was = Text.assemble((f"{name} ", colours.MUTED), (score(baseline.value), "" if awaited else colours.STRONG))
        return was.append(f"{GLYPHS.arrow}?", colours.MUTED) if awaited else was
    style = metric_colour(baseline, now)
    return Text.assemble(
        (f"{name} ", colours.MUTED),
        score(baseline.value),
        (GLYPHS.arrow, colours.MUTED),
        (score(now.value), f"bold {style}"),
        (f" {gain(baseline.value, now.value)}", style),
    )


FOOTER = (
    "mark", "nudge-1", "apply", "undo", "write", "validate", "filter", "map", "explain", "scan", "target", "slider", "recover", "latency",
    "compress", "go-on", "export", "lineage", "front", "copy", "sort", "criterion", "presets", "rounding", "next-pane", "help", "quit",
)  # fmt: skip
"""The workbench's actions in the footer, in their order."""
NEEDED = (
    "help", "quit", "next-pane", "mark", "nudge-1", "apply", "undo", "map", "explain", "write", "scan", "target", "recover", "slider",
    "validate", "filter", "latency", "compress", "lineage", "go-on", "export", "front", "sort", "criterion", "presets", "rounding", "copy",
)  # fmt: skip
"""The footer's actions, those that remain longest first."""
LEAVING = ("back", "leave-stages", "leave-detections", "leave", "slider-back")
"""Actions that leave a pane or screen: always visible."""
SPARE = ("slider-measure",)
"""Actions of a pane that are dropped before all others."""
NARROW_WORDS: Mapping[str, str] = {
    "explain": "why", "go-to-stage": "go", "hold-stage": "compare", "go-to-step": "go", "pin-step": "compare",
    "image-minus-1": "prev",
}  # fmt: skip
"""Shorter words in a window that is narrower than one line of the header needs."""
PANE_WORDS: Mapping[str, Mapping[str, str]] = {
    MAP: {"map": "tree"},
    DETAIL: {"explain": "explain", "flow": "flow", "path-to": "path to"},
    PATH: {"map": "map", "path-to": "path to", "hop-1": "next hop", "back": "back"},
    FLOW: {"hop-1": "next that differs", "back": "back", "explain": "explain", "map": "map"},
    STEPS_PANE: {"next-pane": "pane", "all-jobs": "jobs", "lineage": "lineage", "front": "front"},
    SLIDER: {"map": "map", "front": "front", "apply": "apply", "help": "help"},
}
"""The workbench's most important actions in a pane, with their words there."""


def footer_lines(
    actions: Iterable[Action], width: int, rows: int, leading: str = "", pane: str = "", disabled: Collection[str] = ()
) -> list[Text]:
    """The keys in one line of at most `width` cells, or in two where there are `rows` for them and one has no space for all.

    Those of the focused pane come first, and the most needed ones remain longest; all can be clicked. `disabled`: the ids of disabled
    actions, which are dimmed.
    """
    shown_here, own = _footer_actions(actions, width, pane)
    first = fitting(shown_here, width, leading, own, disabled)
    if rows < 2 or _width_of(shown_here, leading) <= width:
        return [first]
    taken = next((count for count in range(len(shown_here), 0, -1) if _width_of(shown_here[:count], leading) <= width), 0)
    second = fitting(shown_here[taken:], width, "", own, disabled)
    return [_line(shown_here[:taken], leading, disabled), second]


def _footer_actions(actions: Iterable[Action], width: int, pane: str) -> tuple[list[Action], set[str]]:
    """The actions of the footer in their order, and the ids of those of the focused pane."""
    by_id, words = {action.id: action for action in with_short_labels(actions, width)}, PANE_WORDS.get(pane, {})
    own = [action for action in by_id.values() if action.footer and action.pane and action.pane == pane]
    own += [replace(by_id[id], footer=word) for id, word in words.items() if id in by_id]
    taken = {key for action in own for key in action.keys.split(",")}
    rest = [by_id[id] for id in FOOTER if pane != SLIDER and id in by_id and not taken & set(by_id[id].keys.split(","))]
    return own + rest, {action.id for action in own}


def with_short_labels(actions: Iterable[Action], width: int) -> list[Action]:
    """The actions, with shorter words in a narrow window."""
    short = NARROW_WORDS if width < ONE_LINE else {}
    return [replace(action, footer=short[action.id]) if action.id in short else action for action in actions]


def fitting(actions: Sequence[Action], width: int, leading: str = "", needed: Collection[str] = (), disabled: Collection[str] = ()) -> Text:
    """Fit these actions into one line of at most `width` cells by dropping the least needed ones.

    In a narrow window disabled ones are dropped first.
    """
    idle = disabled if width < ONE_LINE else ()
    shown_now = list(actions)
    taken = _width_of(shown_now, leading)
    while taken > width and len(shown_now) > 1:
        leaving = max(reversed(shown_now), key=lambda action: (action.id in idle, _need(action, needed)))
        shown_now.remove(leaving)
        taken -= _cells(leaving)
    return _line(shown_now, leading, disabled)


def _width_of(actions: Sequence[Action], leading: str) -> int:
    """The width of a line of these actions: a blank comes first, and no two after the last action."""
    return (cell_len(leading) + 2 if leading else 0) - 1 + sum(map(_cells, actions))


def _cells(action: Action) -> int:
    """An action's width in the footer, with the blanks after it."""
    return cell_len(shown(action)) + 1 + cell_len(action.footer) + 2


def _need(action: Action, needed: Collection[str]) -> int:
    """An action's rank for being dropped from the footer: higher ones first."""
    if action.id in LEAVING or (action.id in needed and action.id == "next-pane"):
        return 0
    if action.id in SPARE:
        return len(NEEDED)
    return 2 if action.pane or action.id in needed else NEEDED.index(action.id)


def _line(actions: Sequence[Action], leading: str, disabled: Collection[str]) -> Text:
    text = Text(" ", no_wrap=True)
    if leading:
        text.append(f"{leading}  ", f"bold {colours.GOOD}")
    for action in actions:
        dim = action.id in disabled
        start = len(text)
        text.append(shown(action), colours.FAINT if dim else f"bold {colours.WARNING}")
        text.append(f" {action.footer}", colours.FAINT if dim else colours.TEXT)
        text.stylize(Style(meta={CLICK: f"run('{action.id}')"}), start, len(text))
        text.append("  ")
    text.rstrip()
    return text


class HeaderBar(Lines):
    """The model and its totals."""

    def follow(self, store: Store) -> None:
        """Observe the figures of a session."""
        state = store.state
        draw = lambda: self.draw(lambda width, _: header_lines(state, width))  # noqa: E731

        def of_the_cuts() -> object:
            return bool(state.pending), state.preview is None, state.after, state.forecast

        store.observe(("opened", "session", "metrics", COLOURS), draw)
        store.observe(("pending", "preview"), draw, part=of_the_cuts)


def with_steps_key(line: Text, width: int) -> Text:
    """The last step's line with the key of the pane that a small window hides, if there is space."""
    key, words = key_of("show-steps"), "steps and jobs"
    missing = width - line.cell_len - len(key) - len(words) - 1
    if missing < len(GAP):
        return line
    return Text.assemble(line, " " * missing, (key, f"bold {colours.WARNING}"), (f" {words}", colours.MUTED))


class StatusBar(Lines):
    """In a small window the last step, or the chosen hop of an explanation, and the running job."""

    def follow(self, store: Store, work: Callable[[], Activity], with_explanation: Callable[[], bool]) -> None:
        """Observe the newest state of a session."""
        state, view = store.state, store.view

        def lines(width: int, height: int) -> list[Text]:
            now, found = work(), view.explanation if with_explanation() else None
            space = width - 2
            first = stop_line(found, space) if found is not None else with_steps_key(last_step(state, state.metrics, space), space)
            if now.running:
                return [first, running_line(now, width - 2)]
            return [first, Text(fit(now.doing, width - 2))] if now.doing else [first]

        names = ("session", "pending", "preview", "metrics", "explanation", "doing", "focus", "scan", PROOFS, JOBS, BEAT, COLOURS)
        store.observe(names, lambda: self.draw(lines))


class FooterBar(Lines):
    """The main keys and their actions, in two lines in a high window; disabled ones are dimmed."""

    def follow(self, store: Store, registry: Registry) -> None:
        """Observe the keys of a session."""
        state, view = store.state, store.view

        def line(width: int, height: int) -> list[Text]:
            rounding = state.pending.round_to
            marked = f"{plural(len(state.marks), 'layer')} marked" if state.marks else ""
            leading = ", ".join(filter(None, (marked, f"multiples of {rounding}" if rounding > 1 else "")))
            shown_here = {*FOOTER, *PANE_WORDS.get(view.pane, ())}
            asked = [action for action in registry if action.id in shown_here or action.pane == view.pane]
            disabled = {action.id for action in asked if action.why_disabled(state)}
            return footer_lines(registry, width, height, leading, view.pane, disabled)

        def draw() -> None:
            self.draw(line)

        def of_the_cuts() -> object:
            return state.pending.round_to, bool(state.pending), state.clash

        store.observe(("marks", "session", "focus", "on_map", "explanation", "sliding", PROOFS, JOBS, COLOURS), draw)
        store.observe(("pending", "preview"), draw, part=of_the_cuts)
