"""Diagrams as SVG in the page, without scripts; in Markdown they become tables of their points."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from html import escape
from typing import Literal

WIDTH, HEIGHT = 720, 340
LEFT, RIGHT, TOP, BOTTOM = 64, 24, 34, 44
SIGN_WIDTH, LINE_HEIGHT = 6.6, 13
"""The width of a character and the height of a label, in the drawing's units; not too small."""
OFFSETS = ((0, -10, "middle"), (9, 4, "start"), (0, 20, "middle"), (-9, 4, "end"), (9, -12, "start"), (9, 20, "start"), (-9, 20, "end"))


@dataclass(frozen=True)
class ChartDot:
    """A point with its name, and the interval of its y value, if known."""

    x: float
    y: float
    name: str = ""
    interval: tuple[float, float] | None = None


@dataclass(frozen=True)
class DotLine:
    """Points of one kind, in order."""

    name: str
    dots: tuple[ChartDot, ...]


@dataclass(frozen=True)
class Diagram:
    """Lines in one plot, with the names of its axes."""

    right: str
    up: str
    lines: tuple[DotLine, ...]
    scale: Literal["giga", "plain"] = "plain"


@dataclass(frozen=True)
class Axes:
    """Maps values to positions in the drawing."""

    across: tuple[float, ...]
    along: tuple[float, ...]

    def x(self, value: float) -> float:
        """Position from the left."""
        return LEFT + (value - self.across[0]) / (self.across[-1] - self.across[0]) * (WIDTH - LEFT - RIGHT)

    def y(self, value: float) -> float:
        """Position from the top."""
        return HEIGHT - BOTTOM - (value - self.along[0]) / (self.along[-1] - self.along[0]) * (HEIGHT - TOP - BOTTOM)


def ticks(low: float, high: float, wanted: int = 5) -> tuple[float, ...]:
    """Round numbers that include both ends."""
    if not high > low:
        low, high = low - (abs(low) / 10 or 1.0), high + (abs(high) / 10 or 1.0)
    rough = (high - low) / wanted
    power = 10.0 ** math.floor(math.log10(rough))
    size = next(power * factor for factor in (1, 2, 2.5, 5, 10) if power * factor >= rough * 0.999)
    first, last = math.floor(low / size + 1e-9), math.ceil(high / size - 1e-9)
    return tuple(round(number * size, 12) for number in range(first, last + 1))


def finite(diagram: Diagram) -> Diagram:
    """The same diagram without points that are NaN or infinite."""
    lines = tuple(DotLine(line.name, tuple(d for d in line.dots if math.isfinite(d.x) and math.isfinite(d.y))) for line in diagram.lines)
    return Diagram(diagram.right, diagram.up, tuple(line for line in lines if line.dots), diagram.scale)


def svg(drawn: Diagram) -> str:
    """The diagram as SVG; colours are in the page's style sheet, and without it lines are still drawn as lines."""
    diagram = finite(drawn)
    dots = [dot for line in diagram.lines for dot in line.dots]
    if not dots:
        return "<p>Nothing to draw.</p>"
    heights = [value for dot in dots for value in (dot.y, *(dot.interval or ()))]
    axes = Axes(ticks(min(dot.x for dot in dots), max(dot.x for dot in dots)), ticks(min(heights), max(heights)))
    lines = "".join(line_of(line, number, axes) for number, line in enumerate(diagram.lines))
    said = escape(f"{diagram.up} over {diagram.right}: {', '.join(line.name for line in diagram.lines)}", quote=True)
    return (
        f'<svg class="diagram" role="img" aria-label="{said}" font-size="12" viewBox="0 0 {WIDTH} {HEIGHT}" '
        f'width="{WIDTH}" height="{HEIGHT}">'
        f"{''.join(grid_of(axes, diagram))}{lines}{''.join(labels(dots, axes))}{''.join(keys(diagram.lines))}</svg>"
    )


def html_diagram(part: Diagram) -> str:
    """The diagram, scrollable where the window is too narrow for it."""
    return f'<div class="wide plot">{svg(part)}</div>'


def grid_of(axes: Axes, diagram: Diagram) -> Iterable[str]:
    """Grid lines with their numbers, and the axes' names."""
    foot = HEIGHT - BOTTOM
    for value in axes.along:
        y = axes.y(value)
        yield f'<path class="grid" fill="none" stroke="#d5dbe0" d="M{LEFT} {y:.1f}H{WIDTH - RIGHT}"/>'
        yield f'<text class="tick" x="{LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{value:g}</text>'
    for value in axes.across:
        x = axes.x(value)
        yield f'<path class="grid" fill="none" stroke="#d5dbe0" d="M{x:.1f} {foot}v5"/>'
        yield f'<text class="tick" x="{x:.1f}" y="{foot + 18}" text-anchor="middle">{number_of(value, diagram.scale)}</text>'
    yield f'<text class="axis" x="{WIDTH - RIGHT}" y="{HEIGHT - 8}" text-anchor="end">{escape(diagram.right)}</text>'
    yield f'<text class="axis" x="8" y="18">{escape(diagram.up)}</text>'


