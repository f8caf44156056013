"""The map as lines of text: wires first, cards on top of them, the names of the sections where there is room."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby, pairwise
from typing import TYPE_CHECKING

from rich.style import Style
from rich.text import Text

from tui_pruner.tui import colours
from tui_pruner.tui.drawing import fit
from tui_pruner.tui.footer_text import CLICK
from tui_pruner.tui.glyphs import GLYPHS
from tui_pruner.tui.map_layout import CARD, HEIGHT, Card, Chart, Link, Point

if TYPE_CHECKING:
    from tui_pruner.engine.protocol import BlockView

UPWARD, DOWNWARD, LEFTWARD, RIGHTWARD = 1, 2, 4, 8
VERTICAL, HORIZONTAL = UPWARD | DOWNWARD, LEFTWARD | RIGHTWARD
Cell = tuple[str, str]


@dataclass(frozen=True)
class Face:
    """What a card shows besides its name: a line about its channels or its cut, and its colours."""

    line: str
    style: str


@dataclass
class Canvas:
    """Cells by (y, x): a sign and its style."""

    width: int
    height: int
    cells: dict[Point, Cell] = field(default_factory=dict)

    def write(self, y: int, x: int, text: str, style: str) -> None:
        """Put text on one line."""
        for offset, sign in enumerate(text):
            self.cells[y, x + offset] = (sign, style)

    def line(self, y: int) -> Text:
        """A line, equal styles together."""
        row = [self.cells.get((y, x), (" ", "")) for x in range(self.width)]
        runs = [("".join(sign for sign, _ in run), style) for style, run in groupby(row, key=lambda cell: cell[1])]
        return Text.assemble(*runs, no_wrap=True)


def map_lines(chart: Chart, faces: dict[int, Face], lit: Collection[int], width: int) -> list[Text]:
    """The whole map; `faces` by block number, `lit` the blocks of the explained path."""
    canvas = Canvas(width, chart.height)
    draw_wires(canvas, chart, lit)
    draw_names(canvas, chart)
    for card in chart.cards:
        draw_card(canvas, chart.tops[card.row], card, faces[card.index])
    lines = [canvas.line(y) for y in range(chart.height)]
    for card in chart.cards:
        for line in lines[chart.tops[card.row] : chart.tops[card.row] + HEIGHT]:
            line.stylize(Style(meta={CLICK: f"map_to({card.index})"}), card.x, card.x + CARD)
    return lines


def draw_card(canvas: Canvas, y: int, card: Card, face: Face) -> None:
    """A card: its name and its line."""
    canvas.write(y, card.x, fit(card.label, CARD), f"bold {face.style}")
    canvas.write(y + 1, card.x, fit(face.line, CARD, right=True), face.style)


def draw_names(canvas: Canvas, chart: Chart) -> None:
    """Each section's name above its first row, where no wire comes down."""
    seen: set[str] = set()
    for card in chart.cards:
        if card.section in seen:
            continue
        seen.add(card.section)
        name, y = card.section.capitalize(), chart.tops[card.row] - 1
        places = [x for x in range(canvas.width - len(name)) if not any((y, x + n) in canvas.cells for n in range(-1, len(name) + 1))]
        if places:
            canvas.write(y, places[0], name, colours.HEADING)


def draw_wires(canvas: Canvas, chart: Chart, lit: Collection[int]) -> None:
    """All links; those of the lit path last, so that nothing hides them."""
    masks: dict[Point, dict[int, int]] = {}
    for link in chart.links:
        for point, mask in steps(link.points):
            masks.setdefault(point, {})
            masks[point][link.source] = masks[point].get(link.source, 0) | mask
    for link in sorted(chart.links, key=lambda link: is_lit(link, lit)):
        style = f"bold {colours.WARNING}" if is_lit(link, lit) else colours.FAINT if link.target == link.source + 1 else colours.BLUE
        for point, _ in steps(link.points):
            canvas.cells[point] = (joint(masks[point].values()), style)
        (y, x), (before_y, before_x) = link.points[-1], link.points[-2]
        if y > before_y:
            canvas.cells[y - 1, x] = (GLYPHS.opened, style)
        elif x > before_x:
            canvas.cells[y, x - 1] = (GLYPHS.closed, style)


def is_lit(link: Link, lit: Collection[int]) -> bool:
    """Whether a link is part of the explained path."""
    return link.source in lit and link.target in lit


def joint(masks: Collection[int]) -> str:
    """The sign for wires that meet in a cell: where two only cross, the one that goes down passes over the other."""
    crossing = len(masks) > 1 and all(mask in (VERTICAL, HORIZONTAL) for mask in masks)
    together = 0
    for mask in masks:
        together |= mask
    return GLYPHS.wires[VERTICAL if crossing and together & VERTICAL else together]


def steps(points: Sequence[Point]) -> Iterator[tuple[Point, int]]:
    """Every cell that a wire with these corners goes through, with the sides on which it touches the next ones."""
    for (y, x), (to_y, to_x) in pairwise(points):
        if x == to_x:
            low, high = sorted((y, to_y))
            for at in range(low, high + 1):
                yield (at, x), (UPWARD if at > low else 0) | (DOWNWARD if at < high else 0)
        else:
            low, high = sorted((x, to_x))
            for at in range(low, high + 1):
                yield (y, at), (LEFTWARD if at > low else 0) | (RIGHTWARD if at < high else 0)


def lit_blocks(blocks: Sequence[BlockView], modules: Sequence[str]) -> set[int]:
    """The blocks that these modules are in, and the blocks without layers that hand channels on between them."""
    by_index = {block.index: block for block in blocks}
    lit = {block.index for block in blocks for module in modules if f"{module}.".startswith(f"{block.name}.")}
    return lit | {number for index in list(lit) for number in _handed_on(by_index, by_index[index], lit)}


def _handed_on(by_index: dict[int, BlockView], block: BlockView, lit: Collection[int]) -> set[int]:
    found: set[int] = set()
    for source in block.from_:
        if source in lit or source not in by_index or by_index[source].layers:
            continue
        further = _handed_on(by_index, by_index[source], lit)
        if further or any(before in lit for before in by_index[source].from_):
            found |= {source} | further
    return found
