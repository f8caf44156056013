"""Marks layers and sets how much of them is cut."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

from tui_pruner.domain.cuts import CLASSES, Amount, Asked, classes_to_keep, known_classes, typed_amount
from tui_pruner.domain.errors import RequestError
from tui_pruner.domain.formatting import plural
from tui_pruner.tui.actions import RATIO, Action
from tui_pruner.tui.controllers.base import Controller, Dialogs, fault_of
from tui_pruner.tui.drawing import GLYPHS
from tui_pruner.tui.state import AppState, Store

CUT = "preview MODEL --cut LAYER=AMOUNT"
MOST_CLASSES = 100
CLASSES_WHAT = "Which classes stay? Their names or numbers, with commas; empty: all. The others' outputs are cut when it is applied."
MOST_NAMED = 4
ROUNDINGS = (1, 2, 4, 8, 16, 32)


class CutController(Controller):
    """Changes the pending cuts, layer by layer."""

    def actions(self) -> Sequence[Action]:
        """Marks, ratios, widths, blocks and classes."""
        return (
            Action(
                id="mark",
                keys="space",
                title="Mark",
                help="Mark or unmark the layer under the cursor; on a block or section, all that can be cut.",
                group=RATIO,
                cli="preview MODEL --cut 'model.6.*=AMOUNT'",
                run=self.mark,
                footer="mark",
            ),
            Action(
                id="unmark", keys="minus", shown="-", title="Clear marks", help="Unmark every layer.", group=RATIO, cli=CUT, run=self.unmark
            ),
            Action(
                id="nudge-1",
                keys="right",
                shown=GLYPHS.horizontal,
                title="Remove 1 % more",
                help="Remove 1 % more from the marked layers, or from the one under the cursor.",
                group=RATIO,
                cli=CUT,
                run=partial(self.nudge, 1),
                footer="ratio",
            ),
            Action(
                id="nudge-minus-1",
                keys="left",
                title="Remove 1 % less",
                help="Remove 1 % less from the marked layers, or from the one under the cursor.",
                group=RATIO,
                cli=CUT,
                run=partial(self.nudge, -1),
            ),
            Action(
                id="nudge-5",
                keys="pageup,full_stop",
                shown="pgup .",
                title="Remove 5 % more",
                help="Remove 5 % more.",
                group=RATIO,
                cli=CUT,
                run=partial(self.nudge, 5),
            ),
            Action(
                id="nudge-minus-5",
                keys="pagedown,comma",
                shown="pgdn ,",
                title="Remove 5 % less",
                help="Remove 5 % less.",
                group=RATIO,
                cli=CUT,
                run=partial(self.nudge, -5),
            ),
            Action(
                id="type-share",
                keys="percent_sign",
                shown="1-9 %",
                title="Type a ratio",
                help="Type the share to remove: 30 is 30 %.",
                group=RATIO,
                cli="preview MODEL --cut LAYER=30%",
                run=self.type_share,
            ),
            Action(
                id="type-width",
                keys="equals_sign",
                shown="=",
                title="Keep an exact width",
                help="Type how many channels to keep.",
                group=RATIO,
                cli="preview MODEL --cut LAYER=keep:45",
                run=self.type_width,
            ),
            Action(
                id="drop",
                keys="D",
                title="Drop the inner block",
                help="Drop the inner block (a repeat such as model.6.m.1) around the layer under the cursor or the marked ones, or keep "
                "it again.",
                group=RATIO,
                cli="preview MODEL --cut model.6.m.1=drop",
                run=self.drop,
            ),
            Action(
                id="clear",
                keys="0,backspace,x",
                shown="x 0",
                title="Clear the ratio",
                help="Cut nothing from the marked layers, or from the one under the cursor.",
                group=RATIO,
                cli=CUT,
                run=self.clear,
            ),
            Action(
                id="rounding",
                keys="r",
                title="Rounding",
                help="Keep multiples of 2, 4, 8, 16 or 32 channels, or any number again.",
                group=RATIO,
                cli="preview MODEL --cut LAYER=30% --round-to 8",
                run=self.rounding,
                footer="round",
            ),
            Action(
                id="keep-classes",
                keys="N",
                title="Keep classes",
                help="Name the classes that stay; the outputs of all others are cut, and names and numbers follow.",
                group=RATIO,
                cli="preview MODEL --keep-classes NAME,NAME",
                run=self.keep_classes,
            ),
            Action(
                id="clear-all",
                keys="c",
                title="Clear all ratios",
                help="Discard pending cuts.",
                group=RATIO,
                cli=CUT,
                run=self.clear_all,
            ),
        )

    def mark(self) -> None:
        """Mark or unmark the row under the cursor."""
        names = set(self._prunable())
        if names:
            marks = self.state.marks
            self.store.update(marks=marks ^ names if names <= marks else marks | names)

    def unmark(self) -> None:
        """Unmark everything."""
        self.store.update(marks=set())

    def nudge(self, percent: int) -> None:
        """Change the ratio of the marked layers, or of those under the cursor, by this much."""
        if names := self._targets():
            self.store.request(self.state.pending.nudge(self.state.prunable_widths(names), percent))

    def clear(self) -> None:
        """Cut nothing from the marked layers, or from those under the cursor."""
        if names := self._targets():
            self.store.request(self.state.pending.put([*names, *self.state.inner_blocks(names)], None))

    def clear_all(self) -> None:
        """Discard the pending cuts and the marks."""
        self.unmark()
        self.store.request(self.state.pending.cleared)

    def drop(self) -> None:
        """Drop the inner blocks of the marked layers, or the one under the cursor; if all are pending already, keep them."""
        names = self._inside()
        if not names:
            return
        try:
            dropping = self._dropping(names)
        except RequestError as error:
            self.say(str(error), "warning")
            return
        blocks, pending = self.state.inner_blocks(names), self.state.pending
        again = dropping.amounts == pending.amounts
        self.store.request(pending.put(blocks, None) if again else dropping)
        what = ", ".join(blocks) if len(blocks) < 3 else plural(len(blocks), "inner block")
        self.say(f"keeps {what}" if again else f"drops {what}")

    def keep_classes(self) -> None:
        """Ask which classes to keep; with none named, all are kept."""
        names = self.state.opened.model.names
        more = f" and {len(names) - MOST_CLASSES} more" if len(names) > MOST_CLASSES else ""
        known = self.state.pending.amounts.get(CLASSES)
        text = f"{CLASSES_WHAT}\nThe model has {', '.join(names[:MOST_CLASSES])}{more}."

        def take(typed: str | None) -> None:
            if typed is not None:
                self.store.request(self.state.pending.put([CLASSES], classes_to_keep(typed)))

        fault = fault_of(lambda typed: known_classes(typed, names))
        self.dialogs.ask_text(
            "Keep classes", text, known.classes if known else "", take, ",".join(names[:2]), may_be_empty=True, fault=fault
        )

    def rounding(self) -> None:
        """Switch to the next rounding of widths; after the last one, to none."""
        pending = self.state.pending
        step = ROUNDINGS[(ROUNDINGS.index(pending.round_to) + 1) % len(ROUNDINGS)] if pending.round_to in ROUNDINGS else 1
        self.store.request(replace(pending, round_to=step))

    def type_share(self, digit: str = "") -> None:
        """Ask for a share to remove."""
        if names := self._targets():
            type_amount(self.store, self.dialogs, f"Remove % of {layers_named(names)}", partial(self._typed, keeping=False), digit)

    def type_width(self) -> None:
        """Ask for a width to keep."""
        if names := self._targets():
            type_amount(self.store, self.dialogs, f"Keep channels in {layers_named(names)}", partial(self._typed, keeping=True))

    def _typed(self, text: str, keeping: bool) -> Asked:
        names, amount = self._targets(), typed_amount(text, keeping)
        if amount is not None and amount.drops:
            return self._dropping(names)
        if amount is not None and amount.keep is not None:
            self._check_widths(names, amount.keep)
        if amount is None or amount.percent is None:
            return self.state.pending.put(names, amount)
        shared, narrow = share_out(self.state, self.state.pending, names, amount.percent)
        if narrow:
            self.say(narrow)
        return shared

    def _dropping(self, names: Sequence[str]) -> Asked:
        """The pending cuts with the inner blocks around these layers dropped, and no other cut inside them.

        Raises:
            RequestError: no such block is around them.
        """
        state = self.state
        blocks = state.inner_blocks(names)
        if not blocks:
            possible = [path for block in state.opened.blocks for path in block.droppable]
            more = f" and {len(possible) - MOST_NAMED} more" if len(possible) > MOST_NAMED else ""
            can = f"this model can do without {', '.join(possible[:MOST_NAMED])}{more}" if possible else "this model has none"
            raise RequestError(f"{layers_named(names)} is in no inner block that can be dropped: {can}")
        inner = [layer for layer in state.layers if any(layer.startswith(f"{block}.") for block in blocks)]
        within = [path for path in state.pending.amounts if any(path.startswith(f"{block}.") for block in blocks)]
        return state.pending.put([*inner, *within], None).put(blocks, Amount())

    def _inside(self) -> list[str]:
        """The marked layers, or the one under the cursor, even if its channels are locked."""
        tree = self.view.tree
        if tree.row is not None and tree.row.layer is None and not self.state.marks:
            self.say("open the block and choose a layer of the inner block that is to go", "warning")
            return []
        return self.state.targets([tree.layer] if tree.layer else [])

    def _check_widths(self, names: Sequence[str], keep: int) -> None:
        for name, width in self.state.widths(names).items():
            if keep > width:
                raise RequestError(f"{name} has {width} channels and cannot keep {keep}")

    def _targets(self) -> list[str]:
        return self.state.targets([]) or self._prunable()

    def _prunable(self) -> list[str]:
        row = self.view.tree.row
        if row is None:
            return []
        if row.layer is not None and self.state.change(row.layer).gone:
            self.say(f"{row.layer.name} went with a dropped block: undo the step to cut it", "warning")
            return []
        if row.layer is not None and row.layer.status == "locked":
            self.say(f"{row.layer.name} is locked: {row.layer.reason}", "warning")
        elif not row.prunable:
            self.say(f"{row.name} has no layers that can be cut", "warning")
        return row.prunable


def layers_named(names: Sequence[str]) -> str:
    """Layers in a sentence: the name of one, or their number."""
    return names[0] if len(names) == 1 else plural(len(names), "layer")


def share_out(state: AppState, pending: Asked, names: Sequence[str], percent: int, tell: bool = False) -> tuple[Asked, str]:
    """Set this share for these layers, except those that would lose no channel; return a message on those, or with `tell` on all.

    Raises:
        RequestError: no layer would lose a channel.
    """
    shared = pending.share(state.prunable_widths(names), percent)
    taken = [name for name in names if name in shared.amounts]
    narrow = len(names) - len(taken)
    if not taken:
        rounded = f", rounded to multiples of {pending.round_to}" if pending.round_to > 1 else ""
        raise RequestError(f"{percent} % of {layers_named(names)}{rounded} is less than one channel: choose more")
    if not narrow and not tell:
        return shared, ""
    return shared, f"{percent} % of {layers_named(taken)}" + (f", {plural(narrow, 'layer')} too narrow for it" if narrow else "")


def type_amount(store: Store, dialogs: Dialogs, label: str, take: Callable[[str], Asked | None], text: str = "") -> None:
    """Open the input line for an amount; `take` turns the typed text into pending cuts, or None where nothing changes."""

    def done(typed: str) -> None:
        try:
            pending = take(typed) if typed.strip() else None
        except RequestError as error:
            dialogs.say(str(error), "warning")
            return
        dialogs.close_line("amount")
        if pending is not None:
            store.request(pending)

    dialogs.open_line("amount", label, text, done=done, left=lambda: dialogs.close_line("amount"))
