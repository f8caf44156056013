"""Targets: what share of a checkpoint's operations, parameters or bytes may be left."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from tui_pruner.core.preview import Size
from tui_pruner.errors import RequestError

MEASURES: Mapping[str, str] = {"flops": "flops", "params": "parameters", "bytes": "bytes"}
"""What can be aimed at, and the field of a `Size` that has it."""
LATENCY = "latency"
"""What can be aimed at too, but only measured."""
UNITS = {"": 1.0, "k": 1e3, "m": 1e6, "g": 1e9}
NUMBER = re.compile(r"^(\d+(?:\.\d+)?|\.\d+)\s*([%kmg]?)$", re.IGNORECASE)


@dataclass(frozen=True)
class Target:
    """What shall be left by one measure: a share of what the checkpoint has (above 0, below 1), or else an amount."""

    measure: str
    share: float | None = None
    amount: float | None = None

    def share_of(self, original: Size) -> float:
        """The share of the checkpoint that may be left.

        Raises:
            RequestError: it has no more than that already.
        """
        whole = size_by(original, self.measure)
        share = self.share if self.share is not None else (self.amount or 0.0) / whole
        if share >= 1:
            raise RequestError(f"the target {self.measure}={self.amount:,.0f} is no less than the checkpoint's {whole:,.0f}: ask for less")
        return share


@dataclass(frozen=True, order=True)
class Goal:
    """A target on one checkpoint: the share that may be left, above 0 and below 1."""

    measure: str
    share: float


def goals_of(targets: Iterable[Target], original: Size) -> list[Goal]:
    """What targets mean for a checkpoint of this size; of two by one measure the smaller counts.

    Raises:
        RequestError: the checkpoint has no more than that already.
    """
    shares: dict[str, float] = {}
    for target in targets:
        shares[target.measure] = min(target.share_of(original), shares.get(target.measure, 1.0))
    return [Goal(measure, share) for measure, share in shares.items()]


def latency_apart(targets: Iterable[Target]) -> tuple[list[Target], float | None]:
    """The targets that arithmetic can answer, and the share of the latency that may be left; the smallest of several."""
    apart: dict[bool, list[Target]] = {True: [], False: []}
    for target in targets:
        apart[target.measure == LATENCY].append(target)
    shares = [target.share for target in apart[True] if target.share is not None]
    return apart[False], min(shares, default=None)


def size_by(size: Size, measure: str) -> float:
    """A size by the name of a measure."""
    return float(getattr(size, MEASURES[measure]))


def shares_left(size: Size, original: Size) -> dict[str, float]:
    """What share of the checkpoint a size is, by every measure."""
    return {measure: size_by(size, measure) / size_by(original, measure) for measure in MEASURES}


def parse_target(text: str) -> Target:
    """MEASURE=WHAT IS LEFT: "flops=70%", "flops=0.7", "params=2.1M", "bytes=4000k".

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
        return Target(measure, share=legal_share(text, value / 100 if unit else value))
    if measure == LATENCY:
        raise RequestError(f"the target {text!r} is an amount, and latency is compared with the checkpoint's: write latency=70%")
    return Target(measure, amount=value * UNITS[unit])


def legal_share(text: str, share: float) -> float:
    """A share that something can be left of."""
    if not 0 < share < 1:
        raise RequestError(f"the target {text!r} is out of bounds: give the share that shall be left, above 0 % and below 100 %")
    return share
