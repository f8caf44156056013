"""What a user asks for: LAYER=AMOUNT with the grammar of amounts, and targets, the sizes to reach."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from typing import NamedTuple

from tui_pruner.domain.errors import RequestError

PERCENT = re.compile(r"^(\d+(?:\.\d+)?|\.\d+)\s*%$")
FRACTION = re.compile(r"^(\d*\.\d+|\d+(?:\.\d*)?)$")
HEADS = re.compile(r"^heads\s*:\s*(.+)$", re.IGNORECASE)
DROP = re.compile(r"^drop$", re.IGNORECASE)
KEEP = re.compile(r"^keep\s*:\s*(.+)$", re.IGNORECASE)


CLASSES = "classes"
"""The name in place of a layer where classes are cut: `classes=person,car` keeps these two."""


@dataclass(frozen=True)
class Amount:
    """How much: the share of the channels to `remove`, the number of channels to `keep`, the number of attention `heads` to remove as a
    whole, or the `classes` to keep, separated by commas. An amount without any of these drops a whole inner block.
    """

    remove: float | None = None
    keep: int | None = None
    heads: int | None = None
    classes: str = ""

    @classmethod
    def share(cls, percent: float) -> Amount:
        """A share to remove, given in percent."""
        return cls(remove=percent / 100)

    @property
    def percent(self) -> int | None:
        """The share that is removed, in whole percent."""
        return None if self.remove is None else round(100 * self.remove)

    @property
    def drops(self) -> bool:
        """Whether a whole inner block is dropped."""
        return self.remove is None and self.keep is None and self.heads is None and not self.classes

    @property
    def request(self) -> str:
        """The amount as the engine and the command line write it."""
        if self.drops:
            return "drop"
        if self.heads is not None:
            return f"heads:{self.heads}"
        return f"{100 * self.remove:g}%" if self.remove is not None else f"keep:{self.classes or self.keep}"

    def written(self, minus: str = "-") -> str:
        """The amount for display, with this sign before what is removed."""
        if self.drops:
            return "drop"
        if self.heads is not None:
            return f"{minus}{self.heads} head{'' if self.heads == 1 else 's'}"
        return f"{minus}{100 * self.remove:g}%" if self.remove is not None else f"keep {self.classes or self.keep}"

    def percent_of(self, width: int) -> int:
        """The share of `width` channels that this removes, in whole percent; 0 where heads or classes are removed."""
        if self.drops:
            return 100
        if self.percent is not None:
            return self.percent
        return round(100 * (1 - self.keep / width)) if width and self.keep else 0


@dataclass(frozen=True)
class Request:
    """One requested cut."""

    layer: str
    amount: str
    criterion: str = "l2"
    round_to: int = 1


def parse_request(text: str, criterion: str = "l2", round_to: int = 1) -> Request:
    """Parse LAYER=AMOUNT.

    Raises:
        RequestError: no equals sign, or not an amount.
    """
    if text.partition("=")[0].strip() == CLASSES:
        return class_request(text.partition("=")[2])
    layer, equals, amount = text.rpartition("=")
    if not equals or not layer.strip() or not amount.strip():
        raise RequestError(f"cannot read the cut {text!r}: write LAYER=AMOUNT, such as model.6.m.0.cv1=30% or 7=keep:205")
    request = Request(layer.strip(), amount.strip(), criterion, round_to)
    parse_amount(request.amount)
    return request


def class_request(listed: str) -> Request:
    """Parse the classes that stay, by names or numbers: "person,car".

    Raises:
        RequestError: none is named.
    """
    words = [word.strip() for word in listed.strip().removeprefix("keep:").split(",") if word.strip()]
    if not words:
        raise RequestError("which classes? name those to keep, by names or numbers: classes=person,car")
    return Request(CLASSES, f"keep:{','.join(words)}")


def parse_amount(text: str) -> Amount:
    """Parse what to remove ("30%", "0.3", "heads:1", "drop") or to keep ("keep:205").

    Raises:
        RequestError: not a number, 0, or 100 % and more.
    """
    if DROP.match(text.strip()):
        return Amount()
    kept = KEEP.match(text.strip())
    if kept:
        return Amount(keep=parse_width(kept.group(1).strip(), text))
    heads = HEADS.match(text.strip())
    if heads:
        return Amount(heads=parse_width(heads.group(1).strip(), text))
    percent, fraction = PERCENT.match(text.strip()), FRACTION.match(text.strip())
    if percent is None and fraction is None:
        raise RequestError(f"the amount {text!r} is not a number: write what to remove (30% or 0.3), what to keep (keep:205), or drop")
    share = float(percent.group(1)) / 100 if percent else float(text)
    if share <= 0:
        raise RequestError(f"the amount {text!r} removes nothing: give more than 0")
    if share >= 1:
        hint = f"; did you mean {text.strip()}%?" if percent is None else ""
        raise RequestError(f"the amount {text!r} would remove every channel: give less than 100%{hint}")
    return Amount(remove=share)


def parse_width(number: str, text: str) -> int:
    """A positive number of channels to keep, or of heads to remove."""
    if not number.isdecimal():
        raise RequestError(f"the amount {text!r} is not a number of channels: write keep:205, or heads:1 for whole attention heads")
    if int(number) == 0:
        what = "remove no head: remove" if HEADS.match(text.strip()) else "keep no channel: keep"
        raise RequestError(f"the amount {text!r} would {what} at least 1")
    return int(number)


MOST_PERCENT = 99
_NUMBER = re.compile(r"^(?:(keep)\s*[: ]\s*)?(\d+(?:\.\d+)?)\s*(%?)$")


STEPS = (32, 16, 8, 4, 2, 1)
FEWEST_WIDTHS = 6
LEAST_LEFT = 0.25


def usual_widths(now: int) -> tuple[int, list[int]]:
    """Smaller widths of a layer down to a quarter, multiples of a power of two that hardware computes fast; and that power."""
    step = next(step for step in STEPS if now // step >= FEWEST_WIDTHS or step == 1)
    return step, [width for width in range((now - 1) // step * step, 0, -step) if width >= LEAST_LEFT * now]


class PrunableWidth(NamedTuple):
    """A layer's channels, and the widest group of them, which a share is taken of at once: one half where they are split in two."""

    width: int
    part: int


