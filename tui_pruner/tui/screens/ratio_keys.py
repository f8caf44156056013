"""The keys that mark layers and change their ratios."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from textual import on
from textual.timer import Timer
from textual.widget import Widget

from tui_pruner.errors import RequestError
from tui_pruner.tui.amounts import CLASSES, Amount, Asked, classes_to_keep, parse_amount
from tui_pruner.tui.figures import plural
from tui_pruner.tui.messages import DryRan, Refreshed, RowHighlighted
from tui_pruner.tui.opening import Opening
from tui_pruner.tui.screens.job_keys import JobKeys
from tui_pruner.tui.screens.path_prompt import PathPrompt

QUIET = 0.25
MOST_CLASSES = 100
CLASSES_WHAT = "Which classes stay? Their names or numbers, with commas; empty: all. The others' outputs are cut when it is applied."
MOST_NAMED = 4
ROUNDINGS = (1, 2, 4, 8, 16, 32)


class RatioKeys(JobKeys):
    """What is asked for: every change goes to the engine, and what it answers is drawn."""

    def __init__(self, opening: Opening) -> None:
        super().__init__(opening)
        self._quiet: Timer | None = None
        self._typed_in: Widget | None = None
        self._stale = False

    def action_mark(self) -> None:
        """Mark or unmark what is under the cursor."""
        board, names = self.board, self._prunable()
        if board is None or not names:
            return
        board.marks ^= set(names) if set(names) <= board.marks else set(names) - board.marks
        self.redraw_left()
        self.draw_footer()

    def action_unmark(self) -> None:
        """Unmark everything."""
        if self.board is not None:
            self.board.marks.clear()
            self.redraw_left()
            self.draw_footer()

    def action_nudge(self, percent: int) -> None:
        """Remove that much more from the marked layers, or from those under the cursor."""
        if self.board is not None and (names := self._targets()):
            self.ask(self.board.asked.nudge(self.board.rooms(names), percent))

    def action_clear(self) -> None:
        """Cut nothing from the marked layers, or from those under the cursor."""
        if self.board is not None and (names := self._targets()):
            self.ask(self.board.asked.put([*names, *self.board.inner_blocks(names)], None))

    def action_drop(self) -> None:
        """Drop the inner blocks of the marked layers, or the one under the cursor; where all are asked for, keep them again."""
        board, names = self.board, self._inside()
        if board is None or not names:
            return
        try:
            dropping = self._dropping(names)
        except RequestError as error:
            self.say(str(error), "warning")
            return
        blocks = board.inner_blocks(names)
        again = dropping.amounts == board.asked.amounts
        self.ask(board.asked.put(blocks, None) if again else dropping)
        what = ", ".join(blocks) if len(blocks) < 3 else plural(len(blocks), "inner block")
        self.say(f"keeps {what}" if again else f"drops {what}")

    def action_clear_all(self) -> None:
        """Forget everything that is asked for."""
        if self.board is not None:
            self.board.marks.clear()
            self.ask(self.board.asked.cleared)
            self.draw_footer()

    def action_keep_classes(self) -> None:
        """Ask which classes stay; none named: all do."""
        board = self.board
        if board is None:
            return
        names = board.opened.model.names
        more = f" and {len(names) - MOST_CLASSES} more" if len(names) > MOST_CLASSES else ""
        known = board.asked.amounts.get(CLASSES)
        text = f"{CLASSES_WHAT}\nThe model has {', '.join(names[:MOST_CLASSES])}{more}."
        self.app.push_screen(
            PathPrompt("Keep classes", text, known.classes if known else "", ",".join(names[:2]), may_be_empty=True), self._take_classes
        )

    def _take_classes(self, text: str | None) -> None:
        if text is not None and self.board is not None:
            self.ask(self.board.asked.put([CLASSES], classes_to_keep(text)))

    def action_rounding(self) -> None:
        """Keep multiples of the next number of channels, after the last of any number again."""
        if self.board is None:
            return
        asked = self.board.asked
        step = ROUNDINGS[(ROUNDINGS.index(asked.round_to) + 1) % len(ROUNDINGS)] if asked.round_to in ROUNDINGS else 1
        self.ask(replace(asked, round_to=step))
        self.draw_footer()

    def action_type_share(self, digit: str) -> None:
        """Type a share to remove."""
        if names := self._targets():
            self.type_amount(f"Remove % of {_whom(names)}", lambda text: self._take_amount(text, keeping=False), digit)

    def action_type_width(self) -> None:
        """Type a width to keep."""
        if names := self._targets():
            self.type_amount(f"Keep channels in {_whom(names)}", lambda text: self._take_amount(text, keeping=True))

    def type_amount(self, label: str, take: Callable[[str], Asked | None], text: str = "") -> None:
        """Open the line for an amount; `take` makes of the text what is asked for then, or None where that is nothing new."""
        self._typed_in = self.focused
        self.amount_line.connect(done=lambda typed: self._end_typing(typed, take), left=self.close_amount)
        self.amount_line.open(label, text)

    def close_amount(self) -> None:
        """Hide the amount line and go back to where it was opened."""
        self.amount_line.close()
        self.set_focus(self._typed_in or self.left_pane)

    def share_out(self, asked: Asked, names: Sequence[str], percent: int, tell: bool = True) -> Asked:
        """This share for all of these layers but those that it is less than a channel of, which is said; `tell` says the rest too.

        Raises:
            RequestError: that is each of them.
        """
        assert self.board is not None
        shared = asked.share(self.board.rooms(names), percent)
        taken = [name for name in names if name in shared.amounts]
        narrow = len(names) - len(taken)
        if not taken:
            rounded = f", rounded to multiples of {asked.round_to}" if asked.round_to > 1 else ""
            raise RequestError(f"{percent} % of {_whom(names)}{rounded} is less than one channel: ask for more")
        if narrow or tell:
            self.say(f"{percent} % of {_whom(taken)}" + (f", {plural(narrow, 'layer')} too narrow for it" if narrow else ""))
        return shared

    @on(RowHighlighted)
    def look_at_row(self) -> None:
        """Show the detail of the row under the cursor."""
        if self.board is not None:
            self.board.no_detail = ""
        self.draw_detail()
        self.draw_map()
        self.refresh_figures()

    @on(Refreshed)
    def show_figures(self, event: Refreshed) -> None:
        """Draw what the engine answered."""
        board = self.board
        if board is None:
            return
        board.detail, board.no_detail = event.detail, event.no_detail
        if board.asked:
            board.preview = None if event.no_preview else event.preview or board.preview
            board.no_preview = event.no_preview
        self.draw_header()
        self.draw_detail()
        self.draw_steps()
        self.redraw_left()

    @on(DryRan)
    def show_dry_run(self, event: DryRan) -> None:
        """Draw PyTorch's word."""
        if self.board is not None and self.board.asked:
            self.board.dry_run, self.board.no_dry_run = event.result, event.reason
            self.draw_detail()

    def refresh_figures(self) -> None:
        """Ask the engine about what is asked for and the row under the cursor."""
        row = self.model_tree.row
        if self.board is not None and self.session is not None:
            self.session.refresh(self.board.asked, row.layer.name if row and row.layer else None)

    def ask(self, asked: Asked) -> None:
        """Make this what is asked for: figures at once, the dry run when the keys are quiet."""
        board = self.board
        assert board is not None
        board.asked = asked
        board.dry_run, board.no_dry_run = None, ""
        if not asked:
            board.preview, board.no_preview = None, ""
        self.refresh_figures()
        self._draw_soon()
        if self._quiet is not None:
            self._quiet.stop()
        self._quiet = self.set_timer(QUIET, self._after_quiet) if asked else None
        if not asked:
            self.draw_header()
            self.draw_steps()

    def _draw_soon(self) -> None:
        """Draw once for all keys that are waiting: a held key must not queue behind its own pictures."""
        if not self._stale:
            self._stale = True
            self.call_later(self._draw_stale)

    def _draw_stale(self) -> None:
        self._stale = False
        self.redraw_left()
        self.draw_detail()

    def _after_quiet(self) -> None:
        if self.board is not None and self.session is not None and self.board.asked:
            self.session.dry_run(self.board.asked)

    def _end_typing(self, text: str, take: Callable[[str], Asked | None]) -> None:
        try:
            asked = take(text) if text.strip() else None
        except RequestError as error:
            self.say(str(error), "warning")
            return
        self.close_amount()
        if asked is not None:
            self.ask(asked)

    def _take_amount(self, text: str, keeping: bool) -> Asked | None:
        if self.board is None:
            return None
        names, amount = self._targets(), parse_amount(text, keeping)
        if amount is not None and amount.drops:
            return self._dropping(names)
        self._check_widths(amount)
        if amount is None or amount.percent is None:
            return self.board.asked.put(names, amount)
        return self.share_out(self.board.asked, names, amount.percent, tell=False)

    def _dropping(self, names: Sequence[str]) -> Asked:
        """What is asked for with the inner blocks around these layers dropped, and nothing else of them.

        Raises:
            RequestError: no such block is around them.
        """
        board = self.board
        assert board is not None
        blocks = board.inner_blocks(names)
        if not blocks:
            possible = [path for block in board.opened.blocks for path in block.droppable]
            more = f" and {len(possible) - MOST_NAMED} more" if len(possible) > MOST_NAMED else ""
            can = f"this model can do without {', '.join(possible[:MOST_NAMED])}{more}" if possible else "this model has none"
            raise RequestError(f"{_whom(names)} is in no inner block that can be dropped: {can}")
        inner = [layer for layer in board.layers if any(layer.startswith(f"{block}.") for block in blocks)]
        within = [path for path in board.asked.amounts if any(path.startswith(f"{block}.") for block in blocks)]
        return board.asked.put([*inner, *within], None).put(blocks, Amount())

    def _inside(self) -> list[str]:
        """The marked layers, or that under the cursor, also where its channels are locked."""
        board, row = self.board, self.model_tree.row
        if board is None:
            return []
        if row is not None and row.layer is None and not board.marks:
            self.say("open the block and choose a layer of the inner block that is to go", "warning")
            return []
        return board.targets([row.layer.name] if row is not None and row.layer is not None else [])

    def _check_widths(self, amount: Amount | None) -> None:
        assert self.board is not None
        if amount is None or amount.keep is None:
            return
        for name, width in self.board.widths(self._targets()).items():
            if amount.keep > width:
                raise RequestError(f"{name} has {width} channels and cannot keep {amount.keep}")

    def _targets(self) -> list[str]:
        board = self.board
        if board is None:
            return []
        return board.targets([]) or self._prunable()

    def _prunable(self) -> list[str]:
        row = self.model_tree.row
        if self.board is None or row is None:
            return []
        if row.layer is not None and self.board.change(row.layer).gone:
            self.say(f"{row.layer.name} went with a dropped block: undo the step to cut it", "warning")
            return []
        if row.layer is not None and row.layer.status == "locked":
            self.say(f"{row.layer.name} is locked: {row.layer.reason}", "warning")
        elif not row.prunable:
            self.say(f"{row.name} has no layers that can be cut", "warning")
        return row.prunable


def _whom(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else plural(len(names), "layer")
