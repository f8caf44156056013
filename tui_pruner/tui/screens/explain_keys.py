"""The keys that explain: from one end, to another, and along the path between them."""

from __future__ import annotations

from dataclasses import replace

from textual import on

from tui_pruner.tui.inquiry import Inquiry
from tui_pruner.tui.messages import Explained
from tui_pruner.tui.opening import Opening
from tui_pruner.tui.outline import Row, Standpoint
from tui_pruner.tui.screens.view_keys import ViewKeys


class ExplainKeys(ViewKeys):
    """One explanation at a time: it stays in the detail pane while the tree's cursor goes along it."""

    def __init__(self, opening: Opening) -> None:
        super().__init__(opening)
        self._home: Standpoint | None = None

    def action_explain(self) -> None:
        """Explain what is under the cursor; on a second layer or block, the path from the first one to it."""
        name = self._end()
        if not name:
            return
        open_end = self.inquiry.found.first if self.inquiry and not self.inquiry.found.second else ""
        first, second = (open_end, name) if open_end and open_end != name else (name, "")
        self._explain(first, second)

    def action_path_to(self) -> None:
        """Type the other end of the explanation that is open, or of one from what is under the cursor."""
        first = self.inquiry.found.first if self.inquiry else self._end()
        if not first:
            return
        here = self._standpoint
        self.show_map(False)
        self.filter_line.connect(
            done=lambda words: self._take_end(first, words, here),
            left=lambda: self._look_from(here),
            typed=self.model_tree.filter,
            stepped=self.model_tree.action_move,
        )
        self.filter_line.open("path to", "")

    def action_expand(self) -> None:
        """Open or close a block; in an explanation go to the chosen stop, or take the layer under the cursor as its other end."""
        row = self.model_tree.row
        if self.pane == "detail" and self.inquiry is not None:
            self.action_visit(self.inquiry.chosen)
        elif self.inquiry is not None and not self.inquiry.found.second and row is not None and not row.expandable:
            self.action_explain()
        else:
            super().action_expand()

    def action_station(self, by: int) -> None:
        """Go to the next or the previous stop: the tree follows, the explanation stays."""
        if self.inquiry is None:
            self.say("nothing is explained yet: e explains what is under the cursor", "warning")
        elif not self.inquiry.stops:
            self.say(self.inquiry.found.summary)
        else:
            self._stand_at(self.inquiry.moved(by))

    def action_look(self, lines: int) -> None:
        """Up or down in the detail pane: from stop to stop of an explanation, or a line further."""
        if self.inquiry is not None and self.inquiry.stops:
            self._stand_at(self.inquiry.moved(lines))
        else:
            self.detail_pane.scroll_relative(y=lines, animate=False)

    def action_visit(self, number: int | None) -> None:
        """Go to a stop in the tree."""
        if self.inquiry is None or number is None:
            return
        self._stand_at(self.inquiry.at(number))
        self.show_map(False)

    def action_back(self) -> None:
        """Leave the explanation for where one was; otherwise drop the filter, or go back to the model."""
        inquiry = self.inquiry
        filtered = self.pane == "tree" and self.filter_line.display
        if inquiry is None or (filtered and self.model_tree.words != inquiry.home.words):
            super().action_back()
            return
        self.inquiry = None
        self._look_from(inquiry.home)

    @on(Explained)
    def show_explanation(self, event: Explained) -> None:
        """Show what the engine found; a small window shows nothing else."""
        home = self.inquiry.home if self.inquiry is not None else self._home or self._standpoint
        self.inquiry = Inquiry(event.result, home)
        if self.has_class("-narrow"):
            self.show_pane("detail")
        self.draw_detail()
        self.draw_map()

    def _explain(self, first: str, second: str) -> None:
        if self.session is None:
            return
        self._home = self._standpoint
        self.session.explain(first, second)

    @property
    def _standpoint(self) -> Standpoint:
        return replace(self.model_tree.standpoint, on_map=self.on_map)

    def _end(self) -> str:
        """The layer or block under the cursor; empty, with a word to the user, where there is none."""
        row = self.model_tree.row
        name = _name_of(row)
        if not name and self.board is not None:
            self.say("choose a layer or a block to explain", "warning")
        return name

    def _take_end(self, first: str, words: str, here: Standpoint) -> None:
        self.model_tree.filter(words)
        name = _name_of(self.model_tree.row)
        self._look_from(here)
        if name:
            self._explain(first, name if name != first else "")

    def _stand_at(self, inquiry: Inquiry) -> None:
        self.inquiry = inquiry
        if key := self.model_tree.key_of(inquiry.stop):
            self.model_tree.show(key)
            self.show_filter()
        self.draw_detail()
        self.draw_map()
        self.draw_jobs()

    def _look_from(self, standpoint: Standpoint) -> None:
        self.model_tree.look_from(standpoint)
        self.show_map(standpoint.on_map)


def _name_of(row: Row | None) -> str:
    if row is None or row.kind == "section":
        return ""
    return row.layer.name if row.layer is not None else row.key
