"""Writing that survives: every byte on the disk before a file has its name, and nothing half-written left where a process was killed."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
from collections.abc import Iterator
from pathlib import Path

from tui_pruner.leftovers import removed_at_next_start

WRITING = ".writing-"
CANNOT_SAY = (errno.EINVAL, errno.ENOTSUP, errno.EBADF, errno.EACCES, errno.EPERM)


@contextlib.contextmanager
def temporary_beside(target: Path) -> Iterator[Path]:
    """The name of a new file in the target's folder, gone at the end unless it was moved, or at the next start after a kill.

    The folder is written to the disk at the end.
    """
    path = target.with_name(f"{WRITING}{secrets.token_hex(8)}{target.suffix}")
    with removed_at_next_start(path):
        try:
            yield path
        finally:
            with contextlib.suppress(OSError):
                path.unlink(missing_ok=True)
        sync_folder(target.parent)


def write_durably(path: Path, content: bytes | memoryview) -> None:
    """Make a file that is not there yet, with the rights of any file that the user makes, and wait until the disk has it.

    Raises:
        OSError: it is there, or cannot be written.
    """
    descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666)
    try:
        write_all(descriptor, content)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_all(descriptor: int, content: bytes | memoryview) -> None:
    """All bytes, in as many pieces as the system takes."""
    rest = memoryview(content)
    while rest:
        rest = rest[os.write(descriptor, rest) :]


def sync_folder(folder: Path) -> None:
    """Wait until the disk has the names in a folder; where the file system cannot say, or the user may not read it, go on.

    Raises:
        OSError: the disk failed.
    """
    try:
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        if error.errno not in CANNOT_SAY:
            raise
