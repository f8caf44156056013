"""One line of the report: a figure of ours, theirs beside it where there is one, and what is aimed at."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median


@dataclass(frozen=True)
class Figure:
    """`target` is the largest ratio to theirs, or without theirs the largest value of ours; None: for reference only."""

    name: str
    ours: float
    unit: str
    theirs: float | None = None
    target: float | None = None

    @property
    def ratio(self) -> float | None:
        """Ours over theirs."""
        return self.ours / self.theirs if self.theirs else None

    @property
    def verdict(self) -> str:
        """Whether the target is met."""
        measured = self.ours if self.ratio is None else self.ratio
        return "" if self.target is None else "ok" if measured <= self.target else "OVER"

    def cells(self) -> list[str]:
        """The line's words, column by column."""
        goal = "" if self.target is None else f"{self.target:.2f}" if self.theirs else quantity(self.target, self.unit)
        return [
            self.name,
            quantity(self.ours, self.unit),
            quantity(self.theirs, self.unit) if self.theirs is not None else "",
            f"{self.ratio:.3f}" if self.ratio is not None else "",
            goal,
            self.verdict,
        ]


def quantity(value: float, unit: str) -> str:
    """A value with its unit: seconds with three places, the others with one."""
    return f"{value:.3f} s" if unit == "s" else f"{value:.1f} {unit}"


def compared(name: str, unit: str, ours: Sequence[float], theirs: Sequence[float], target: float | None = None) -> Figure:
    """The medians of two series that were measured in turn."""
    return Figure(name, median(ours), unit, median(theirs), target)


HEADINGS = ["figure", "ours", "theirs", "ratio", "at most", ""]


def table(figures: Sequence[Figure]) -> str:
    """The figures in columns, numbers to the right."""
    rows = [HEADINGS, *(figure.cells() for figure in figures)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEADINGS))]
    lines = ["  ".join(cell.ljust(w) if n in (0, 5) else cell.rjust(w) for n, (cell, w) in enumerate(zip(row, widths))) for row in rows]
    return "\n".join(line.rstrip() for line in [lines[0], "-" * sum(widths, 10), *lines[1:]])
