"""What a worker has for itself on a machine that others work on too: cores, and a folder for temporary files."""

from __future__ import annotations

import contextlib
import fcntl
import functools
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from tui_pruner.leftovers import remove_leftovers, removed_at_next_start


@functools.cache
def common_folder() -> Path:
    """The folder of all workers of this user on this machine."""
    folder = Path(tempfile.gettempdir(), f"tui-pruner-workers-{os.getuid()}")
    folder.mkdir(mode=0o700, exist_ok=True)
    return folder


@dataclass(frozen=True)
class Own:
    """A folder of this process, and the note that has it removed after the process is gone, for as long as this object is kept."""

    folder: Path
    note: contextlib.AbstractContextManager[None]


@functools.cache
def own() -> Own:
    """What this process has. Ray ends workers without a word, so what those left that are gone is removed here."""
    remove_leftovers()
    folder = Path(tempfile.mkdtemp(prefix="tui-pruner-worker-"))
    note = removed_at_next_start(folder)
    note.__enter__()
    return Own(folder, note)


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