def typed_amount(text: str, keeping: bool = False) -> Amount | None:
    """Parse what a user types: an amount, or "30" for 30 %; with `keeping`, a bare number is a width. None clears the amount.

    Raises:
        RequestError: the text is not an amount, or removes everything.
    """
    if DROP.match(text.strip()) or HEADS.match(text.strip()):
        return parse_amount(text)
    found = _NUMBER.match(text.strip().lower())
    if found is None:
        raise RequestError(f"{text.strip()!r} is not an amount: type 30 for 30 %, drop for the inner block, or = and the channels to keep")
    keep, number, percent = found.groups()
    if keep or (keeping and not percent):
        return _width(number)
    share = float(number) * 100 if not percent and 0 < float(number) < 1 else float(number)
    if share == 0:
        return None
    if not 0.5 <= share < MOST_PERCENT + 0.5:
        raise RequestError(f"{number} % cannot be removed: give 1 to {MOST_PERCENT}")
    return Amount.share(round(share))


def classes_to_keep(text: str) -> Amount | None:
    """Parse "person, car" or "0,2": the classes that stay. None where none is named, which clears the amount."""
    words = [word.strip() for word in text.removeprefix("keep:").split(",") if word.strip()]
    return Amount(classes=",".join(words)) if words else None


def known_classes(text: str, names: Sequence[str]) -> None:
    """Refuse classes to keep that do not exist among these.

    Raises:
        RequestError: a class that does not exist.
    """
    amount = classes_to_keep(text)
    for word in (amount.classes or "").split(",") if amount else ():
        if word not in names and not (word.isdecimal() and int(word) < len(names)):
            near = get_close_matches(word.lower(), [*names, *map(str.lower, names)], n=1)
            raise RequestError(f"no class {word!r}" + (f"; did you mean {near[0]}?" if near else f": there are {', '.join(names[:8])}"))


def _width(number: str) -> Amount:
    if "." in number or int(number) == 0:
        raise RequestError(f"{number} channels cannot be kept: give a whole number from 1")
    return Amount(keep=int(number))