def number_of(value: float, scale: str) -> str:
    """A number on the lower axis."""
    return f"{value / 1e9:g}" if scale == "giga" else f"{value:g}"


def line_of(line: DotLine, number: int, axes: Axes) -> str:
    """A line with its intervals and dots; each kind has another marker, for print without colours."""
    places = [(axes.x(dot.x), axes.y(dot.y)) for dot in line.dots]
    path = "L".join(f"{x:.1f} {y:.1f}" for x, y in places)
    spans = "".join(
        f'<path class="span" stroke="#444d55" d="M{axes.x(dot.x):.1f} {axes.y(dot.interval[0]):.1f}V{axes.y(dot.interval[1]):.1f}"/>'
        for dot in line.dots
        if dot.interval
    )
    shape = SHAPES[number % len(SHAPES)]
    dots = "".join(f"<g>{shape(x, y)}<title>{escape(words(dot))}</title></g>" for (x, y), dot in zip(places, line.dots, strict=True))
    return f'<g class="line{number % len(SHAPES)}"><path class="path" fill="none" stroke="#444d55" d="M{path}"/>{spans}{dots}</g>'


def circle(x: float, y: float) -> str:
    """A round marker."""
    return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4"/>'


def square(x: float, y: float) -> str:
    """A square marker."""
    return f'<rect x="{x - 3.5:.1f}" y="{y - 3.5:.1f}" width="7" height="7"/>'


def triangle(x: float, y: float) -> str:
    """A triangular marker."""
    return f'<path d="M{x:.1f} {y - 5:.1f}l4.6 8.5h-9.2z"/>'


SHAPES: tuple[Callable[[float, float], str], ...] = (circle, square, triangle)


def words(dot: ChartDot) -> str:
    """A point as text."""
    sure = f" ({dot.interval[0]:.4f} to {dot.interval[1]:.4f})" if dot.interval else ""
    return f"{dot.name} {dot.y:.4f}{sure}".strip()


def labels(dots: list[ChartDot], axes: Axes) -> Iterable[str]:
    """Names beside their points, where there is space."""
    taken = [(axes.x(dot.x) - 5, axes.y(dot.y) - 5, axes.x(dot.x) + 5, axes.y(dot.y) + 5) for dot in dots]
    named = {(dot.name, dot.x, dot.y): dot for dot in dots if dot.name}
    for dot in named.values():
        wide = SIGN_WIDTH * len(dot.name)
        for across, down, anchor in OFFSETS:
            x, y = axes.x(dot.x) + across, axes.y(dot.y) + down
            start = x - {"start": 0.0, "middle": wide / 2, "end": wide}[anchor]
            space_left = (start, y - LINE_HEIGHT + 3, start + wide, y + 3)
            inside = start >= LEFT and space_left[2] <= WIDTH and space_left[1] >= TOP - 10 and space_left[3] <= HEIGHT - BOTTOM
            if inside and not any(overlap(space_left, other) for other in taken):
                taken.append(space_left)
                yield f'<text class="name" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(dot.name)}</text>'
                break


def overlap(one: tuple[float, float, float, float], other: tuple[float, float, float, float]) -> bool:
    """Whether two boxes overlap."""
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


def keys(lines: tuple[DotLine, ...]) -> Iterable[str]:
    """The legend, from the right end of the head."""
    x = float(WIDTH - RIGHT)
    for number, line in reversed(list(enumerate(lines))):
        x -= SIGN_WIDTH * len(line.name)
        yield f'<text class="tick" x="{x:.1f}" y="18">{escape(line.name)}</text>'
        x -= 11
        yield f'<g class="line{number % len(SHAPES)}">{SHAPES[number % len(SHAPES)](x, 14)}</g>'
        x -= 22


def rows_of(part: Diagram) -> list[list[str]]:
    """Each point as a row: the line, the name, both numbers."""
    return [
        [line.name, dot.name, f"{dot.x:.4g}" if part.scale == "plain" else f"{dot.x / 1e9:.4g}", f"{dot.y:.4f}"]
        for line in finite(part).lines
        for dot in line.dots
    ]
