"""The description of a job: what it works on, its parameters, its progress, and its outcome."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tui_pruner.domain.formatting import legible

if TYPE_CHECKING:
    from pathlib import Path

    from tui_pruner.domain.errors import PrunerError
    from tui_pruner.engine.job_messages import JobProgress
    from tui_pruner.engine.messages import Message, ModelInfo
    from tui_pruner.tui.opening import Opening


@dataclass(frozen=True)
class ModelFile:
    """A file that a job starts from, and the SHA-256 of its content."""

    path: str
    sha256: str


@dataclass
class OpenCheckpoint:
    """The checkpoint, how it was opened, and what its metric is measured by, if known: a data yaml, for a module the user's function."""

    opening: Opening
    model: ModelInfo
    data: str | None

    @property
    def fitted_on(self) -> str:
        """What plans and refits read: the data, for a module its batches; empty where it is not known."""
        return self.opening.module.batches if self.opening.module else self.data or ""

    @property
    def can_refit(self) -> bool:
        """Whether inputs without labels can be had: of a module only where its batches are named."""
        return self.opening.module is None or bool(self.opening.module.batches)

    @property
    def sample(self) -> str:
        """What one of the inputs is called."""
        return "sample" if self.opening.module else "image"

    def counted(self, images: int | None) -> int | None:
        """How many inputs a job reads: these images, and of a module all that its functions give."""
        return None if self.opening.module else images

    @property
    def fields(self) -> dict[str, Any]:
        """The fields of `JobParameters`."""
        return {
            "checkpoint": self.model.path,
            "sha256": self.model.sha256,
            "data": self.data or "",
            "images": self.counted(self.opening.images),
            "imgsz": self.model.imgsz,
            "device": self.opening.device,
            "classes": self.opening.classes,
            "module": self.opening.module,
        }


@dataclass
class ProgressRate:
    """Estimates the rate from the first report of a part on, so that start-up and other parts do not distort it."""

    part: str | None = None
    first: tuple[int, float] = (0, 0.0)
    last: tuple[int, float] = (0, 0.0)
    batch: int = 1

    def follow(self, part: str, done: int, now: float) -> None:
        """Record a report: this many of this part are done at this second."""
        if part != self.part or done < self.last[0]:
            self.part, self.first = part, (done, now)
        elif done > self.last[0]:
            self.batch = done - self.last[0]
        self.last = (done, now)

    def remaining(self, total: int, now: float) -> float | None:
        """Seconds until all are done; None before the second report, and when all are done.

        While a report is overdue, the rate is computed as if as many as last time arrived now: several at once say little about the rate.
        """
        (first, since), (done, then) = self.first, self.last
        if not first < done < total:
            return None
        on_time = (then - since) / (done - first) * (total - done) - (now - then)
        overdue = (now - since) / (done - first + self.batch) * max(total - done - self.batch, 0)
        return max(on_time, overdue, 0.0)


SHOWN = {"reconstruct": "refit", "finetune": "fine-tune"}
"""The kinds of jobs that the app calls by another word."""
WAITING, RUNNING, DONE, FAILED, CANCELLED = "waiting", "running", "done", "failed", "cancelled"
MOST_POINTS = 400
"""The most points of a curve; of more, every second point is dropped."""
OVER = (DONE, FAILED, CANCELLED)


@dataclass(frozen=True)
class JobOutcome:
    """The outcome of a job: in a few words, in detail as names with values, and notes on how it was done."""

    figure: str = ""
    details: Sequence[tuple[str, str]] = ()
    notes: Sequence[str] = ()


@dataclass(frozen=True)
class JobSpec:
    """A requested job: its parameters, and what is done with its progress and result.

    `kind`: the job's name in `jobs/__main__.py`; two with the same kind, key and data are the same job. `parameters` is called when
    the job starts, and `take` stores its result. `data`: the data yaml that it reads.
    `stops_early`: when asked to stop, it ends soon with a partial result, which `kept` describes. `about`: distinguishes it from another
    of the same title. `follow` takes intermediate results, and returns the progress in one line. `hint`: how to end it.
    `recipe`: its stages, one line each, which may be edited until they start.
    """

    kind: str
    title: str
    key: str
    parameters: Callable[[], Message]
    take: Callable[[dict[str, Any]], Awaitable[JobOutcome]]
    data: str = ""
    stops_early: bool = False
    about: str = ""
    follow: Callable[[JobProgress], str] | None = None
    hint: str = ""
    kept: str = "the best so far"
    recipe: dict[str, str] = field(default_factory=dict)

    @property
    def identity(self) -> tuple[str, str, str]:
        """The key that identifies the job."""
        return self.kind, self.key, self.data

    @property
    def name(self) -> str:
        """The job's display name: "validate step 2"."""
        return legible(f"{SHOWN.get(self.kind, self.kind)} {self.title}".rstrip())


@dataclass(eq=False)
class QueuedJob:
    """A job in the queue or in its history; times are seconds of the monotonic clock. `remarks`: deviations from the request.

    `history`: its metrics and losses over time, by name. `told`: its progress in its own words. `stages`: the result of each stage
    of its recipe, empty until then.
    """

    spec: JobSpec
    number: int
    state: str = WAITING
    parameters: Message | None = None
    progress: JobProgress | None = None
    started: float | None = None
    ended: float | None = None
    outcome: JobOutcome = JobOutcome()
    error: PrunerError | None = None
    remarks: list[str] = field(default_factory=list)
    log: Path | None = None
    stopping: bool = False
    history: dict[str, list[float]] = field(default_factory=dict)
    told: str = ""
    stages: dict[str, str] = field(default_factory=dict)
    _rate: ProgressRate = field(default_factory=ProgressRate)

    @property
    def over(self) -> bool:
        """Whether the job has ended."""
        return self.state in OVER

    def start(self, now: float, log: Path) -> None:
        """Start the job's clock."""
        self.state, self.started, self.log = RUNNING, now, log

    def follow(self, progress: JobProgress, now: float) -> None:
        """Record a progress report."""
        self.progress = progress
        if self.spec.follow is not None:
            self.told = self.spec.follow(progress)
            self._rate.follow(f"{'results' if progress.metrics else ''} {progress.total}", progress.done, now)
            return
        self._rate.follow(progress.doing, progress.done, now)
        if progress.stage:
            self.stages[progress.stage] = progress.figure
        for name, value in progress.metrics.items():
            points = self.history.setdefault(name, [])
            if not points or points[-1] != value:
                points.append(value)
            if len(points) > MOST_POINTS:
                del points[1::2]

    def end(self, state: str, now: float, error: PrunerError | None = None) -> None:
        """Record the outcome."""
        self.state, self.ended, self.error = state, now, error

    def elapsed(self, now: float) -> float:
        """Seconds since the job started, or that it took; 0 while it waits."""
        return 0.0 if self.started is None else (now if self.ended is None else self.ended) - self.started

    def remaining(self, now: float) -> float | None:
        """Seconds until its present part is done at the present rate; None where that is unknown."""
        if self.state != RUNNING or self.progress is None:
            return None
        return self._rate.remaining(self.progress.total, now)
