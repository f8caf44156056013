"""Controls what is shown: panes, the filter, the order, the map, themes, and the help. Nothing here changes the model or the cuts."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial

from tui_pruner.tui.actions import DETAIL, INTERACTIVE, STEPS_PANE, TREE, VIEW, Action
from tui_pruner.tui.controllers.base import Controller
from tui_pruner.tui.outline import with_word
from tui_pruner.tui.panes.map_layout import Chart, block_under, chart
from tui_pruner.tui.state import COLOURS

INSPECT = "inspect MODEL"
THEMES = (
    ("dark", "dark", "light colours on a dark ground"),
    ("light", "light", "dark colours on a light ground"),
    ("high-contrast", "high contrast", "colours that stand out most"),
    ("ansi", "the terminal's own", "the terminal's own 16 colours"),
)


class ViewController(Controller):
    """Panes, the tree, and the map in its place: the map shares the tree's cursor, so that all other keys work on it too."""

    _chart: tuple[int, Chart] | None = None

    def actions(self) -> Sequence[Action]:
        """Actions of navigation."""
        return (
            Action(
                id="toggle-all",
                keys="z",
                title="Open or close all",
                help="Open every block, or close them all.",
                group=VIEW,
                cli=INTERACTIVE,
                run=self.toggle_all,
            ),
            Action(
                id="filter",
                keys="slash",
                shown="/",
                title="Filter",
                help="Show only layers whose name, type, section or status matches; several words must all match.",
                group=VIEW,
                cli=INSPECT,
                run=self.open_filter,
                footer="filter",
            ),
            Action(
                id="free-only",
                keys="f",
                title="Free only",
                help="Show only layers that can be cut alone; again shows all.",
                group=VIEW,
                cli=INSPECT,
                run=self.show_free,
            ),
            Action(
                id="sort",
                keys="o",
                title="Order",
                help="Order the layers by their share of the FLOPs, of the parameters, or as in the model.",
                group=VIEW,
                cli=INSPECT,
                run=self.order,
                footer="order",
            ),
            Action(
                id="map",
                keys="m",
                title="Map",
                help="Show the network as a map with the explained path: arrows go from block to block, enter shows one in the tree.",
                group=VIEW,
                cli=INSPECT,
                run=lambda: self.show_map(not self.view.on_map),
                footer="map",
            ),
            Action(
                id="next-problem",
                keys="n",
                title="Next asked layer",
                help="Jump to the next layer that has a pending cut, is also affected, or is in conflict.",
                group=VIEW,
                cli="preview MODEL --cut LAYER=AMOUNT",
                run=self.next_problem,
            ),
            Action(
                id="next-pane",
                keys="tab",
                title="Next pane",
                help="Move between the model and the detail.",
                group=VIEW,
                cli=INTERACTIVE,
                run=self.next_pane,
                footer="pane",
            ),
            Action(
                id="show-steps",
                keys="s",
                title="Steps and jobs",
                help="Go to the steps and jobs.",
                group=VIEW,
                cli=INTERACTIVE,
                run=lambda: self.show_pane(STEPS_PANE),
            ),
            Action(
                id="suspend",
                keys="ctrl+z",
                title="Suspend",
                help="Suspend to the shell; fg returns. Jobs continue.",
                group=VIEW,
                cli=INTERACTIVE,
                run=lambda: self.dialogs.suspend(),
            ),
            Action(
                id="help",
                keys="question_mark,f1",
                shown="?",
                title="Help",
                help="Show all keys.",
                group=VIEW,
                cli="--help",
                run=lambda: self.dialogs.show_help(),
                footer="help",
            ),
            *(
                Action(
                    id=f"use-theme-{name}",
                    title=f"Theme: {words}",
                    help=f"Draw everything in {drawn}.",
                    group=VIEW,
                    cli=f"--theme {name}",
                    run=partial(self.use_theme, name),
                )
                for name, words, drawn in THEMES
            ),
        )

    def moves(self) -> Mapping[str, Callable[..., object]]:
        """Moves of the tree's and the map's cursor, and focus by mouse."""
        return {
            "move": self.move,
            "row": self.choose_row,
            "order-by": self.order_by,
            "map-move": self.move_on_map,
            "map-to": self.go_on_map,
            "map-enter": self.leave_map,
            "pane": self.enter_pane,
        }

    def begin(self) -> None:
        """Observe the steps, which change the rows' costs and order."""
        self.store.observe(("session",), self.weigh, at_once=True)
        self.weigh()

    def weigh(self) -> None:
        """Update the cost of every row after the steps."""
        tree = self.view.tree.weighed(self.state.weights)
        if tree is not self.view.tree:
            self.store.update(tree=tree)

    def move(self, lines: int) -> None:
        """Move the cursor of the tree."""
        self.store.update(tree=self.view.tree.moved(lines))

    def choose_row(self, number: int) -> None:
        """Put the cursor on a visible row; if it is there already, open or close the row."""
        tree = self.view.tree
        if 0 <= number < len(tree.shown):
            self.store.update(tree=tree.toggled() if number == tree.cursor else tree.at(number))

    def expand(self) -> None:
        """Open or close the block under the cursor."""
        self.store.update(tree=self.view.tree.toggled())

    def toggle_all(self) -> None:
        """Open or close every block."""
        self.store.update(tree=self.view.tree.all_toggled())

    def open_filter(self) -> None:
        """Open the filter line."""
        self.show_map(False)
        words = self.view.tree.words
        self.dialogs.open_line(
            "filter", "/", words, done=self.keep_filter, left=lambda: self.keep_filter(""), typed=self.type_filter, replacing=True
        )

    def type_filter(self, words: str) -> None:
        """Apply the filter while it is typed."""
        self.store.update(tree=self.view.tree.filter(words))

    def keep_filter(self, words: str) -> None:
        """Keep the filter and return to the tree; an empty filter is closed."""
        self.type_filter(words)
        self.store.update(focus=TREE)

    def show_free(self) -> None:
        """Show only layers that can be cut alone, or all again."""
        self.show_map(False)
        self.keep_filter(with_word(self.view.tree.words, "free"))

    def order(self) -> None:
        """Order the layers by their share of the FLOPs, of the parameters, or as in the model."""
        self.show_map(False)
        self.store.update(tree=self.view.tree.ordered())

    def order_by(self, order: str) -> None:
        """Order the layers by the clicked column; a second click restores the model's order."""
        self.store.update(tree=self.view.tree.ordered_by(order))

    def back(self) -> None:
        """Leave the map, drop the filter, then the order, or go back to the model."""
        tree = self.view.tree
        if self.view.focus == TREE and self.view.on_map:
            self.show_map(False)
        elif self.view.focus == TREE and tree.filtered:
            self.keep_filter("")
        elif self.view.focus == TREE:
            self.store.update(tree=tree.whole())
        self.show_pane(TREE)

    def next_problem(self) -> None:
        """Jump to the next layer with a pending cut or a change."""
        state = self.state
        changed = {layer.name for layer in state.layers.values() if state.change(layer).pending or state.change(layer).has_fewer_inputs}
        self.store.update(tree=self.view.tree.next_of(changed | set(state.pending.amounts)))

    def next_pane(self) -> None:
        """Move between the model and the detail; in a small window show it."""
        focus = self.view.focus
        self.show_pane(DETAIL if focus == TREE or (focus == STEPS_PANE and self.view.comparison) else TREE)

    def show_pane(self, pane: str) -> None:
        """Focus a pane; in a small window it is the one that is shown."""
        if pane == TREE:
            self.store.update(focus=pane, comparison=None)
        else:
            self.store.update(focus=pane)

    def enter_pane(self, pane: str) -> None:
        """Follow the focus to the pane that was clicked, whose keys hold from then on."""
        if pane != self.view.focus:
            self.show_pane(pane)

    def show_map(self, shown: bool) -> None:
        """Show the map or the tree on the left, and focus it."""
        self.store.update(on_map=shown)
        self.show_pane(TREE)

    def use_theme(self, name: str) -> None:
        """Switch to another theme."""
        self.dialogs.use_theme(name)
        self.store.touch(COLOURS)

    def move_on_map(self, columns: int, rows: int) -> None:
        """Go to the block beside, above or below."""
        self._show_block(self._layout.neighbour(self._here, columns, rows))

    def go_on_map(self, index: int) -> None:
        """Go to a block; if the cursor is there already, show it in the tree."""
        if index == self._here:
            self.leave_map()
        else:
            self._show_block(index)

    def leave_map(self) -> None:
        """Show the block under the cursor in the tree, opened."""
        row = self.view.tree.row
        self.show_map(False)
        if row is not None and row.expandable and not self.view.tree.is_open(row.key):
            self.expand()

    @property
    def _here(self) -> int:
        return block_under(self.state.opened.blocks, self.view.tree.row)

    @property
    def _layout(self) -> Chart:
        width = self.dialogs.map_width
        if self._chart is None or self._chart[0] != width:
            self._chart = (width, chart(self.state.opened.blocks, width))
        return self._chart[1]

    def _show_block(self, index: int) -> None:
        self.store.update(tree=self.view.tree.showing(self._layout.card(index).name))
