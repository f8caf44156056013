"""How much of a long list the default suite tries: a fixed sample, spread over it; `make thorough` tries all."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TypeVar

Item = TypeVar("Item")
THOROUGH = os.environ.get("TUI_PRUNER_PROPERTY") == "thorough"


def some(items: Sequence[Item], count: int) -> list[Item]:
    """This many items, evenly spread, the first and the last among them; all of them under `make thorough`."""
    if THOROUGH or len(items) <= count:
        return list(items)
    return [items[round(place * (len(items) - 1) / (count - 1))] for place in range(count)]
