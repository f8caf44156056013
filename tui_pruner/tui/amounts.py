"""What the user asks for: an amount per layer, as a share to remove or as a width to keep."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from tui_pruner.errors import RequestError
from tui_pruner.tui.glyphs import GLYPHS

MOST_PERCENT = 99
_NUMBER = re.compile(r"^(?:(keep)\s*[: ]\s*)?(\d+(?:\.\d+)?)\s*(%?)$")


@dataclass(frozen=True)
class Amount:
    """Either `percent` of the channels to remove (1 to 99), or the number of channels to `keep`."""

    percent: int | None = None
    keep: int | None = None

    @property
    def request(self) -> str:
        """The amount as the engine and the command line write it."""
        return f"{self.percent}%" if self.percent is not None else f"keep:{self.keep}"

    @property
    def label(self) -> str:
        """The amount as the tree shows it."""
        return f"{GLYPHS.minus}{self.percent}%" if self.percent is not None else f"keep {self.keep}"

    def percent_of(self, width: int) -> int:
        """The share of `width` channels that this removes, in whole percent."""
        if self.percent is not None:
            return self.percent
        return round(100 * (1 - (self.keep or 0) / width)) if width else 0


def parse_amount(text: str, keeping: bool = False) -> Amount | None:
    """Read "30", "30%", "0.3" (to remove) or "keep:45"; with `keeping`, a bare number is a width. None clears the amount.

    Raises:
        RequestError: the text is no amount, or removes everything.
    """
    found = _NUMBER.match(text.strip().lower())
    if found is None:
        raise RequestError(f"{text.strip()!r} is no amount: type 30 for 30 %, or = and the channels to keep")
    keep, number, percent = found.groups()
    if keep or (keeping and not percent):
        return _width(number)
    share = float(number) * 100 if not percent and 0 < float(number) < 1 else float(number)
    if share == 0:
        return None
    if not 0.5 <= share < MOST_PERCENT + 0.5:
        raise RequestError(f"{number} % cannot be removed: give 1 to {MOST_PERCENT}")
    return Amount(percent=round(share))


def _width(number: str) -> Amount:
    if "." in number or int(number) == 0:
        raise RequestError(f"{number} channels cannot be kept: give a whole number from 1")
    return Amount(keep=int(number))


@dataclass(frozen=True)
class Asked:
    """All amounts that are asked for and not applied yet, by layer."""

    amounts: Mapping[str, Amount] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.amounts)

    def put(self, layers: Iterable[str], amount: Amount | None) -> Asked:
        """The same with this amount for these layers; None clears them."""
        named = list(layers)
        changed = {layer: kept for layer, kept in self.amounts.items() if layer not in named}
        if amount is not None:
            changed.update(dict.fromkeys(named, amount))
        return Asked(changed)

    def nudge(self, widths: Mapping[str, int], percent: int) -> Asked:
        """The same with the share that is removed moved by `percent` for each of these layers, given with their width.

        Shares that are less than one channel are stepped over: up to the first that removes one, down to none.
        """
        asked = self
        for layer, width in widths.items():
            known = self.amounts.get(layer)
            moved = _moved(known.percent_of(width) if known else 0, percent, width)
            asked = asked.put([layer], Amount(percent=moved) if moved else None)
        return asked


def _moved(share: int, by: int, width: int) -> int:
    moved = min(max(share + by, 0), MOST_PERCENT)
    while 0 < moved < MOST_PERCENT and width * moved < 50:
        moved += 1 if by > 0 else -1
    return moved
