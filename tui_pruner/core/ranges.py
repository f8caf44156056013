"""Sorted positions in a few characters: "0-3,5,8-9"."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

PART = re.compile(r"(\d{1,9})(?:-(\d{1,9}))?")
LARGEST = 1 << 24


def as_ranges(positions: Sequence[int]) -> str:
    """Ascending positions as text."""
    found: list[list[int]] = []
    for position in positions:
        if found and position == found[-1][1] + 1:
            found[-1][1] = position
        else:
            found.append([position, position])
    return ",".join(str(first) if first == last else f"{first}-{last}" for first, last in found)


def from_ranges(text: str) -> NDArray[np.int64]:
    """The positions that a text means.

    Raises:
        ValueError: it is no such text, not ascending, or about absurdly many positions.
    """
    parts: list[NDArray[np.int64]] = []
    after = 0
    for part in text.split(","):
        match = PART.fullmatch(part.strip())
        first, last = (int(match[1]), int(match[2] or match[1])) if match else (0, -1)
        if first < after or last < first or last > LARGEST:
            raise ValueError(f"{part.strip()!r} is no ascending range of positions")
        parts.append(np.arange(first, last + 1, dtype=np.int64))
        after = last + 1
    return np.concatenate(parts)
