"""The model tree: a scrolling list of rows with fixed columns, drawn line by line so that a key press repaints only what changed;
and the layers of one of its blocks or sections as a table.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import ClassVar

from rich.cells import cell_len
from rich.markup import escape
from rich.style import Style
from rich.text import Text
from textual import events
from textual.binding import Binding, BindingType
from textual.geometry import Region, Size
from textual.scroll_view import ScrollView
from textual.strip import Strip

from tui_pruner.domain.formatting import count, plural
from tui_pruner.tui import colours
from tui_pruner.tui.drawing import arrow, fall, fit, strip_of
from tui_pruner.tui.outline import BY_DROP, IN_MODEL, Row, TreeState, matching_layers
from tui_pruner.tui.panes.tree_row import (
    GAP,
    WIDEST_NAME,
    Cells,
    Column,
    Look,
    composed,
    heading,
    heat_colour,
    layout,
    row_cells,
    status_of,
)
from tui_pruner.tui.panes.widgets import keeps_strips
from tui_pruner.tui.state import COLOURS, AppState, Store

Line = tuple[Cells, str, bool]
"""A line's cells, the colour of its background, and whether it is under the cursor."""
MARK = 2
"""The cells before the name of a layer in an ordered list."""


@keeps_strips
class ModelTree(ScrollView, inherit_bindings=False, can_focus=True):
    """Sections, blocks and layers, with a cursor. It draws the store, and sends requests for changes to the screen."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up,k", "screen.run('move', -1)", "Up", show=False),
        Binding("down,j", "screen.run('move', 1)", "Down", show=False),
        Binding("home,g", "screen.run('move', -100000)", "First row", show=False),
        Binding("end,G", "screen.run('move', 100000)", "Last row", show=False),
        Binding("ctrl+u", "half_page(-1)", "Half a page up", show=False),
        Binding("ctrl+d", "half_page(1)", "Half a page down", show=False),
    ]

    def __init__(self, store: Store, id: str | None = None) -> None:
        super().__init__(id=id)
        self.border_title = "Model"
        self._store = store
        self._tree = TreeState()
        self._look = Look(store.state, frozenset())
        self._measured: frozenset[str] = frozenset()
        self._longest = 0
        self._painted: dict[int, Line] = {}
        self._fresh: tuple[object, dict[int, Line]] = ((), {})
        store.observe(("tree", "opened"), self.show)
        store.observe(("scan", "latency"), self.show_measurements)
        store.observe(("opened", "session", "pending", "marks", "preview", COLOURS), self.redraw)

    def show(self) -> None:
        """Show the rows of the present view, with the cursor visible."""
        before, tree = self._tree, self._store.view.tree
        if tree is before:
            self.redraw()
            return
        self._tree = tree
        if tree.shown is not before.shown:
            self._measure(tree)
            self.refresh()
        self._reveal()

    def show_measurements(self) -> None:
        """Show the measurements: sensitivity of the layers, and latency of the blocks."""
        state, before = self._store.state, self._columns
        drops = state.scan is not None and state.scan.layers
        self._measured = frozenset([*(["drop"] if drops else []), *(["time"] if state.latency is not None else [])])
        self._retitle()
        if self._columns == before:
            self.redraw()
        else:
            self.refresh()

    def _retitle(self) -> None:
        scan, title = self._store.state.scan, _title(self._tree)
        if scan is not None and scan.partial:
            title += f"  scan: {scan.extent}"
        if self.border_title != title:
            self.border_title = title

    async def action_half_page(self, way: int) -> None:
        """Move the cursor by half a page."""
        lines = max(self.scrollable_content_region.height // 2, 1)
        await self.run_action(f"screen.run('move', {way * lines})")

    def on_mount(self) -> None:
        """Show the store's present state."""
        self.show_measurements()
        self.show()

    def on_click(self, event: events.Click) -> None:
        """Move the cursor to the mouse; a second click opens or closes. On a column's title, order by it."""
        line = event.get_content_offset(self)
        if line is not None and line.y == 0:
            order = column_order(self._columns, line.x)
            if order is not None:
                self.call_later(self.run_action, f"screen.run('order-by', {order!r})")
        elif line is not None:
            self.call_later(self.run_action, f"screen.run('row', {line.y - 1 + self.scroll_offset.y})")

    def on_resize(self) -> None:
        """Fit the columns again, and scroll to the top so that no space is left empty."""
        self.scroll_to(y=0, animate=False, force=True)
        self._measure(self._tree)
        self._reveal()
        self.refresh()

    def redraw(self) -> None:
        """Paint again the rows that look different now."""
        self._look = replace(self._look, weights=self._store.state.pending_weights)
        width, columns = self.scrollable_content_region.width, self._columns
        fresh = {y: self._line(y, columns) for y in self._painted}
        changed = [y for y, line in fresh.items() if line != self._painted[y]]
        self._fresh = self._view, {y: fresh[y] for y in changed}
        if changed:
            self.refresh(*(Region(0, y, width, 1) for y in changed))

    def render_line(self, y: int) -> Strip:
        """Render the heading or a row; the cells that `redraw` has found are not found again."""
        view, fresh = self._fresh
        known = fresh.pop(y, None)
        self._painted[y] = line = known if known is not None and view == self._view else self._line(y, self._columns)
        cells, back, chosen = line
        text = composed(cells, self._columns)
        if chosen:
            text.stylize("bold")
        return strip_of(text, self.app.console, self.scrollable_content_region.width, Style(bgcolor=back))

    @property
    def _view(self) -> tuple[object, ...]:
        """The values besides the state that a row's look depends on, which `redraw` observes."""
        return id(self._tree), self.has_focus, self.scroll_offset.y, self._columns

    def _line(self, y: int, columns: Sequence[Column]) -> Line:
        tree = self._tree
        if y == 0:
            return heading(columns), colours.BACKGROUND, False
        number = y - 1 + self.scroll_offset.y
        if number >= len(tree.shown):
            return (), colours.BACKGROUND, False
        chosen = number == tree.cursor
        back = (colours.SELECTION if self.has_focus else colours.BAND) if chosen else colours.BACKGROUND
        return row_cells(tree.shown[number], columns, self._look), back, chosen

    @property
    def _columns(self) -> tuple[Column, ...]:
        scan = self._store.state.scan
        return layout(
            self.scrollable_content_region.width,
            ranked=bool(self._tree.order),
            measured=self._measured,
            ratio=scan.ratio if scan else 0.0,
            name=self._longest,
        )

    def _measure(self, tree: TreeState) -> None:
        opened = frozenset(row.parent for row in tree.shown) if tree.filtered else tree.expanded
        scale = tree.shown if tree.order else [row for row in tree.rows if row.kind == "block"]
        self._look = Look(
            self._store.state,
            opened,
            most_parameters=max((row.parameters for row in scale), default=1),
            most_flops=max((row.flops for row in scale), default=1),
            weights=self._store.state.pending_weights,
        )
        self._longest = min(max((cell_len(row.name) + MARK for row in tree.shown), default=0), WIDEST_NAME) if tree.order else 0
        self._retitle()
        self.virtual_size = Size(self.scrollable_content_region.width, len(tree.shown) + 1)

    def _reveal(self) -> None:
        self.scroll_to_region(Region(0, self._tree.cursor, 1, 2), animate=False, force=True)
        self.redraw()


