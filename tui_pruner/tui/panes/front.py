"""The front, and the target slider that moves on it.

Every measured stage is a dot over its size or latency, its interval a bar, and the pending cuts a ring. The slider's positions go from all
to a tenth of a resource; each is a finished plan.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING

from rich.text import Text

from tui_pruner.domain.cuts import Asked, typed_amount
from tui_pruner.domain.formatting import count, giga, score
from tui_pruner.domain.lineage import ASKED, Stage
from tui_pruner.tui import colours
from tui_pruner.tui.actions import key_of
from tui_pruner.tui.drawing import GLYPHS, SIGNS, UNICODE, fit, fit_clauses
from tui_pruner.tui.panes.lineage import Shown
from tui_pruner.tui.panes.widgets import Lines
from tui_pruner.tui.state import COLOURS, Store

if TYPE_CHECKING:
    from tui_pruner.engine.messages import PreviewResult
    from tui_pruner.engine.requests import TargetLadder, TargetRung


AXES = ("flops", "params", "ms")
TITLES = {"flops": "GFLOPs", "params": "params", "ms": "ms"}
DOTS, PLAIN_DOTS = ("○", "◆", "●"), ("o", "#", "*")
BRAILLE = SIGNS is UNICODE
EMPTY = 0x2800
BITS = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))
"""The dots of a braille sign, by row and column."""
LABEL = 6
MARGIN = 0.08


@dataclass(frozen=True)
class Dot:
    """One stage on the front: its position on both axes, and the interval of its metric where known."""

    id: str
    x: float
    y: float
    low: float | None = None
    high: float | None = None
    hollow: bool = False
    here: bool = False


def dots_of(shown: Shown, axis: str, asked: Stage | None = None) -> list[Dot]:
    """The stages with a measured metric and a known position on the axis, from left to right; the pending cuts with their forecast."""
    found = []
    for stage in [*shown.lineage, *([asked] if asked else [])]:
        x, y = across(stage, axis), stage.metric if stage.kind == ASKED else shown.measured(stage)
        if x is not None and y is not None:
            low, high = (stage.low, stage.high) if stage.kind == ASKED else shown.interval(stage) or (None, None)
            found.append(Dot(stage.id, x, y, low, high, stage.kind == ASKED, stage.id == shown.lineage.here))
    return sorted(found, key=lambda dot: (dot.x, dot.y))


def across(stage: Stage, axis: str) -> float | None:
    """A stage's position on an axis; None where unknown."""
    if axis == "ms":
        return stage.latency
    return (stage.flops if axis == "flops" else stage.parameters) or None


def best(dots: Sequence[Dot]) -> list[Dot]:
    """The Pareto-optimal dots (no other is better at the same size or a smaller one), from left to right."""
    found: list[Dot] = []
    for dot in sorted((dot for dot in dots if not dot.hollow), key=lambda dot: (dot.x, -dot.y)):
        if not found or dot.y > found[-1].y:
            found.append(dot)
    return found


class PointCanvas:
    """A canvas for points and lines, in braille dots or whole ASCII cells."""

    def __init__(self, width: int, height: int, braille: bool) -> None:
        self.width, self.height = width, height
        self._braille = braille
        self.fine = (2, 4) if braille else (1, 1)
        self._cells: dict[tuple[int, int], int] = {}

    @property
    def dots(self) -> tuple[str, str, str]:
        """The signs of the pending cuts, of the current stage, and of other stages."""
        return DOTS if self._braille else PLAIN_DOTS

    @property
    def size(self) -> tuple[int, int]:
        """The number of points in both directions."""
        return self.width * self.fine[0], self.height * self.fine[1]

    def point(self, column: int, row: int) -> None:
        """Set one point; points outside are ignored."""
        columns, rows = self.size
        if 0 <= column < columns and 0 <= row < rows:
            cell = column // self.fine[0], row // self.fine[1]
            self._cells[cell] = self._cells.get(cell, 0) | BITS[row % self.fine[1]][column % self.fine[0]]

    def sign(self, column: int, row: int, plain: str) -> str:
        """The sign of a cell; `plain` where there are no braille signs."""
        bits = self._cells.get((column, row), 0)
        return " " if not bits else chr(EMPTY | bits) if self._braille else plain


