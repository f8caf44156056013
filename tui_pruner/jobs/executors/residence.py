"""What a worker has for itself on a machine that others work on too: cores, and a folder for temporary files."""

from __future__ import annotations

import contextlib
import fcntl
import functools
import os
import shutil
import tempfile
from pathlib import Path
from typing import TextIO


@functools.cache
def common_folder() -> Path:
    """The folder of all workers of this user on this machine."""
    folder = Path(tempfile.gettempdir(), f"tui-pruner-workers-{os.getuid()}")
    folder.mkdir(mode=0o700, exist_ok=True)
    return folder


def own_folder(common: Path) -> Path:
    """A folder for this process. Ray ends workers without a word, so those of processes that are gone are removed here."""
    for folder in common.glob("process-*"):
        if not alive(int(folder.name.partition("-")[2])):
            shutil.rmtree(folder, ignore_errors=True)
    mine = common / f"process-{os.getpid()}"
    mine.mkdir(mode=0o700, exist_ok=True)
    return mine


def claim_cores(count: int, common: Path) -> list[TextIO]:
    """Bind this process to so many cores that no other worker has; to none where there are not enough.

    Its claims are locks that end with the process or with these streams: keep them.
    """
    if not hasattr(os, "sched_setaffinity"):
        return []
    claims: dict[int, TextIO] = {}
    for core in sorted(os.sched_getaffinity(0)):
        if len(claims) < count and (stream := locked(common / f"core-{core}")):
            claims[core] = stream
    if len(claims) < count:
        return []
    os.sched_setaffinity(0, claims)
    return list(claims.values())


def locked(file: Path) -> TextIO | None:
    """The file, locked; None where somebody else has it."""
    stream = file.open("w")
    with contextlib.suppress(BlockingIOError):
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return stream
    stream.close()
    return None


def alive(process: int) -> bool:
    """Whether there is such a process."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # somebody else's
        pass
    return True
