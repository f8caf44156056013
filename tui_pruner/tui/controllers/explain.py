"""Explains what a cut affects, the path between two layers, and where the channels of every block come from."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from tui_pruner.tui.actions import DETAIL, INTERACTIVE, TREE, VIEW, Action
from tui_pruner.tui.controllers.base import Controller, Dialogs, Handler, Jobs
from tui_pruner.tui.controllers.view import ViewController
from tui_pruner.tui.messages import EngineMessage, JobsChanged, SessionChanged
from tui_pruner.tui.outline import Row
from tui_pruner.tui.panes.explanation import OpenExplanation, OpenFlow, Origin
from tui_pruner.tui.panes.map_layout import block_under
from tui_pruner.tui.state import Store

if TYPE_CHECKING:
    from tui_pruner.engine.messages import ExplainResult
    from tui_pruner.engine.requests import FlowResult
    from tui_pruner.tui.engine_session import EngineSession

EXPLAIN = "explain MODEL A B"


class ExplainController(Controller):
    """Shows one explanation at a time; it stays in the detail pane while the tree's cursor moves."""

    _home: Origin | None = None

    def __init__(self, store: Store, engine: EngineSession, jobs: Jobs, dialogs: Dialogs, view: ViewController) -> None:
        super().__init__(store, engine, jobs, dialogs)
        self._views = view

    def actions(self) -> Sequence[Action]:
        """Explanations, and moves along them."""
        return (
            Action(
                id="explain",
                keys="e",
                title="Explain",
                help="Explain what a cut of the layer or block under the cursor affects; on a second one, the path between them.",
                group=VIEW,
                cli="explain MODEL A",
                run=self.explain,
                footer="explain",
            ),
            Action(
                id="path-to",
                keys="p",
                title="Explain the path to",
                help="Type the other end of the explanation, to see how the channels get there.",
                group=VIEW,
                cli=EXPLAIN,
                run=self.path_to,
            ),
            Action(
                id="flow",
                keys="E",
                title="Channel flow",
                help="Show which layers write the channels that each block reads, with offsets, and why consecutive widths may differ.",
                group=VIEW,
                cli="flow MODEL --plan FILE",
                run=self.show_flow,
            ),
            Action(
                id="hop-1",
                keys="right_square_bracket,l",
                shown="] l",
                title="Next hop",
                help="Go to the next hop of the explained path, or touched layer; in the channel flow, to the next block that differs.",
                group=VIEW,
                cli=EXPLAIN,
                run=partial(self.go, 1),
            ),
            Action(
                id="hop-minus-1",
                keys="left_square_bracket,h",
                shown="[ h",
                title="Previous hop",
                help="Go back along the explained path.",
                group=VIEW,
                cli=EXPLAIN,
                run=partial(self.go, -1),
            ),
            Action(
                id="expand",
                keys="enter",
                title="Open or close",
                help="Open or close the block under the cursor.",
                group=VIEW,
                cli=INTERACTIVE,
                run=self.expand,
            ),
            Action(
                id="back",
                keys="escape",
                title="Back",
                help="Leave the explanation or the channel flow, then the map; drop the filter, then the order; or go back to the model.",
                group=VIEW,
                cli=INTERACTIVE,
                run=self.back,
            ),
        )

    def moves(self) -> Mapping[str, Callable[..., object]]:
        """Moves in the detail pane, and a click on a line of the explanation."""
        return {"look": self.look, "visit": self.visit}

    def handlers(self) -> Mapping[type[EngineMessage | JobsChanged], Handler]:
        """Handlers of changed steps."""
        return {SessionChanged: self.take_session}

    def explain(self) -> None:
        """Explain the row under the cursor; on a second layer or block, the path from the first to it."""
        name = self._end()
        if not name:
            return
        found = self.view.explanation
        open_end = found.found.first if found and not found.found.second else ""
        first, second = (open_end, name) if open_end and open_end != name else (name, "")
        self._ask(first, second)

    def path_to(self) -> None:
        """Ask for the other end of the open explanation, or of one from the row under the cursor."""
        first = self.view.explanation.found.first if self.view.explanation else self._end()
        if not first:
            return
        here = self._origin

        def done(words: str) -> None:
            self.store.update(tree=self.view.tree.filter(words))
            name = _name_of(self.view.tree.row)
            self._return_to(here)
            if name:
                self._ask(first, name if name != first else "")

        self._views.show_map(False)
        self.dialogs.open_line(
            "filter",
            "path to",
            done=done,
            left=lambda: self._return_to(here),
            typed=self._views.type_filter,
            stepped=self._views.move,
        )

    def expand(self) -> None:
        """Open or close a block; in an explanation go to the chosen hop, or use the layer under the cursor as its other end."""
        row, found = self.view.tree.row, self.view.explanation
        if self.view.focus == DETAIL and found is not None:
            self.visit(found.chosen)
        elif found is not None and not found.found.second and row is not None and not row.expandable:
            self.explain()
        else:
            self._views.expand()

    def go(self, by: int) -> None:
        """Go to the next or the previous hop: the tree follows, the explanation stays."""
        found, flow = self.view.explanation, self.view.flow
        if found is None and flow is not None:
            self._flow_to(flow.different, by)
        elif found is None:
            self.say("nothing is explained yet: e explains what is under the cursor", "warning")
        elif not found.stops:
            self.say(found.found.summary)
        else:
            self._stop_at(found.moved(by))

    def look(self, lines: int) -> None:
        """Move up or down in the detail pane: from hop to hop of an explanation, or by a line."""
        found = self.view.explanation
        if found is not None and found.stops:
            self._stop_at(found.moved(lines))
        elif found is None and self.view.flow is not None:
            self._flow_to([block.index for block in self.state.opened.blocks], lines)
        else:
            self.dialogs.scroll_detail(lines)

    def visit(self, number: int | None) -> None:
        """Go to a hop in the tree."""
        if self.view.explanation is not None and number is not None:
            self._stop_at(self.view.explanation.at(number))
            self._views.show_map(False)

    def back(self) -> None:
        """Leave the explanation for the previous position; otherwise drop the filter, or go back to the model."""
        found, tree = self.view.explanation, self.view.tree
        if found is None and self.view.flow is not None:
            self.store.update(flow=None)
            self._views.show_pane(TREE)
            return
        filtered = self.view.focus == TREE and tree.filtered and not self.view.on_map
        if found is None or (filtered and tree.words != found.home.tree.words):
            self._views.back()
            return
        self.store.update(explanation=None)
        self._return_to(found.home)

    def take_explanation(self, result: ExplainResult) -> None:
        """Store the explanation; in a small window show only it."""
        found = self.view.explanation
        home = found.home if found is not None else self._home or self._origin
        self.store.update(explanation=OpenExplanation(result, home), flow=None)
        if self.dialogs.narrow:
            self._views.show_pane(DETAIL)

    def show_flow(self) -> None:
        """Show the channel flow at the block under the cursor, or leave it; in a small window show only it."""
        if self.view.flow is not None:
            self.back()
            return
        self.store.update(flow=OpenFlow(), explanation=None)
        self._ask_flow()
        if self.dialogs.narrow:
            self._views.show_pane(DETAIL)

    def _ask_flow(self) -> None:
        from tui_pruner.engine.requests import FlowRequest

        self.engine.ask(FlowRequest(), self.take_flow, self.refuse_flow)

    def take_flow(self, result: FlowResult) -> None:
        """Store the channel flow, if it is still wanted."""
        if self.view.flow is not None:
            self.store.update(flow=OpenFlow(result))

    def refuse_flow(self, reason: str) -> None:
        """Close the channel flow where the engine has none."""
        self.store.update(flow=None)
        self.say(reason, "error")

    def take_session(self, event: SessionChanged) -> None:
        """Request the channel flow again for the changed steps."""
        if self.view.flow is not None and event.did != "named":
            self._ask_flow()

    def _flow_to(self, blocks: Sequence[int], by: int) -> None:
        """Go to the next of these blocks: the tree follows."""
        here = block_under(self.state.opened.blocks, self.view.tree.row)
        ahead = [index for index in blocks if (index - here) * by > 0]
        if ahead:
            to = (ahead if by > 0 else ahead[::-1])[min(abs(by), len(ahead)) - 1]
            name = next(block.name for block in self.state.opened.blocks if block.index == to)
            self.store.update(tree=self.view.tree.showing(name))

    def _ask(self, first: str, second: str) -> None:
        self._home = self._origin
        from tui_pruner.engine.requests import Explain

        self.engine.ask(Explain(first=first, second=second), self.take_explanation)

    @property
    def _origin(self) -> Origin:
        return Origin(self.view.tree, self.view.on_map)

    def _end(self) -> str:
        """The layer or block under the cursor; empty, with a message to the user, where there is none."""
        name = _name_of(self.view.tree.row)
        if not name:
            self.say("choose a layer or a block to explain", "warning")
        return name

    def _stop_at(self, explanation: OpenExplanation) -> None:
        tree = self.view.tree
        key = tree.key_of(explanation.stop)
        self.store.update(explanation=explanation, tree=tree.showing(key) if key else tree)

    def _return_to(self, origin: Origin) -> None:
        self.store.update(tree=replace(origin.tree, drops=self.view.tree.drops))
        self._views.show_map(origin.on_map)


def _name_of(row: Row | None) -> str:
    if row is None or row.kind == "section":
        return ""
    return row.layer.name if row.layer is not None else row.key
