"""A job as the interface knows it: what is wanted, how far it is, and what came of it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tui_pruner.printable import legible
from tui_pruner.tui.pace import Pace

if TYPE_CHECKING:
    from pathlib import Path

    from tui_pruner.engine.job_messages import JobProgress
    from tui_pruner.engine.protocol import Message
    from tui_pruner.errors import PrunerError

WAITING, RUNNING, DONE, FAILED, CANCELLED = "waiting", "running", "done", "failed", "cancelled"
MOST_POINTS = 400
"""Of a curve; where more come, every other one goes."""
OVER = (DONE, FAILED, CANCELLED)


@dataclass(frozen=True)
class Outcome:
    """What came of a job: in a few words, in detail as names with values, and notes on how it was done."""

    figure: str = ""
    details: Sequence[tuple[str, str]] = ()
    notes: Sequence[str] = ()


@dataclass(frozen=True)
class Wanted:
    """A job that is wanted.

    `kind` is the job's name in `jobs/__main__.py`; two with the same kind, key and data are the same job. `parameters` is called when
    the job's turn comes, and `take` puts its result where it belongs. `data` is the data yaml that it reads.
    `stops_early`: asked to stop, it ends soon with what it has.
    """

    kind: str
    title: str
    key: str
    parameters: Callable[[], Message]
    take: Callable[[dict[str, Any]], Awaitable[Outcome]]
    data: str = ""
    stops_early: bool = False

    @property
    def identity(self) -> tuple[str, str, str]:
        """What makes it the same job as another one."""
        return self.kind, self.key, self.data

    @property
    def name(self) -> str:
        """What people call it: "validate step 2"."""
        return legible(f"{self.kind} {self.title}".rstrip())


@dataclass(eq=False)
class QueuedJob:
    """One wanted job in the queue or in its history; times are seconds of the monotonic clock. `remarks`: what was done otherwise.

    `history`: what its metrics and losses were, one after the other, by name.
    """

    wanted: Wanted
    number: int
    state: str = WAITING
    parameters: Message | None = None
    progress: JobProgress | None = None
    started: float | None = None
    ended: float | None = None
    outcome: Outcome = Outcome()
    error: PrunerError | None = None
    remarks: list[str] = field(default_factory=list)
    log: Path | None = None
    stopping: bool = False
    history: dict[str, list[float]] = field(default_factory=dict)
    _pace: Pace = field(default_factory=Pace)

    @property
    def over(self) -> bool:
        """Whether nothing more will come of it."""
        return self.state in OVER

    def start(self, now: float, log: Path) -> None:
        """Its turn has come."""
        self.state, self.started, self.log = RUNNING, now, log

    def follow(self, progress: JobProgress, now: float) -> None:
        """It said how far it is."""
        self.progress = progress
        self._pace.follow(progress.doing, progress.done, now)
        for name, value in progress.metrics.items():
            points = self.history.setdefault(name, [])
            if not points or points[-1] != value:
                points.append(value)
            if len(points) > MOST_POINTS:
                del points[1::2]

    def end(self, state: str, now: float, error: PrunerError | None = None) -> None:
        """It is over."""
        self.state, self.ended, self.error = state, now, error

    def elapsed(self, now: float) -> float:
        """Seconds since its turn came, or that it took; 0 while it waits."""
        return 0.0 if self.started is None else (now if self.ended is None else self.ended) - self.started

    def remaining(self, now: float) -> float | None:
        """Seconds until its present part is done at the pace so far; None where that cannot be said."""
        if self.state != RUNNING or self.progress is None:
            return None
        return self._pace.remaining(self.progress.total, now)
