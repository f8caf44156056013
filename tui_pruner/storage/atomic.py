"""Files that are written completely or not at all, even if the process is killed, and removal of leftovers."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import secrets
import shutil
import time
import zlib
from collections.abc import Iterator
from pathlib import Path

from tui_pruner.domain.errors import OutputError
from tui_pruner.storage import paths

LONGEST_NOTING = 60.0


@contextlib.contextmanager
def removed_at_next_start(path: Path) -> Iterator[None]:
    """Have a file or folder removed at the next start, if it is still there when this `with` block or this process ends.

    A note of it is locked by this process while it lives. Where no note can be made, the work continues without one.
    """
    said = os.fsencode(path.absolute())
    note = paths.state_folder() / "pending" / f"{secrets.token_hex(8)}{checksum_of_note(said)}"
    descriptor = _noted(note, said)
    try:
        yield
    finally:
        if descriptor is not None:
            with contextlib.suppress(OSError):
                if not os.path.lexists(path):
                    note.unlink(missing_ok=True)
            os.close(descriptor)


def checksum_of_note(said: bytes) -> str:
    """A checksum for the end of a note's file name: half a note would name another folder, which must not be removed."""
    return f"-{zlib.crc32(said):08x}"


def remove_leftovers() -> list[Path]:
    """Remove what dead processes noted; return what was there."""
    removed = []
    with contextlib.suppress(OSError):
        for note in sorted((paths.state_folder() / "pending").iterdir()):
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
    """Remove what one note names, unless its process lives or is still writing it; an unfinished note is removed after a while."""
    descriptor = os.open(note, os.O_RDWR)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        said = os.read(descriptor, 1 << 16)
        if not note.name.endswith(checksum_of_note(said)):
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


WRITING = ".writing-"
CANNOT_SAY = (errno.EINVAL, errno.ENOTSUP, errno.EBADF, errno.EACCES, errno.EPERM)


@contextlib.contextmanager
def temporary_beside(target: Path) -> Iterator[Path]:
    """The name of a new file in the target's folder; it is removed at the end unless it was moved, or at the next start after a kill.

    The folder is synchronised at the end.
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
    """Create a new file with the user's usual permissions, and wait until it is on the disk.

    Raises:
        OSError: it exists, or cannot be written.
    """
    descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666)
    try:
        write_all(descriptor, content)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_all(descriptor: int, content: bytes | memoryview) -> None:
    """Write all bytes, in as many pieces as the system takes."""
    rest = memoryview(content)
    while rest:
        rest = rest[os.write(descriptor, rest) :]


def sync_folder(folder: Path) -> None:
    """Wait until the names in a folder are on the disk; continue where the file system does not support that or permission is missing.

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


def replace_file(file: Path, content: bytes) -> None:
    """Write a file completely or not at all, with the user's usual permissions; its folder is created if needed.

    Raises:
        OSError: it cannot be written.
    """
    target = file.resolve()
    target.parent.mkdir(parents=True, exist_ok=True)
    with temporary_beside(target) as temporary:
        write_durably(temporary, content)
        temporary.replace(target)


MODELS = frozenset({".pt", ".pth", ".onnx", ".safetensors", ".torchscript", ".engine", ".tflite"})
"""Suffixes of files that no plan, table or report replaces."""


def check_place(path: Path, name: str, example: str, force: bool) -> None:
    """Refuse a path where a file cannot be written, before any work is done; `name` is for the message.

    Raises:
        OutputError: a folder or device, a model's file, an existing file without `force`, a missing folder, or no permission.
    """
    if path.is_dir():
        raise OutputError(f"{name} is a folder: add a file name such as {example}")
    if path.exists() and not path.is_file():
        raise OutputError(f"{name} is not a regular file: choose another name")
    if path.exists() and not force:
        raise OutputError(f"{name} exists already: choose another name or give --force")
    if path.exists() and path.resolve().suffix.lower() in MODELS:
        raise OutputError(f"{name} would replace a model: choose another name such as {example}")
    if not path.parent.is_dir():
        raise OutputError(f"{name} cannot be written: no folder {path.parent}, create it first")
    if not os.access(path if path.exists() else path.parent, os.W_OK):
        raise OutputError(f"{name} cannot be written: no permission, choose another folder")


ELSEWHERE = "choose another folder"
ADVICE = {
    errno.ENOSPC: ("no space left", "free some, or choose a folder on another disk"),
    errno.EDQUOT: ("the disk quota is used up", "free some, or choose a folder on another disk"),
    errno.EACCES: ("no permission", ELSEWHERE),
    errno.EPERM: ("not permitted", ELSEWHERE),
    errno.EROFS: ("the file system is read-only", ELSEWHERE),
    errno.ENAMETOOLONG: ("the name is too long", "choose a shorter one"),
    errno.EEXIST: ("another program has just written it", "choose another name or give --force"),
}


def output_error(output: str | Path, error: OSError) -> OutputError:
    """An operating system's refusal as one line with what to do about it."""
    reason, advice = ADVICE.get(error.errno or 0, (error.strerror or str(error), ELSEWHERE))
    return OutputError(f"{output} cannot be written ({reason}): {advice}")
