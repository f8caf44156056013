"""The folder of a training: its checkpoints, its progress, and the request to stop; it outlives the process."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import importlib.metadata
import json
import math
import shutil
import signal
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tui_pruner.domain.errors import JobError
from tui_pruner.domain.formatting import own_name
from tui_pruner.domain.results import FIGURES
from tui_pruner.engine.job_messages import JobProgress
from tui_pruner.engine.recovery_messages import FinetuneParameters
from tui_pruner.jobs.data.dataset import content_of
from tui_pruner.jobs.tools import OnProgress
from tui_pruner.jobs.training.trainers import EPOCH
from tui_pruner.storage import paths

SIGNALS = (signal.SIGINT, signal.SIGTERM)


@contextlib.contextmanager
def stopping_on_signals(wish: Path) -> Iterator[None]:
    """Let the first SIGINT or SIGTERM write a file; the next one has its usual effect."""
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread can handle signals
        return
    before = {number: signal.getsignal(number) for number in SIGNALS}

    def back() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    def note(number: int, frame: Any) -> None:
        back()
        wish.touch()

    for number in SIGNALS:
        signal.signal(number, note)
    try:
        yield
    finally:
        back()


DECIDES = {"sha256", "data", "epochs", "imgsz", "lr0", "teacher", "teacher_weight", "sparsity", "seed", "patience", "freeze"}
KEY_LENGTH = 12


@dataclass(frozen=True)
class TrainingRun:
    """The files of one training, below a folder of its own."""

    folder: Path

    @property
    def ultralytics(self) -> Path:
        """The folder that Ultralytics' trainer writes into and may remove."""
        return self.folder / "run"

    @property
    def last(self) -> Path:
        """The checkpoint after the last complete epoch."""
        return self.ultralytics / "weights" / "last.pt"

    @property
    def best(self) -> Path:
        """The checkpoint of the best epoch so far; the last one where no best checkpoint was saved yet."""
        best = self.ultralytics / "weights" / "best.pt"
        return best if best.exists() else self.last

    @property
    def best_epoch(self) -> int:
        """The number of the best checkpoint's epoch, from 1."""
        return int(self.best.with_suffix(EPOCH).read_text())

    @property
    def progress(self) -> Path:
        """A line for each report of the training's processes."""
        return self.folder / "progress.jsonl"

    @property
    def stop(self) -> Path:
        """Exists when the training shall end early."""
        return self.folder / "stop"

    @property
    def done(self) -> Path:
        """Exists when the training has ended."""
        return self.folder / "done"

    def prepare(self, resume: bool) -> bool:
        """Prepare the folder; whether it has a training to resume. Any other content is removed."""
        goes_on = resume and self.best.exists()
        if not goes_on:
            shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True, exist_ok=True)
        for file in (self.progress, self.stop):
            file.unlink(missing_ok=True)
        return goes_on

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """Lock the folder within the `with` block.

        Raises:
            JobError: the same training is running already.
        """
        self.folder.parent.mkdir(parents=True, exist_ok=True)
        lock = self.folder.with_name(f".{self.folder.name}.lock")
        with lock.open("w") as stream:
            try:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                raise JobError(f"the same training is already running in {self.folder}: wait for it or change its options") from error
            yield
            lock.unlink(missing_ok=True)


def run_of(parameters: FinetuneParameters) -> TrainingRun:
    """The run of these parameters: the same for any device, batch and output file.

    Other images or labels give another one.
    """
    versions = {"figures": FIGURES, "ultralytics": importlib.metadata.version("ultralytics")}
    parts = {**parameters.model_dump(include=DECIDES), **versions, "content": content_of(parameters.data)}
    key = hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:KEY_LENGTH]
    parent = Path(parameters.project).expanduser().resolve() if parameters.project else paths.cache_folder() / "finetune"
    return TrainingRun(parent / f"{own_name(Path(parameters.checkpoint).stem)}-{key}")


REPORT_EVERY = 0.5
LOOK_EVERY = 0.1
FIRST = (-1, 0)
"""The ranks of the process that reports: the only one, or the first of several."""