@dataclass(frozen=True)
class Frame:
    """The visible part of the plane: left, right, bottom, top."""

    left: float
    right: float
    bottom: float
    top: float

    @classmethod
    def around(cls, dots: Sequence[Dot], reach: Sequence[float] = ()) -> Frame:
        """The frame of all dots with their intervals, these positions on the axis, and a margin."""
        xs = [*(dot.x for dot in dots), *reach]
        ys = [y for dot in dots for y in (dot.y, dot.low, dot.high) if y is not None]
        across, up = max(xs) - min(xs) or max(xs) * 0.2 or 1.0, max(ys) - min(ys) or 0.05
        return cls(min(xs) - MARGIN * across, max(xs) + MARGIN * across, min(ys) - MARGIN * up, max(ys) + MARGIN * up)

    def place(self, x: float, y: float, columns: int, rows: int) -> tuple[int, int]:
        """The nearest point of the canvas."""
        column = round((x - self.left) / (self.right - self.left) * (columns - 1))
        row = round((self.top - y) / (self.top - self.bottom) * (rows - 1))
        return column, row


def front_lines(
    dots: Sequence[Dot],
    axis: str,
    metric: str,
    width: int,
    height: int,
    cursor: str = "",
    braille: bool = BRAILLE,
    reach: Sequence[float] = (),
) -> list[Text]:
    """The scatter plot in exactly `height` lines of at most `width` cells: metric over the axis, Pareto-optimal dots joined by steps.

    `reach`: the position of the pending cuts on the axis, and other positions to include; without a forecast the ring is on the axis.
    """
    if not dots:
        where = {"flops": "", "params": "", "ms": " and timed"}[axis]
        hint = f": {key_of('latency' if axis == 'ms' else 'validate')} measures the current model"
        return [Text(fit_clauses(f"nothing is measured{where} yet{hint}", width), colours.MUTED), *[Text() for _ in range(height - 1)]]
    inner, rows = max(width - LABEL - 1, 8), max(height - 2, 3)
    frame, bars, joined = Frame.around(dots, reach), PointCanvas(inner, rows, braille), PointCanvas(inner, rows, braille)
    for dot in dots:
        if dot.low is not None and dot.high is not None:
            column = frame.place(dot.x, dot.y, inner, rows)[0] * bars.fine[0]
            for row in range(frame.place(dot.x, dot.high, *bars.size)[1], frame.place(dot.x, dot.low, *bars.size)[1] + 1):
                bars.point(column, row)
    _join(joined, frame, best(dots))
    signs = {frame.place(dot.x, dot.y, inner, rows): dot for dot in sorted(dots, key=lambda dot: (dot.id == cursor, dot.here))}
    lines = []
    labels = {0: frame.top, rows // 2: (frame.top + frame.bottom) / 2, rows - 1: frame.bottom}
    for row in range(rows):
        line = Text.assemble((fit(score(labels[row]) if row in labels else "", LABEL - 1, right=True), colours.MUTED), " ")
        line.append("│" if braille else "|", colours.FAINT)
        for column in range(inner):
            line.append(*_cell(signs.get((column, row)), cursor, bars, joined, column, row))
        lines.append(line)
    ring = frame.place(reach[0], 0.0, inner, rows)[0] if reach and not any(dot.hollow for dot in dots) else None
    return [*lines, _axis(inner, braille, ring), _scale(frame, axis, metric, inner)][:height]


def _cell(dot: Dot | None, cursor: str, bars: PointCanvas, joined: PointCanvas, column: int, row: int) -> tuple[str, str]:
    if dot is not None:
        ring, here, mark = bars.dots
        sign = ring if dot.hollow else here if dot.here else mark
        style = colours.WARNING if dot.hollow or dot.here else colours.BLUE
        return sign, f"bold {style} on {colours.SELECTION}" if dot.id == cursor else style
    bar = bars.sign(column, row, "|")
    return (bar, colours.MUTED) if bar != " " else (joined.sign(column, row, "."), colours.FAINT)


def _join(canvas: PointCanvas, frame: Frame, dots: Sequence[Dot]) -> None:
    """Join the Pareto-optimal dots by steps: the metric that is known to be reachable at a size."""
    (across, down), cells = canvas.fine, [frame.place(dot.x, dot.y, canvas.width, canvas.height) for dot in dots]
    places = [(column * across, row * down + down // 2) for column, row in cells]
    for (left, low), (right, high) in pairwise(places):
        for column in range(left, right + 1, 2):
            canvas.point(column, low)
        for row in range(high, low + 1, 2):
            canvas.point(right, row)


def _axis(width: int, braille: bool, ring: int | None) -> Text:
    corner, line = ("└", "─") if braille else ("+", "-")
    text = Text.assemble(" " * LABEL, (corner + line * width, colours.FAINT))
    if ring is None:
        return text
    sign = Text((DOTS if braille else PLAIN_DOTS)[0], f"bold {colours.WARNING}")
    return Text.assemble(text[: LABEL + 1 + ring], sign, text[LABEL + 2 + ring :])


def _scale(frame: Frame, axis: str, metric: str, width: int) -> Text:
    left, right = (written(value, axis) for value in (frame.left, frame.right))
    title = f"{metric} over {TITLES[axis]}"
    middle = title.center(max(width - len(left) - len(right), len(title)))
    return Text.assemble(" " * (LABEL + 1), (left, colours.MUTED), (middle, colours.FAINT), (right, colours.MUTED))


def written(value: float, axis: str) -> str:
    """A position on an axis as text."""
    value = max(value, 0.0)
    return giga(value) if axis == "flops" else count(value) if axis == "params" else f"{value:.2f}"


SHARES = tuple(percent / 100 for percent in range(95, 5, -5))
"""The shares that remain at the positions after the first one, which cuts nothing."""
MEASURE_TITLES = {"flops": "FLOPs", "params": "params"}
NAMES, SHORTEST, LONGEST = 7, 8, 60


@dataclass(frozen=True)
class Position:
    """A position of the slider: the share that remains, the cuts that leave it, and the figures of the model with them."""

    share: float
    asked: Asked
    preview: PreviewResult | None = None


@dataclass(frozen=True)
class TargetSlider:
    """A slider over positions of decreasing shares, the first of them without a cut; they are planned one after the other.

    `before`: the pending cuts when it was opened; `scan`: the scan that it uses, in words, if any. `total`: how many positions
    are being planned; `ladder` once all are planned.
    """

    number: int
    measure: str
    before: Position
    positions: tuple[Position, ...]
    at: int = 0
    total: int = 0
    ladder: TargetLadder | None = None
    scan: str = ""

    @property
    def here(self) -> Position:
        """The present position."""
        return self.positions[self.at]

    def moved(self, by: int) -> TargetSlider:
        """Move the slider down, or up for a negative `by`, within the planned positions."""
        return replace(self, at=min(max(self.at + by, 0), len(self.positions) - 1))

    def longer(self, rung: TargetRung) -> TargetSlider:
        """Add a position."""
        amounts = {layer: amount for layer, text in rung.amounts.items() if (amount := typed_amount(text))}
        asked = replace(self.positions[0].asked, amounts=amounts)
        return replace(self, positions=(*self.positions, Position(rung.share, asked, rung.preview)), total=rung.total)


def slider_line(slider: TargetSlider, width: int) -> Text:
    """The slider in one line: the remaining share as a bar with a knob and a figure, and the state of the planning if there is room."""
    here, reach = slider.here, _reach(slider)
    share = f"{100 * here.share:.0f} % left"
    while reach and NAMES + SHORTEST + len(share) + 4 + sum(len(part) + 3 for part in reach) > width:
        reach.pop()
    tail = "".join(f"   {part}" for part in reach)
    space = min(max(width - NAMES - len(share) - len(tail) - 4, SHORTEST), LONGEST)
    knob = min(round(here.share * space), space - 1)
    track = round(slider.positions[-1].share * space)
    line = Text.assemble((f"{MEASURE_TITLES[slider.measure]:<{NAMES}}", f"bold {colours.WARNING}"), no_wrap=True)
    for cell in range(space):
        if cell == knob:
            line.append(GLYPHS.mark, f"bold {colours.WARNING}")
        else:
            line.append(GLYPHS.line if cell < knob else GLYPHS.track, colours.GOOD if cell < knob else _ground(cell, track))
    return line.append(f"  {share}", f"bold {colours.STRONG}").append(tail, colours.MUTED)


def _ground(cell: int, track: int) -> str:
    return colours.MUTED if cell >= track else colours.FAINT


def _reach(slider: TargetSlider) -> list[str]:
    """The state of the planning, the most needed words first."""
    ladder = slider.ladder
    if ladder is None:
        done = len(slider.positions) - 1
        return [f"{done} of {slider.total} positions planned{GLYPHS.ellipsis}" if slider.total else f"planning{GLYPHS.ellipsis}"]
    ground = slider.scan if ladder.scanned else "by importance"
    return [f"reachable {100 * ladder.least:.0f} to {100 * ladder.most:.0f} %", ground]


class SliderLine(Lines, can_focus=True):
    """The line below the panes that has the focus while a target is dragged."""

    def follow(self, store: Store) -> None:
        """Observe the slider of a session."""
        view = store.view

        def lines(width: int, height: int) -> Sequence[Text]:
            return [slider_line(view.slider, width)] if view.slider is not None else [Text()]

        store.observe(("slider", COLOURS), lambda: self.draw(lines))
