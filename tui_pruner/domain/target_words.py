"""How people write a target: what shall be left, by which measure."""

from __future__ import annotations

import re
from collections.abc import Mapping

from tui_pruner.domain.errors import RequestError

MEASURES: Mapping[str, str] = {"flops": "flops", "params": "parameters", "bytes": "bytes"}
"""The measures that arithmetic knows, with the size's own name for each."""
LATENCY = "latency"
"""The measure that is timed."""
UNITS = {"": 1.0, "k": 1e3, "m": 1e6, "g": 1e9}
NUMBER = re.compile(r"^(\d+(?:\.\d+)?|\.\d+)\s*([%kmg]?)$", re.IGNORECASE)
BARE = re.compile(r"^(\d+(?:\.\d+)?%|0?\.\d+)$")


def targets_in(text: str) -> list[str]:
    """The targets in a line; a share without a measure is one of the FLOPs: "60%" and "0.6" are "flops=60%" and "flops=0.6".

    Raises:
        RequestError: one of them cannot be read.
    """
    found = [f"flops={word}" if BARE.match(word) else word for word in text.replace(",", " ").split()]
    for target in found:
        read_target(target)
    return found


def read_target(text: str) -> tuple[str, float | None, float | None]:
    """The measure, the share that shall be left, or else the amount.

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
    return measure, None, value * UNITS[unit]


def legal_share(text: str, share: float) -> float:
    """A share that something can be left of."""
    if not 0 < share < 1:
        raise RequestError(f"the target {text!r} is out of bounds: give the share that shall be left, above 0 % and below 100 %")
    return share
