"""How often the engine may die before we stop starting it again."""

from __future__ import annotations

from collections import deque

MOST_DEATHS = 5
WITHIN = 180.0


class Restarts:
    """Counts deaths; the fifth within three minutes is one too many."""

    def __init__(self, most: int = MOST_DEATHS, within: float = WITHIN) -> None:
        self._most = most
        self._within = within
        self._deaths: deque[float] = deque()

    def allows(self, now: float) -> bool:
        """Note a death at `now` (seconds); whether to start again."""
        self._deaths.append(now)
        while now - self._deaths[0] > self._within:
            self._deaths.popleft()
        return len(self._deaths) < self._most
