"""The folder of a training: its checkpoints, how far it is, and whether it shall stop; it outlives the process, so that one can resume."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import importlib.metadata
import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tui_pruner import places
from tui_pruner.engine.job_messages import FinetuneParameters
from tui_pruner.errors import JobError
from tui_pruner.jobs.trainers import EPOCH
from tui_pruner.metrics import FIGURES
from tui_pruner.names import own_name

DECIDES = {"sha256", "data", "epochs", "imgsz", "lr0", "teacher", "teacher_weight", "sparsity", "seed", "patience", "freeze"}
KEY_LENGTH = 12


@dataclass(frozen=True)
class TrainingRun:
    """The files of one training, below a folder that is all its own."""

    folder: Path

    @property
    def ultralytics(self) -> Path:
        """What Ultralytics' trainer writes into, and may remove."""
        return self.folder / "run"

    @property
    def last(self) -> Path:
        """The checkpoint after the last whole epoch."""
        return self.ultralytics / "weights" / "last.pt"

    @property
    def best(self) -> Path:
        """The checkpoint of the best epoch so far; the last one where a training has not told them apart."""
        best = self.ultralytics / "weights" / "best.pt"
        return best if best.exists() else self.last

    @property
    def best_epoch(self) -> int:
        """The number of the epoch that the best checkpoint is of, from 1."""
        return int(self.best.with_suffix(EPOCH).read_text())

    @property
    def progress(self) -> Path:
        """A line for each report of the training's processes."""
        return self.folder / "progress.jsonl"

    @property
    def stop(self) -> Path:
        """Is there when the training shall end early."""
        return self.folder / "stop"

    @property
    def done(self) -> Path:
        """Is there when the training has come to its end."""
        return self.folder / "done"

    def prepare(self, resume: bool) -> bool:
        """Make the folder ready; whether there is a training in it to go on with, which otherwise is removed."""
        goes_on = resume and self.best.exists()
        if not goes_on:
            shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True, exist_ok=True)
        for file in (self.progress, self.stop):
            file.unlink(missing_ok=True)
        return goes_on

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """Hold the folder while the block runs.

        Raises:
            JobError: the same training runs already.
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
    """The run that these parameters are: the same ones give the same folder, whatever the device, the batch and the file to write."""
    parts = {**parameters.model_dump(include=DECIDES), "figures": FIGURES, "ultralytics": importlib.metadata.version("ultralytics")}
    key = hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:KEY_LENGTH]
    parent = Path(parameters.project).expanduser().resolve() if parameters.project else places.cache_folder() / "finetune"
    return TrainingRun(parent / f"{own_name(Path(parameters.checkpoint).stem)}-{key}")
