"""How long something still takes, from how fast its present part went so far."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class Pace:
    """Counts from the first report of a part on, so that starting up and other parts do not spoil the estimate."""

    part: str | None = None
    first: tuple[int, float] = (0, 0.0)
    last: tuple[int, float] = (0, 0.0)

    def follow(self, part: str, done: int, now: float) -> None:
        """A report: so many are done of this part at this second."""
        if part != self.part or done < self.last[0]:
            self.part, self.first = part, (done, now)
        self.last = (done, now)

    def remaining(self, total: int, now: float) -> float | None:
        """Seconds until all are done; None before the second report, and when all are."""
        (first, since), (done, then) = self.first, self.last
        if not first < done < total:
            return None
        return max((then - since) / (done - first) * (total - done) - (now - then), 0.0)