@dataclass(frozen=True)
class Asked:
    """All pending cuts: amounts by layer, or by inner block where that is to be dropped.

    For all of them: `criterion` ranks the channels, and the number of channels that stay is a multiple of `round_to`.
    """

    amounts: Mapping[str, Amount] = field(default_factory=dict)
    criterion: str = "l2"
    round_to: int = 1

    def __bool__(self) -> bool:
        return bool(self.amounts)

    @property
    def cleared(self) -> Asked:
        """Without any amounts; criterion and rounding stay."""
        return replace(self, amounts={})

    def put(self, layers: Iterable[str], amount: Amount | None) -> Asked:
        """With this amount for these layers; None clears them."""
        named = dict.fromkeys(layers, amount)
        changed = {layer: kept for layer, kept in self.amounts.items() if layer not in named}
        if amount is not None:
            changed.update(dict.fromkeys(named, amount))
        return replace(self, amounts=changed)

    def of(self, layer: str) -> Amount | None:
        """The pending amount of a layer: its own, or the drop of the block around it."""
        around = (amount for block, amount in self.amounts.items() if amount.drops and layer.startswith(f"{block}."))
        return self.amounts.get(layer) or next(around, None)

    def share(self, widths: Mapping[str, PrunableWidth], percent: int) -> Asked:
        """With this share for these layers; those where it removes no channel are cleared."""
        wide = [layer for layer, found in widths.items() if self.loses(found.part, percent)]
        return self.put(widths, None).put(wide, Amount.share(percent))

    def nudge(self, widths: Mapping[str, PrunableWidth], percent: int) -> Asked:
        """With the share that is removed changed by `percent` for each of these layers.

        Shares that remove nothing are skipped: upwards to the first that does, downwards to none.
        """
        changed = {layer: kept for layer, kept in self.amounts.items() if layer not in widths}
        for layer, found in widths.items():
            known = self.amounts.get(layer)
            share = self._moved(known.percent_of(found.width) if known else 0, percent, found.part)
            if share:
                changed[layer] = Amount.share(share)
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


MEASURES: Mapping[str, str] = {"flops": "flops", "params": "parameters", "bytes": "bytes"}
"""The measures that are computed, with the field of the size for each."""
LATENCY = "latency"
"""The measure that is timed."""
UNITS = {"": 1.0, "k": 1e3, "m": 1e6, "g": 1e9}
NUMBER = re.compile(r"^(\d+(?:\.\d+)?|\.\d+)\s*([%kmg]?)$", re.IGNORECASE)
BARE = re.compile(r"^(\d+(?:\.\d+)?%|0?\.\d+)$")


def targets_in(text: str) -> list[str]:
    """Parse the targets in a line; a share without a measure is one of the FLOPs: "60%" and "0.6" are "flops=60%" and "flops=0.6".

    Raises:
        RequestError: one of them cannot be parsed.
    """
    found = [f"flops={word}" if BARE.match(word) else word for word in text.replace(",", " ").split()]
    for target in found:
        read_target(target)
    return found


def read_target(text: str) -> tuple[str, float | None, float | None]:
    """Parse a target: the measure, and the share or the amount that may remain.

    Raises:
        RequestError: another measure, no number, or a share that is not between 0 and 100 %.
    """
    measure, equals, amount = (part.strip() for part in text.partition("="))
    if not equals or measure not in (*MEASURES, LATENCY):
        measures = ", ".join((*MEASURES, LATENCY))
        raise RequestError(f"cannot read the target {text!r}: write what shall be left, by {measures}, such as flops=70%")
    found = NUMBER.match(amount)
    if not found:
        raise RequestError(f"the target {text!r} has no number: write a share that shall be left (70% or 0.7), or an amount (2.1M)")
    value, unit = float(found.group(1)), found.group(2).lower()
    if unit == "%" or (not unit and value <= 1):
        return measure, legal_share(text, value / 100 if unit else value), None
    if measure == LATENCY:
        raise RequestError(f"the target {text!r} is an amount, and latency is compared with the checkpoint's: write latency=70%")
    if not unit and value <= 100:
        raise RequestError(
            f"the target {text!r} has no unit: did you mean {measure}={amount}%? Amounts have k, M or G, as in {measure}={amount}M"
        )
    return measure, None, value * UNITS[unit]


def legal_share(text: str, share: float) -> float:
    """Check that a share is above 0 and below 1."""
    if not 0 < share < 1:
        raise RequestError(f"the target {text!r} is out of bounds: give the share that shall be left, above 0 % and below 100 %")
    return share
