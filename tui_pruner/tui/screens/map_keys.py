"""The map of the network in the tree's place: its cursor is the tree's, so that every other key works on it too."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

from rich.text import Text

from tui_pruner.tui.map_faces import faces
from tui_pruner.tui.map_layout import HEIGHT, Chart, chart
from tui_pruner.tui.map_text import lit_blocks, map_lines
from tui_pruner.tui.opening import Opening
from tui_pruner.tui.screens.explain_keys import ExplainKeys
from tui_pruner.tui.widgets.lines import MapPane

if TYPE_CHECKING:
    from tui_pruner.tui.board import Board


class MapKeys(ExplainKeys):
    """Showing the map, and moving on it."""

    def __init__(self, opening: Opening) -> None:
        super().__init__(opening)
        self._chart = lru_cache(maxsize=4)(self._lay_out)

    def action_map(self) -> None:
        """Show the map, or the tree again."""
        self.show_map(not self.on_map)

    def action_map_move(self, columns: int, rows: int) -> None:
        """Go to the block beside, above or below."""
        if self.board is not None:
            self._stand_on(self._chart(self._map_width).neighbour(self._here, columns, rows))

    def action_map_to(self, index: int) -> None:
        """Go to a block; a second time, show it in the tree."""
        if index == self._here:
            self.action_map_enter()
        else:
            self._stand_on(index)

    def action_map_enter(self) -> None:
        """Show the block under the cursor in the tree, open."""
        row = self.model_tree.row
        self.show_map(False)
        if row is not None and row.expandable and not self.model_tree.is_open(row.key):
            self.model_tree.toggle()

    def draw_map(self) -> None:
        """Show the map as things are now."""
        board = self.board
        if board is None or not self.on_map:
            return
        plan = self._chart(self._map_width)
        self.query_one("#map", MapPane).draw(
            lambda width, _: self._map_lines(board, width), see=plan.tops[plan.card(self._here).row] + HEIGHT - 1
        )

    @property
    def _map_width(self) -> int:
        return self.query_one("#map", MapPane).scrollable_content_region.width or self.app.size.width

    @property
    def _here(self) -> int:
        """The number of the block that the tree's cursor is in; in a section's row its first one."""
        assert self.board is not None
        row, blocks = self.model_tree.row, self.board.opened.blocks
        name = row.parent if row is not None and row.kind == "layer" else row.key if row is not None else ""
        return next((block.index for block in blocks if name in (block.name, block.section)), blocks[0].index)

    def _stand_on(self, index: int) -> None:
        self.model_tree.show(self._chart(self._map_width).card(index).name)
        self.draw_map()

    def _map_lines(self, board: Board, width: int) -> list[Text]:
        plan = self._chart(width)
        lit = lit_blocks(board.opened.blocks, self.inquiry.path) if self.inquiry else set[int]()
        return map_lines(plan, faces(self.model_tree.rows, board, lit, plan.card(self._here).name), lit, width)

    def _lay_out(self, width: int) -> Chart:
        assert self.board is not None
        return chart(self.board.opened.blocks, width)
