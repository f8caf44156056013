"""Which columns the tree shows at a width, and how wide each is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

GAP = 1
NARROWEST_NAME = 16
WIDEST_NAME = 26
WIDEST_BAR = 12
SHARE = 9
SHARE_NEEDS = 60
BARS = ("parameters", "flops")
MEASURED = ("time", "drop")


@dataclass(frozen=True)
class Column:
    """One column: its heading, its width in cells, and from which width of the tree it is shown."""

    key: str
    title: str
    width: int
    needs: int = 0
    right: bool = False


NAME = Column("name", "Layer", NARROWEST_NAME)
COLUMNS = (
    NAME,
    Column("type", "Type", 11, needs=72),
    Column("inputs", "In", 5, needs=96, right=True),
    Column("channels", "Channels", 9),
    Column("output", "Output", 11, needs=88),
    Column("parameters", "Params", 6, needs=44),
    Column("flops", "FLOPs", 5, needs=50),
    Column("time", "ms", 5, needs=62, right=True),
    Column("drop", "Drop", 5, needs=58, right=True),
    Column("status", "Status", 11),
)


@lru_cache(maxsize=8)
def layout(width: int, ranked: bool = False, measured: frozenset[str] = frozenset()) -> tuple[Column, ...]:
    """The columns that fit into `width` cells; the name takes what is left, the bars share the room of a wide screen.

    `ranked`: layers ordered by a share, whose figures are shown however narrow it is, and which have no output shape; `measured`: which of
    the columns that need a measurement have one, and take room from the bars.
    """
    hidden = {"output": ranked, **{key: key not in measured for key in MEASURED}}
    shown = [column for column in COLUMNS if column.needs <= width and not hidden.get(column.key)]
    with_shares = [_wider(column, SHARE - column.width) if column.key in BARS else column for column in shown]
    if ranked or (width >= SHARE_NEEDS and _total(with_shares) <= width):
        shown = with_shares
    spare = width - _total(shown) + NAME.width
    bars = [column for column in shown if column.key in BARS]
    extra = max(spare - WIDEST_NAME, 0) // len(bars) if bars else 0
    widened = [_wider(column, min(extra, WIDEST_BAR)) if column in bars else column for column in shown]
    spare -= min(extra, WIDEST_BAR) * len(bars)
    return tuple(_wider(column, spare - NARROWEST_NAME) if column.key == NAME.key else column for column in widened)


def _total(columns: Sequence[Column]) -> int:
    return sum(column.width for column in columns) + GAP * (len(columns) - 1)


def _wider(column: Column, by: int) -> Column:
    return Column(column.key, column.title, max(column.width + by, 4), column.needs, column.right)
