"""The map of the network: wires first, cards on top of them, the names of the sections where there is space."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby, pairwise
from typing import TYPE_CHECKING, ClassVar

from rich.style import Style
from rich.text import Text
from textual.binding import Binding, BindingType
from textual.widget import Widget

from tui_pruner.tui import colours
from tui_pruner.tui.actions import TREE
from tui_pruner.tui.drawing import GLYPHS, arrow, fit
from tui_pruner.tui.outline import Row
from tui_pruner.tui.panes.map_layout import CARD, HEIGHT, Card, Chart, MapLink, Point, block_under, chart
from tui_pruner.tui.panes.tree_row import FEWER_INPUTS, inputs, outputs, status_of
from tui_pruner.tui.panes.widgets import CLICK, ONE_MORE, Pane
from tui_pruner.tui.state import COLOURS, AppState, Store

if TYPE_CHECKING:
    from tui_pruner.engine.messages import BlockView


UPWARD, DOWNWARD, LEFTWARD, RIGHTWARD = 1, 2, 4, 8
VERTICAL, HORIZONTAL = UPWARD | DOWNWARD, LEFTWARD | RIGHTWARD
Cell = tuple[str, str]


@dataclass(frozen=True)
class Face:
    """The look of a card besides its name: a line about its channels or its cut, and its colours."""

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
        """A line of text, with equal adjacent styles merged."""
        row = [self.cells.get((y, x), (" ", "")) for x in range(self.width)]
        runs = [("".join(sign for sign, _ in run), style) for style, run in groupby(row, key=lambda cell: cell[1])]
        return Text.assemble(*runs, no_wrap=True)


def map_lines(chart: Chart, faces: dict[int, Face], lit: Collection[int], width: int) -> list[Text]:
    """Draw the whole map; `faces` by block number, `lit` the blocks of the explained path."""
    canvas = Canvas(width, chart.height)
    draw_wires(canvas, chart, lit)
    draw_names(canvas, chart)
    for card in chart.cards:
        draw_card(canvas, chart.tops[card.row], card, faces[card.index])
    lines = [canvas.line(y) for y in range(chart.height)]
    for card in chart.cards:
        for line in lines[chart.tops[card.row] : chart.tops[card.row] + HEIGHT]:
            line.stylize(Style(meta={CLICK: f"run('map-to', {card.index})"}), card.x, card.x + CARD)
    return lines


def draw_card(canvas: Canvas, y: int, card: Card, face: Face) -> None:
    """Draw a card: its name and its line."""
    canvas.write(y, card.x, fit(card.label, CARD), f"bold {face.style}")
    canvas.write(y + 1, card.x, fit(face.line, CARD, right=True), face.style)


def draw_names(canvas: Canvas, chart: Chart) -> None:
    """Draw each section's name above its first row, where no wire passes."""
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
    """Draw all links; those of the lit path last, on top of the others."""
    masks: dict[Point, dict[int, int]] = {}
    heads: dict[Point, tuple[str, str]] = {}
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
            heads[y - 1, x] = (GLYPHS.opened, style)
        elif x > before_x:
            heads[y, x - 1] = (GLYPHS.closed, style)
    canvas.cells |= heads


def is_lit(link: MapLink, lit: Collection[int]) -> bool:
    """Whether a link is part of the explained path."""
    return link.source in lit and link.target in lit


def joint(masks: Collection[int]) -> str:
    """The sign for wires that meet in a cell: where two cross, the vertical one passes over the other."""
    crossing = len(masks) > 1 and all(mask in (VERTICAL, HORIZONTAL) for mask in masks)
    together = 0
    for mask in masks:
        together |= mask
    return GLYPHS.wires[VERTICAL if crossing and together & VERTICAL else together]


def steps(points: Sequence[Point]) -> Iterator[tuple[Point, int]]:
    """The cells of a wire with these corners, with the sides on which each touches the next ones."""
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
    """The blocks of these modules, and the blocks without layers that pass channels between them."""
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


