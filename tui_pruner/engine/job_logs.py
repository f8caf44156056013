"""Each job's own log: what it and its libraries printed, kept for the newest jobs."""

from __future__ import annotations

import contextlib
import itertools
import os
import time
from pathlib import Path

from tui_pruner import places

MOST_LOGS = 50
_NUMBERS = itertools.count(1)


def new_log(kind: str) -> Path:
    """A place for the log of a new job; the oldest logs beyond `MOST_LOGS` are removed."""
    folder = places.job_logs()
    _remove_old(folder)
    return folder / f"{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}-{next(_NUMBERS)}-{kind}.log"


def _remove_old(folder: Path) -> None:
    with contextlib.suppress(OSError):
        # A name begins with the time at which the job was started.
        for log in sorted(folder.glob("*.log"))[: -MOST_LOGS + 1]:
            log.unlink()
