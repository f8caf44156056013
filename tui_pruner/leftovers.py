"""What a killed process would leave behind: noted before it is made, so that the next start removes it."""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
import shutil
import time
import zlib
from collections.abc import Iterator
from pathlib import Path

from tui_pruner import places

LONGEST_NOTING = 60.0


@contextlib.contextmanager
def removed_at_next_start(path: Path) -> Iterator[None]:
    """Have a file or folder removed at the next start, should it still be there when this block or this process ends.

    The note of it is locked by this process while it lives. Where no note can be made, the work goes on without.
    """
    said = os.fsencode(path.absolute())
    note = places.state_folder() / "pending" / f"{secrets.token_hex(8)}{seal(said)}"
    descriptor = _noted(note, said)
    try:
        yield
    finally:
        if descriptor is not None:
            with contextlib.suppress(OSError):
                if not os.path.lexists(path):
                    note.unlink(missing_ok=True)
            os.close(descriptor)


def seal(said: bytes) -> str:
    """The end of a note's name: half a note names another folder, which must not be removed."""
    return f"-{zlib.crc32(said):08x}"


def remove_leftovers() -> list[Path]:
    """Remove what dead processes noted; gives what was there."""
    removed = []
    with contextlib.suppress(OSError):
        for note in sorted((places.state_folder() / "pending").iterdir()):
            with contextlib.suppress(OSError):
                removed += _removed(note)
    return removed


def _noted(note: Path, said: bytes) -> int | None:
    try:
        note.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(note, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600)
    except OSError:
        return None
    with contextlib.suppress(OSError):
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.write(descriptor, said)
    return descriptor


def _removed(note: Path) -> list[Path]:
    """What one note says, unless its process lives or is just writing it; one that never was finished goes after a while."""
    descriptor = os.open(note, os.O_RDWR)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        said = os.read(descriptor, 1 << 16)
        if not note.name.endswith(seal(said)):
            if time.time() - note.stat().st_mtime > LONGEST_NOTING:
                note.unlink(missing_ok=True)
            return []
        path = Path(os.fsdecode(said))
        there = path.exists()
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
        note.unlink(missing_ok=True)
        return [path] if there else []
    finally:
        os.close(descriptor)