def faces(rows: Sequence[Row], state: AppState, lit: Collection[int], here: str) -> dict[int, Face]:
    """The face of every block by its number; `here` is the key of the block under the cursor."""
    indices = {block.name: block.index for block in state.opened.blocks}
    return {indices[row.key]: face(row, state, indices[row.key] in lit, row.key == here) for row in rows if row.kind == "block"}


def face(row: Row, state: AppState, lit: bool, here: bool) -> Face:
    """The face of a block: the change of its output, else the change inside it, else its channels."""
    before, after = outputs(row, state)
    words, style = status_of(row, state)
    tint = tint_of(row, state)
    changed = tint != colours.BAND
    narrower = f"in {arrow(*inputs(row, state))}" if words == FEWER_INPUTS else words
    line = arrow(before, after) if before != after else narrower if changed else str(before)
    text = style if changed else colours.MUTED if not row.layers else colours.TEXT
    sign = f"{GLYPHS.lit} " if lit else f"{GLYPHS.pending} " if here else ""
    return Face(f"{sign}{line}", f"{colours.WARNING if lit else text} on {colours.SELECTION if here else tint}".removeprefix("bold "))


def tint_of(row: Row, state: AppState) -> str:
    """The card's background: in conflict, about to change, cut by a step, or unchanged."""
    changes = [state.change(layer) for layer in row.layers]
    now = next((block.after for block in state.session.blocks if block.name == row.key), [])
    after = next((block.after for block in state.shapes if block.name == row.key), [])
    if any(state.in_conflict(layer.name) for layer in row.layers):
        return colours.CONFLICT_TINT
    asked = any(state.pending.of(layer.name) for layer in row.layers)
    if asked or now != after or any(change.pending or change.has_fewer_inputs for change in changes):
        return colours.PENDING_TINT
    cut = list(now[:1]) != list(row.output_shape[:1]) or any(change.stepped for change in changes)
    return colours.CUT_TINT if cut else colours.BAND


class MapPane(Pane, inherit_bindings=False):
    """The pane of the map: the arrow keys move from block to block."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up,k", "screen.run('map-move', 0, -1)", "Up", show=False),
        Binding("down,j", "screen.run('map-move', 0, 1)", "Down", show=False),
        Binding("left", "screen.run('map-move', -1, 0)", "Left", show=False),
        Binding("right", "screen.run('map-move', 1, 0)", "Right", show=False),
        Binding("home,g", "screen.run('map-move', -1000, 0)", "First block", show=False),
        Binding("end,G", "screen.run('map-move', 1000, 0)", "Last block", show=False),
        Binding("enter", "screen.run('map-enter')", "Show in the tree", show=False),
    ]
    _laid_out: tuple[int, Sequence[BlockView], Chart] | None = None

    def follow(self, store: Store) -> None:
        """Observe the map of a session."""
        names = ("opened", "session", "pending", "preview", "tree", "on_map", "explanation", COLOURS)
        store.observe(names, lambda: self.show(store), only_while="on_map")

    @property
    def width(self) -> int:
        """The map's width in cells."""
        return self.scrollable_content_region.width or self.app.size.width

    def _expect_the_trees_width(self) -> None:
        for tree in self.screen.query(f"#{TREE}").results(Widget):
            if tree.scrollable_content_region.width:
                self.expect(tree.scrollable_content_region.width + 1)  # the tree has a free column on its left

    def show(self, store: Store) -> None:
        """Draw the map if it is shown in place of the tree."""
        state, view = store.state, store.view
        blocks = state.opened.blocks

        def charts(width: int) -> Chart:
            if self._laid_out is None or self._laid_out[0] != width or self._laid_out[1] is not blocks:
                self._laid_out = (width, blocks, chart(blocks, width))
            return self._laid_out[2]

        def lines(width: int) -> tuple[list[Text], int, int]:
            plan, here = charts(width), block_under(blocks, view.tree.row)
            lit = lit_blocks(blocks, view.explanation.path) if view.explanation else set[int]()
            card = plan.card(here)
            drawn = map_lines(plan, faces(view.tree.rows, state, lit, card.name), lit, width)
            return drawn, plan.tops[card.row] + HEIGHT - 1, ONE_MORE

        if view.on_map:
            self._expect_the_trees_width()
            self.draw_at(lines)
