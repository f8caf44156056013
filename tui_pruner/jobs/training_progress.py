"""How far a training is: told into a file by whichever process trains, and passed on from there while it grows."""

from __future__ import annotations

import contextlib
import math
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tui_pruner.engine.job_messages import JobProgress
from tui_pruner.errors import JobError
from tui_pruner.jobs.stock import OnProgress

REPORT_EVERY = 0.5
LOOK_EVERY = 0.1
FIRST = (-1, 0)
"""The ranks of the process that reports: the only one, or the first of several."""


class Reporter:
    """Callbacks of a trainer that write its progress and heed a wish to stop. It is pickled into the processes of several GPUs."""

    def __init__(self, progress: Path, stop: Path) -> None:
        self._progress, self._stop = progress, stop
        self._batches = 0
        self._told = 0.0
        self._in_epoch = False

    def attach(self, trainer: Any) -> None:
        """Follow a trainer."""
        for event in ("on_train_epoch_start", "on_train_batch_end", "on_train_epoch_end", "on_fit_epoch_end"):
            trainer.add_callback(event, getattr(self, event))

    def on_train_epoch_start(self, trainer: Any) -> None:
        """Count batches from here."""
        self._batches, self._in_epoch = 0, True

    def on_train_batch_end(self, trainer: Any) -> None:
        """Report the losses so far; where one process trains alone, stop between two batches."""
        self._batches += 1
        if trainer.world_size <= 1:
            self._heed(trainer)
        if time.monotonic() - self._told >= REPORT_EVERY:
            self._tell(trainer, losses(trainer))

    def on_train_epoch_end(self, trainer: Any) -> None:
        """Refuse losses that are no numbers from the beginning; several processes stop together, here."""
        if trainer.epoch == trainer.start_epoch and not all(math.isfinite(value) for value in losses(trainer).values()):
            raise JobError(
                f"the loss is not a number in epoch {trainer.epoch + 1}: lower the learning rate (--lr0, now {trainer.args.lr0:g}) "
                "or look for damaged labels"
            )
        self._heed(trainer)

    def on_fit_epoch_end(self, trainer: Any) -> None:
        """Report the metrics of an epoch, not those of the final validation, which comes after all epochs."""
        if self._in_epoch:
            self._in_epoch = False
            self._tell(trainer, {**losses(trainer), **{name: float(value) for name, value in trainer.metrics.items()}})

    def _heed(self, trainer: Any) -> None:
        trainer.stop = trainer.stop or self._stop.exists()

    def _tell(self, trainer: Any, metrics: dict[str, float]) -> None:
        if rank() not in FIRST:
            return
        self._told = time.monotonic()
        batches = len(trainer.train_loader)
        progress = JobProgress(
            done=trainer.epoch * batches + self._batches,
            total=trainer.epochs * batches,
            doing=f"epoch {trainer.epoch + 1}/{trainer.epochs}",
            metrics=metrics,
        )
        with self._progress.open("ab") as stream:
            stream.write(progress.to_json() + b"\n")


def losses(trainer: Any) -> dict[str, float]:
    """The mean losses of the epoch so far, by Ultralytics' names."""
    return {f"train/{name}": float(value) for name, value in (trainer.tloss or {}).items()}


def rank() -> int:
    """The number of this process among those that train together; -1 when it is alone."""
    from ultralytics.utils import RANK

    return int(RANK)


@contextlib.contextmanager
def passed_on(file: Path, on_progress: OnProgress) -> Iterator[None]:
    """Pass on each report that is written into a file while the block runs."""
    over = threading.Event()
    follower = threading.Thread(target=follow, args=(file, on_progress, over), name="follow training", daemon=True)
    follower.start()
    try:
        yield
    finally:
        over.set()
        follower.join()


def follow(file: Path, on_progress: OnProgress, over: threading.Event) -> None:
    """Pass on whole lines until it is over, and then the rest."""
    place = 0
    while True:
        last = over.wait(LOOK_EVERY)
        place += pass_on_from(file, place, on_progress)
        if last:
            return


def pass_on_from(file: Path, place: int, on_progress: OnProgress) -> int:
    """Pass on the whole lines from a place in a file; how many bytes they are."""
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