def _title(tree: TreeState) -> str:
    words = " ".join(tree.words.split())
    if not words and not tree.order:
        return "Model"
    found, all_layers = len(matching_layers(tree.rows, words)), len(matching_layers(tree.rows))
    counted = f"{found} of {plural(all_layers, 'layer')}" if words else plural(all_layers, "layer")
    return "  ".join(part for part in ("Model", escape(words), counted, tree.order) if part)


COLUMN_ORDERS = {"name": IN_MODEL, "parameters": "by parameters", "flops": "by FLOPs", "drop": BY_DROP}


def column_order(columns: Sequence[Column], x: int) -> str | None:
    """The order for a click on a column's title; None where it has none."""
    for column in columns:
        if x < column.width:
            return COLUMN_ORDERS.get(column.key)
        x -= column.width + GAP
    return None


LAYER_COLUMNS = (("channels", 11), ("params", 8), ("FLOPs", 8))
STATUS_CELLS = 12


def layers_lines(row: Row, state: AppState, width: int, height: int) -> list[Text]:
    """The layers of a block or section in at most `height` lines, the most FLOPs first: their widths, their costs after the steps and
    the pending cuts, their drop of the metric in the scan, and their status.
    """
    if height < 3 or not row.layers:
        return []
    prefix = f"{row.key}." if row.kind == "block" else "model."
    scan, costs = state.scan, {layer.name: state.weight(layer) for layer in row.layers}
    layers = sorted(row.layers, key=lambda layer: -costs[layer.name][1])
    scanned = scan is not None and any(layer.name in scan.layers for layer in layers)
    names = min(max(len(layer.name.removeprefix(prefix)) for layer in layers) + 1, 22)
    titles = [("drop@", 9), ("@", 7)] if scan is not None and scanned else []
    drops = [((f"{title}{scan.ratio if scan else 0:.0%}", cells),) for title, cells in titles]
    ways = [*((*LAYER_COLUMNS, *drop) for drop in drops), *(LAYER_COLUMNS[:most] for most in range(len(LAYER_COLUMNS), -1, -1))]
    columns = next(way for way in ways if names + sum(cells for _, cells in way) + 2 + STATUS_CELLS <= width or not way)
    heading = "".join(fit(title, cells, right=True) for title, cells in columns)
    lines = [Text.assemble((fit("Layer", names), colours.HEADING), (f"{heading}  status", colours.MUTED))]
    most = height - 1 if len(layers) < height else height - 2
    for layer in layers[:most]:
        change, (parameters, flops) = state.change(layer), costs[layer.name]
        found = scan.layers.get(layer.name, {}).get(scan.ratio) if scan is not None else None
        figures = [arrow(change.outputs[0], change.outputs[2]), count(parameters), count(flops), "" if found is None else fall(found)]
        styles = [colours.TEXT, colours.BLUE, colours.PURPLE, heat_colour(found, scan.baseline) if found is not None and scan else ""]
        line = Text(fit(layer.name.removeprefix(prefix), names), colours.TEXT)
        for (_, cells), figure, style in zip(columns, figures, styles, strict=False):
            line.append(fit(figure, cells, right=True), style)
        words, style = status_of(replace(row, kind="layer", key=layer.name, layers=(layer,)), state)
        lines.append(line.append(f"  {fit(words, STATUS_CELLS).rstrip()}", style))
    return [*lines, *([Text(f"and {len(layers) - most} more", colours.MUTED)] if len(layers) > most else [])]
