"""The model tree: a scrolling list of rows with fixed columns, drawn line by line so that a key press repaints only what changed."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import ClassVar

from rich.markup import escape
from rich.style import Style
from rich.text import Text
from textual import events
from textual.binding import Binding, BindingType
from textual.geometry import Region, Size
from textual.scroll_view import ScrollView
from textual.strip import Strip

from tui_pruner.tui import colours
from tui_pruner.tui.board import Board
from tui_pruner.tui.columns import Column, layout
from tui_pruner.tui.drawing import strip_of
from tui_pruner.tui.figures import plural
from tui_pruner.tui.messages import RowHighlighted
from tui_pruner.tui.outline import BY_DROP, IN_MODEL, ORDERS, Row, Standpoint, matching_layers, nearest, outline, row_of, visible
from tui_pruner.tui.tree_text import Look, heading, row_text


class ModelTree(ScrollView, inherit_bindings=False, can_focus=True):
    """Sections, blocks and layers, with a cursor. It shows a board and changes nothing."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up", "move(-1)", "Up", show=False),
        Binding("down", "move(1)", "Down", show=False),
        Binding("home", "move(-100000)", "First row", show=False),
        Binding("end", "move(100000)", "Last row", show=False),
    ]

    def __init__(self, id: str | None = None) -> None:
        super().__init__(id=id)
        self.border_title = "Model"
        self._rows: list[Row] = []
        self._shown: list[Row] = []
        self._expanded: set[str] = set()
        self._look: Look | None = None
        self._words = ""
        self._order = IN_MODEL
        self._cursor = 0
        self._heats: Mapping[str, float] = {}
        self._measured: frozenset[str] = frozenset()
        self._painted: dict[int, Strip] = {}

    @property
    def row(self) -> Row | None:
        """The row under the cursor."""
        return self._shown[self._cursor] if self._cursor < len(self._shown) else None

    @property
    def rows(self) -> Sequence[Row]:
        """All rows of the model."""
        return self._rows

    @property
    def shown(self) -> Sequence[Row]:
        """The rows that are visible now, in order."""
        return self._shown

    @property
    def words(self) -> str:
        """The filter."""
        return self._words

    @property
    def standpoint(self) -> Standpoint:
        """How the tree is looked at now."""
        return Standpoint(self.row.key if self.row else "", frozenset(self._expanded), self._words, self._order)

    @property
    def order(self) -> str:
        """How the rows are ordered: as in the model, or layers by a share."""
        return self._order

    def show_model(self, board: Board) -> None:
        """Show another model from the top, sections open."""
        self._rows = outline(board.opened.blocks)
        self._expanded = {row.key for row in self._rows if row.kind == "section"}
        self._look = Look(board, self._expanded)
        self._take_measurements()
        self._cursor = 1 if len(self._rows) > 1 else 0
        self._reveal()

    def show_measurements(self) -> None:
        """Show what was measured: how sensitive the layers are, by which they can be ordered, and how long the blocks take."""
        self._take_measurements()
        self._reveal(keep=self.row.key if self.row else "")

    def filter(self, words: str) -> None:
        """Show only the rows that match all of these words, with what they stand in, and go to the first match."""
        if words == self._words:
            return
        here = self.row.key if self.row else ""
        self._words = words
        if not words.strip():
            self.go_to(here)
            return
        self._reveal(keep=nearest(self._rows, words, here))

    def go_to(self, key: str) -> bool:
        """Put the cursor on a row, opening what it stands in; False when there is no such row."""
        by_key = {row.key: row for row in self._rows}
        if key not in by_key:
            return False
        parent = by_key[key].parent
        while parent:
            self._expanded.add(parent)
            parent = by_key[parent].parent
        self._reveal(keep=key)
        return True

    def key_of(self, module: str) -> str:
        """The row that shows a module; empty where none does."""
        row = row_of(self._rows, module)
        return row.key if row else ""

    def can_show(self, key: str) -> bool:
        """Whether the filter and the order let a row be seen."""
        return not (self._words.strip() or self._order) or key in {row.key for row in self._shown}

    def show_all(self) -> None:
        """Forget the filter and the order, the cursor staying where it is."""
        self._order, self._words = IN_MODEL, ""
        self.go_to(self.row.key if self.row else "")

    def sort(self) -> None:
        """Order the layers by the next share, from the heaviest down; after the last one as in the model again."""
        orders = [IN_MODEL, *ORDERS, *([BY_DROP] if self._heats else [])]
        self._order = orders[(orders.index(self._order) + 1) % len(orders)]
        if self._order:
            self._reveal()
            self._put_cursor(0)
        else:
            self.go_to(self.row.key if self.row else "")

    def look_from(self, standpoint: Standpoint) -> None:
        """Look at the tree as somebody did before."""
        self._expanded = set(standpoint.expanded)
        self._words, self._order = standpoint.words, standpoint.order
        self._reveal(keep=standpoint.key)

    def show(self, key: str) -> None:
        """Put the cursor on a row, whatever the filter and the order hide."""
        if not self.can_show(key):
            self.show_all()
        self.go_to(key)

    def is_open(self, key: str) -> bool:
        """Whether what a row has below it is shown."""
        return key in self._expanded

    def toggle(self) -> None:
        """Open or close the row under the cursor; on a layer, close its block; in another order, show it in the model."""
        row = self.row
        if row is None:
            return
        if self._order:
            self._order = IN_MODEL
            self.go_to(row.key)
            return
        key = row.parent if row.kind == "layer" else row.key
        if row.expandable or row.kind == "layer":
            self._expanded ^= {key}
            self._reveal(keep=key)

    def toggle_all(self) -> None:
        """Open every block, or close them all when they are open."""
        blocks = {row.key for row in self._rows if row.kind == "block" and row.expandable}
        self._expanded ^= blocks if blocks <= self._expanded else blocks - self._expanded
        row = self.row
        self._reveal(keep="" if row is None else row.parent if row.kind == "layer" and not blocks <= self._expanded else row.key)

    def go_to_next(self, layers: Collection[str]) -> None:
        """Put the cursor on the next row after it whose layer is one of these, from the top again after the last."""
        keys = [row.key for row in self._rows if row.layer is not None and row.layer.name in layers]
        if not keys:
            return
        order = [row.key for row in self._rows]
        here = order.index(self.row.key) if self.row else 0
        later = [key for key in keys if order.index(key) > here]
        self.go_to((later or keys)[0])

    def action_move(self, lines: int) -> None:
        """Move the cursor."""
        self._put_cursor(min(max(self._cursor + lines, 0), max(len(self._shown) - 1, 0)))

    def on_click(self, event: events.Click) -> None:
        """Put the cursor where the mouse is; a second click opens or closes."""
        line = event.get_content_offset(self)
        if line is None:
            return
        number = line.y - 1 + self.scroll_offset.y
        if not 0 <= number < len(self._shown):
            return
        if number == self._cursor:
            self.toggle()
        else:
            self._put_cursor(number)

    def on_resize(self) -> None:
        """Fit the columns again, and start from the top so that no room stays empty."""
        self.scroll_to(y=0, animate=False, force=True)
        self._reveal(keep=self.row.key if self.row else "")

    def redraw(self) -> None:
        """Paint the rows again that look different now."""
        width = self.scrollable_content_region.width
        changed = [y for y, painted in list(self._painted.items()) if painted != self._line(y)]
        if changed:
            self.refresh(*(Region(0, y, width, 1) for y in changed))

    def render_line(self, y: int) -> Strip:
        """The heading, or one row."""
        self._painted[y] = strip = self._line(y)
        return strip

    def _line(self, y: int) -> Strip:
        width = self.scrollable_content_region.width
        if y == 0:
            return self._strip(heading(self._columns), width, Style(bgcolor=colours.BACKGROUND))
        number = y - 1 + self.scroll_offset.y
        if number >= len(self._shown) or self._look is None:
            return Strip.blank(width, Style(bgcolor=colours.BACKGROUND))
        text = row_text(self._shown[number], self._columns, self._look)
        chosen = number == self._cursor
        back = (colours.SELECTION if self.has_focus else colours.BAND) if chosen else colours.BACKGROUND
        if chosen:
            text.stylize("bold")
        return self._strip(text, width, Style(bgcolor=back))

    @property
    def _columns(self) -> tuple[Column, ...]:
        return layout(self.scrollable_content_region.width, ranked=bool(self._order), measured=self._measured)

    def _take_measurements(self) -> None:
        board = self._look.board if self._look is not None else None
        self._heats = board.scan.heats if board is not None and board.scan is not None else {}
        timed = board is not None and board.timed is not None
        self._measured = frozenset([*(["drop"] if self._heats else []), *(["time"] if timed else [])])

    def _strip(self, text: Text, width: int, base: Style) -> Strip:
        return strip_of(text, self.app.console, width, base)

    def _title(self) -> str:
        words = " ".join(self._words.split())
        if not words and not self._order:
            return "Model"
        found, all_layers = len(matching_layers(self._rows, words)), len(matching_layers(self._rows))
        counted = f"{found} of {plural(all_layers, 'layer')}" if words else plural(all_layers, "layer")
        return "  ".join(part for part in ("Model", escape(words), counted, self._order) if part)

    def _reveal(self, keep: str = "") -> None:
        self._shown = visible(self._rows, self._expanded, self._words, self._order, self._heats)
        if self._look is not None:
            opened = {row.parent for row in self._shown} if self._words.strip() else self._expanded
            scale = self._shown if self._order else [row for row in self._rows if row.kind == "block"]
            self._look = replace(
                self._look,
                expanded=opened,
                most_parameters=max((row.parameters for row in scale), default=1),
                most_flops=max((row.flops for row in scale), default=1),
            )
        self.border_title = self._title()
        keys = [row.key for row in self._shown]
        if keep in keys:
            self._cursor = keys.index(keep)
        self._cursor = min(self._cursor, max(len(keys) - 1, 0))
        self.virtual_size = Size(self.scrollable_content_region.width, len(keys) + 1)
        self._put_cursor(self._cursor)
        self.refresh()

    def _put_cursor(self, number: int) -> None:
        self._cursor = number
        self.scroll_to_region(Region(0, number, 1, 2), animate=False, force=True)
        self.redraw()
        self.post_message(RowHighlighted(self.row))
