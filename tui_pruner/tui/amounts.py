"""What the user asks for: an amount per layer, as a share to remove or as a width to keep."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from tui_pruner.errors import RequestError
from tui_pruner.tui.theme.glyphs import GLYPHS

MOST_PERCENT = 99
CLASSES = "classes"
"""What stands in place of a layer where classes are asked for, as on the command line."""
DROP = "drop"
_NUMBER = re.compile(r"^(?:(keep)\s*[: ]\s*)?(\d+(?:\.\d+)?)\s*(%?)$")


@dataclass(frozen=True)
class Amount:
    """Either `percent` of the channels to remove (1 to 99), the number of channels to `keep`, or the `classes` to keep, with commas.

    None of them drops a whole inner block.
    """

    percent: int | None = None
    keep: int | None = None
    classes: str = ""

    @property
    def drops(self) -> bool:
        """Whether a whole inner block goes."""
        return self.percent is None and self.keep is None and not self.classes

    @property
    def request(self) -> str:
        """The amount as the engine and the command line write it."""
        if self.drops:
            return DROP
        return f"{self.percent}%" if self.percent is not None else f"keep:{self.classes or self.keep}"

    @property
    def label(self) -> str:
        """The amount as the tree shows it."""
        if self.drops:
            return DROP
        return f"{GLYPHS.minus}{self.percent}%" if self.percent is not None else f"keep {self.classes or self.keep}"

    def percent_of(self, width: int) -> int:
        """The share of `width` channels that this removes, in whole percent."""
        if self.drops:
            return 100
        if self.percent is not None:
            return self.percent
        return round(100 * (1 - (self.keep or 0) / width)) if width else 0


class Room(NamedTuple):
    """A layer's channels, and the widest part of them that a share is taken of at once: one half where they are split in two."""

    width: int
    part: int


def parse_amount(text: str, keeping: bool = False) -> Amount | None:
    """Read "30", "30%", "0.3" (to remove), "drop" or "keep:45"; with `keeping`, a bare number is a width. None clears the amount.

    Raises:
        RequestError: the text is no amount, or removes everything.
    """
    if text.strip().lower() == DROP:
        return Amount()
    found = _NUMBER.match(text.strip().lower())
    if found is None:
        raise RequestError(f"{text.strip()!r} is no amount: type 30 for 30 %, drop for the inner block, or = and the channels to keep")
    keep, number, percent = found.groups()
    if keep or (keeping and not percent):
        return _width(number)
    share = float(number) * 100 if not percent and 0 < float(number) < 1 else float(number)
    if share == 0:
        return None
    if not 0.5 <= share < MOST_PERCENT + 0.5:
        raise RequestError(f"{number} % cannot be removed: give 1 to {MOST_PERCENT}")
    return Amount(percent=round(share))


def classes_to_keep(text: str) -> Amount | None:
    """Read "person, car" or "0,2": the classes that stay. None where none is named, which clears the amount."""
    words = [word.strip() for word in text.removeprefix("keep:").split(",") if word.strip()]
    return Amount(classes=",".join(words)) if words else None


def _width(number: str) -> Amount:
    if "." in number or int(number) == 0:
        raise RequestError(f"{number} channels cannot be kept: give a whole number from 1")
    return Amount(keep=int(number))


@dataclass(frozen=True)
class Asked:
    """All amounts that are asked for and not applied yet, by layer, or by inner block where that is to be dropped.

    For all of them: `criterion` says which channels go first, `round_to` is what the channels that stay are a multiple of.
    """

    amounts: Mapping[str, Amount] = field(default_factory=dict)
    criterion: str = "l2"
    round_to: int = 1

    def __bool__(self) -> bool:
        return bool(self.amounts)

    @property
    def cleared(self) -> Asked:
        """No amounts any more; how channels are chosen stays."""
        return replace(self, amounts={})

    def put(self, layers: Iterable[str], amount: Amount | None) -> Asked:
        """The same with this amount for these layers; None clears them."""
        named = dict.fromkeys(layers, amount)
        changed = {layer: kept for layer, kept in self.amounts.items() if layer not in named}
        if amount is not None:
            changed.update(dict.fromkeys(named, amount))
        return replace(self, amounts=changed)

    def of(self, layer: str) -> Amount | None:
        """What is asked of a layer: its own amount, or that it goes with the block around it."""
        around = (amount for block, amount in self.amounts.items() if amount.drops and layer.startswith(f"{block}."))
        return self.amounts.get(layer) or next(around, None)

    def share(self, rooms: Mapping[str, Room], percent: int) -> Asked:
        """The same with this share for these layers; those that it removes no channel of are cleared."""
        wide = [layer for layer, room in rooms.items() if self.loses(room.part, percent)]
        return self.put(rooms, None).put(wide, Amount(percent=percent))

    def nudge(self, rooms: Mapping[str, Room], percent: int) -> Asked:
        """The same with the share that is removed moved by `percent` for each of these layers.

        Shares that remove nothing are stepped over: up to the first that does, down to none.
        """
        changed = {layer: kept for layer, kept in self.amounts.items() if layer not in rooms}
        for layer, room in rooms.items():
            known = self.amounts.get(layer)
            share = self._moved(known.percent_of(room.width) if known else 0, percent, room.part)
            if share:
                changed[layer] = Amount(percent=share)
        return replace(self, amounts=changed)

    def loses(self, width: int, percent: int) -> bool:
        """Whether removing this share of `width` channels, rounded as asked, removes any."""
        keep = width - (width * percent + 50) // 100
        return max(self.round_to, (2 * keep + self.round_to) // (2 * self.round_to) * self.round_to) < width

    def _moved(self, share: int, by: int, width: int) -> int:
        moved = min(max(share + by, 0), MOST_PERCENT)
        while 0 < moved < MOST_PERCENT and not self.loses(width, moved):
            moved += 1 if by > 0 else -1
        return moved if self.loses(width, moved) else 0
