"""The keys that find one's way: panes, the filter, what is open in the tree."""

from __future__ import annotations

from tui_pruner.tui.outline import with_word
from tui_pruner.tui.screens.bench import PANES
from tui_pruner.tui.screens.compress_keys import CompressKeys
from tui_pruner.tui.screens.help import HelpScreen


class ViewKeys(CompressKeys):
    """What is looked at: nothing here changes the model or what is asked for."""

    def action_expand(self) -> None:
        """Open or close the block under the cursor."""
        self.model_tree.toggle()

    def action_toggle_all(self) -> None:
        """Open or close every block."""
        self.model_tree.toggle_all()

    def action_filter(self) -> None:
        """Open the filter line."""
        self.show_map(False)
        self.filter_line.connect(done=self.keep_filter, left=self.drop_filter, typed=self.model_tree.filter)
        self.filter_line.open("/", self.model_tree.words, replacing=True)

    def keep_filter(self, words: str) -> None:
        """Show what matches and go back to the tree; an empty filter disappears."""
        self.model_tree.filter(words)
        self.show_filter()
        self.set_focus(self.left_pane)

    def drop_filter(self) -> None:
        """Show everything again."""
        self.keep_filter("")

    def action_free_only(self) -> None:
        """Show only layers that can be cut alone, or all again."""
        self.show_map(False)
        self.keep_filter(with_word(self.model_tree.words, "free"))

    def action_sort(self) -> None:
        """Order the layers by their share of the FLOPs, of the parameters, or as in the model."""
        self.show_map(False)
        self.model_tree.sort()

    def action_back(self) -> None:
        """Leave the map, drop the filter, then the order, or go back to the model."""
        if self.pane == "tree" and self.on_map:
            self.show_map(False)
        elif self.pane == "tree" and self.filter_line.display:
            self.drop_filter()
        elif self.pane == "tree":
            self.model_tree.show_all()
        self.show_pane("tree")

    def action_next_problem(self) -> None:
        """Jump to the next layer that is asked for or changes."""
        board = self.board
        if board is None:
            return
        changed = {layer.name for layer in board.layers.values() if board.change(layer).pending or board.change(layer).reads_less}
        self.model_tree.go_to_next(changed | set(board.asked.amounts))

    def action_next_pane(self) -> None:
        """Move between the model and the detail; in a small window show it."""
        self.show_pane("detail" if self.pane == "tree" or (self.pane == "steps" and self.compared) else "tree")

    def action_show_steps(self) -> None:
        """Go to the steps and jobs."""
        self.show_pane("steps")

    def show_pane(self, pane: str) -> None:
        """Focus a pane; in a small window it is the one that is shown."""
        self.pane = pane
        if pane == "tree":
            self.compared = None
        self.compare_steps()
        for other in PANES:
            self.set_class(other == pane, f"show-{other}")
        self.set_focus(self.left_pane if pane == "tree" else self.query_one(f"#{pane}"))
        self.call_after_refresh(self.draw_all)

    def show_map(self, shown: bool) -> None:
        """Put the map or the tree on the left, and go there."""
        self.on_map = shown
        self.set_class(shown, "show-map")
        self.show_filter()
        self.show_pane("tree")

    def show_filter(self) -> None:
        """Show the filter's words above the tree, where there are any."""
        self.filter_line.show("/", "" if self.on_map else self.model_tree.words)

    def action_help(self) -> None:
        """Show all keys."""
        self.app.push_screen(HelpScreen())
