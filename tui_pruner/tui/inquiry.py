"""An open explanation: its two ends, the stops that one can go to, and where one was before."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from tui_pruner.tui.outline import Standpoint

if TYPE_CHECKING:
    from tui_pruner.engine.protocol import ExplainResult


@dataclass(frozen=True)
class Inquiry:
    """What was found, `home` to come back to, and which stop was chosen last: a station of the path or a touched layer."""

    found: ExplainResult
    home: Standpoint
    chosen: int | None = None

    @property
    def stops(self) -> list[str]:
        """The module paths of the stations, then of the touched layers."""
        return [station.at for station in self.found.path] + [touched.layer for touched in self.found.touches]

    @property
    def stop(self) -> str:
        """The module path of the chosen stop; empty when none is."""
        return "" if self.chosen is None else self.stops[self.chosen]

    @property
    def path(self) -> Sequence[str]:
        """The module paths to light up: the stations, or without a second end all that is touched."""
        return [station.at for station in self.found.path] if self.found.second else [self.found.first, *self.stops]

    def moved(self, by: int) -> Inquiry:
        """The same at a later or earlier stop, staying at the ends; from none to the first or the last."""
        last = len(self.stops) - 1
        if last < 0:
            return self
        start = self.chosen if self.chosen is not None else -1 if by > 0 else last + 1
        return self.at(start + by)

    def at(self, number: int) -> Inquiry:
        """The same at this stop, or the nearest one."""
        return replace(self, chosen=min(max(number, 0), len(self.stops) - 1)) if self.stops else self


def short(name: str) -> str:
    """A module path without the prefix that all have."""
    return name.removeprefix("model.")