class Reporter:
    """Callbacks of a trainer that write its progress and check for the request to stop. Pickled into the processes of several GPUs."""

    def __init__(self, progress: Path, stop: Path) -> None:
        self._progress, self._stop = progress, stop
        self._batches = 0
        self._told = 0.0
        self._in_epoch = False

    def attach(self, trainer: Any) -> None:
        """Register with a trainer."""
        for event in ("on_train_epoch_start", "on_train_batch_end", "on_train_epoch_end", "on_fit_epoch_end"):
            trainer.add_callback(event, getattr(self, event))

    def on_train_epoch_start(self, trainer: Any) -> None:
        """Count batches from here."""
        self._batches, self._in_epoch = 0, True

    def on_train_batch_end(self, trainer: Any) -> None:
        """Report the losses so far; where one process trains alone, stop between two batches."""
        self._batches += 1
        if trainer.world_size <= 1:
            self._stop_if_requested(trainer)
        if time.monotonic() - self._told >= REPORT_EVERY:
            self._tell(trainer, losses(trainer))

    def on_train_epoch_end(self, trainer: Any) -> None:
        """Refuse NaN losses early; several processes stop together, here."""
        if trainer.epoch == trainer.start_epoch and not all(math.isfinite(value) for value in losses(trainer).values()):
            raise JobError(
                f"the loss is not a number in epoch {trainer.epoch + 1}: lower the learning rate (--lr0, now {trainer.args.lr0:g}) "
                "or look for damaged labels"
            )
        self._stop_if_requested(trainer)
        self._tell(trainer, losses(trainer), ": validating")

    def on_fit_epoch_end(self, trainer: Any) -> None:
        """Report the metrics of an epoch, not those of the final validation, which comes after all epochs."""
        if self._in_epoch:
            self._in_epoch = False
            last = trainer.stop or trainer.epoch + 1 >= trainer.epochs
            metrics = {**losses(trainer), **{name: float(value) for name, value in trainer.metrics.items()}}
            self._tell(trainer, metrics, ": validating the best" if last else "")

    def _stop_if_requested(self, trainer: Any) -> None:
        trainer.stop = trainer.stop or self._stop.exists()

    def _tell(self, trainer: Any, metrics: dict[str, float], phase: str = "") -> None:
        if rank() not in FIRST:
            return
        self._told = time.monotonic()
        batches = len(trainer.train_loader)
        progress = JobProgress(
            done=trainer.epoch * batches + self._batches,
            total=trainer.epochs * batches,
            doing=f"epoch {trainer.epoch + 1}/{trainer.epochs}{phase}",
            metrics=metrics,
        )
        with self._progress.open("ab") as stream:
            stream.write(progress.to_json() + b"\n")


def losses(trainer: Any) -> dict[str, float]:
    """The mean losses of the epoch so far, by Ultralytics' names."""
    return {f"train/{name}": float(value) for name, value in (trainer.tloss or {}).items()}


def rank() -> int:
    """The rank of this process among those that train together; -1 when it is alone."""
    from ultralytics.utils import RANK

    return int(RANK)


@contextlib.contextmanager
def forwarded_reports(file: Path, on_progress: OnProgress) -> Iterator[None]:
    """Pass on each report that is written into a file within the `with` block."""
    over = threading.Event()
    follower = threading.Thread(target=follow, args=(file, on_progress, over), name="follow training", daemon=True)
    follower.start()
    try:
        yield
    finally:
        over.set()
        follower.join()


def follow(file: Path, on_progress: OnProgress, over: threading.Event) -> None:
    """Pass on complete lines until it is over, and then the rest."""
    place = 0
    while True:
        last = over.wait(LOOK_EVERY)
        place += forward_reports_from(file, place, on_progress)
        if last:
            return


def forward_reports_from(file: Path, place: int, on_progress: OnProgress) -> int:
    """Pass on the complete lines from an offset in a file; return the number of bytes."""
    try:
        with file.open("rb") as stream:
            stream.seek(place)
            content = stream.read()
    except FileNotFoundError:
        return 0
    whole = content[: content.rfind(b"\n") + 1]
    for line in whole.splitlines():
        with contextlib.suppress(ValueError):
            on_progress(JobProgress.from_json(line))
    return len(whole)
