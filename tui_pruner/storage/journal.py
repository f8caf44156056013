"""An append-only file of changes: each is on the disk, with a checksum, before it is acknowledged."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import socket
import time
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tui_pruner.storage.atomic import sync_folder, temporary_beside, write_all, write_durably

SET, GONE, ENDS = "set", "gone", "ends"


def changes_between(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, Any]:
    """The changes that turn one state into the other; empty where they are equal."""
    changes: dict[str, Any] = {}
    for name, value in after.items():
        if name not in before or before[name] != value:
            old = before.get(name)
            if isinstance(old, list) and isinstance(value, list) and (kept := common_length(old, value)):
                changes.setdefault(ENDS, {})[name] = [kept, value[kept:]]
            else:
                changes.setdefault(SET, {})[name] = value
    gone = [name for name in before if name not in after]
    return {**changes, GONE: gone} if gone else changes


def changed(state: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """The state after these changes."""
    ends = {name: [*state[name][:kept], *rest] for name, (kept, rest) in changes.get(ENDS, {}).items()}
    gone = set(changes.get(GONE, ()))
    return {name: value for name, value in {**state, **changes.get(SET, {}), **ends}.items() if name not in gone}


def common_length(left: list[Any], right: list[Any]) -> int:
    """How many entries two lists have in common at their beginning."""
    return next((place for place, (a, b) in enumerate(zip(left, right)) if a != b), min(len(left), len(right)))


State = dict[str, Any]
OWNER = "owner"
NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EINVAL)
SMALLEST_TO_COMPACT = 1 << 18
ATTEMPTS, BETWEEN = 20, 0.01
GROWTH = 8
"""A journal this many times as long as its content is rewritten."""


class HeldElsewhere(Exception):
    """Another process has the journal; the message says which."""


@dataclass(frozen=True)
class Reading:
    """The content of a journal: the state after its last complete line, the bytes up to there, and the number of bad lines after it."""

    state: State
    length: int
    damaged: int
    owner: str


BEFORE_BODY, AFTER_BODY = b'{"crc32":"%s","at":', b"}\n"


class Journal:
    """A journal that only this process writes: the file is locked."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.state: State = {}
        self.damaged = 0
        self._descriptor: int | None = None
        self._length = 0

    def open(self) -> None:
        """Open or create the file and lock it; what follows the last complete line is cut off.

        Raises:
            HeldElsewhere: another process has it.
            OSError: it cannot be written.
        """
        self.file.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(self.file, os.O_CREAT | os.O_RDWR, 0o600)
        try:
            owner = read(self.file).owner
            if not retry_for_a_moment(lambda: locked(descriptor, owner)):
                raise HeldElsewhere(owner)
            found = self._taken(descriptor)
            os.ftruncate(descriptor, found.length)
            os.lseek(descriptor, 0, os.SEEK_END)
        except BaseException:
            os.close(descriptor)
            raise
        self._descriptor, self._length = descriptor, found.length
        self.state, self.damaged = found.state, found.damaged
        sync_folder(self.file.parent)

    def record(self, state: State) -> None:
        """Append the changes since the last state, and wait until they are on the disk.

        Raises:
            HeldElsewhere: another process has taken it over.
            OSError: it cannot be written; what was recorded before is intact.
        """
        if self._descriptor is None:
            self.open()
        changes = changes_between(self.state, state)
        if not changes:
            return
        self._append(line_of({OWNER: this_process(), **changes} if not self._length else changes))
        self.state = state
        if self._length > max(SMALLEST_TO_COMPACT, GROWTH * len(whole := line_of({OWNER: this_process(), **changes_between({}, state)}))):
            with contextlib.suppress(OSError, HeldElsewhere):  # it is only longer than necessary
                self._compact(whole)

    def close(self) -> None:
        """Close and unlock the file."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def _taken(self, descriptor: int) -> Reading:
        """Read a journal after locking it: until then its former owner may have appended to it or rewritten it."""
        found = read(self.file)
        if not os.path.samestat(os.fstat(descriptor), self.file.stat()):
            raise HeldElsewhere(found.owner)
        return found

    def _append(self, line: bytes) -> None:
        assert self._descriptor is not None
        try:
            write_all(self._descriptor, line)
            os.fsync(self._descriptor)
        except OSError:
            # What may be there of it is cut off when the file is opened again, now or by the next process.
            self.close()
            raise
        self._length += len(line)

    def _compact(self, whole: bytes) -> None:
        with temporary_beside(self.file) as temporary:
            write_durably(temporary, whole)
            descriptor = os.open(temporary, os.O_RDWR | os.O_APPEND)
            try:
                if not locked(descriptor, ""):
                    raise HeldElsewhere(str(temporary))
                temporary.replace(self.file)
            except (OSError, HeldElsewhere):
                os.close(descriptor)
                raise
            # From here on the old file has no name: what is written to it is lost, even if something else fails.
            self.close()
            self._descriptor, self._length = descriptor, len(whole)


def read(file: Path) -> Reading:
    """A journal's state, from complete lines only.

    Raises:
        OSError: it cannot be read.
    """
    state: State = {}
    length, owner = 0, ""
    content = file.read_bytes()
    lines = content.splitlines(keepends=True)
    for number, line in enumerate(lines):
        changes = changes_of(line)
        if changes is None:
            return Reading(state, length, len(lines) - number, owner)
        owner = changes.pop(OWNER, owner)
        state = changed(state, changes)
        length += len(line)
    return Reading(state, length, 0, owner)


def is_held(file: Path) -> bool:
    """Whether a living process has locked a journal."""
    try:
        descriptor = os.open(file, os.O_RDWR)
    except OSError:
        return False
    try:
        return not locked(descriptor, "")
    except OSError:
        return False
    finally:
        os.close(descriptor)


def locked(descriptor: int, owner: str) -> bool:
    """Lock an open file until this process ends; where the system has no locks, trust the owner recorded in it.

    Raises:
        OSError: the disk failed.
    """
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
            return False
        if error.errno not in NO_LOCKS:
            raise
        return not lives(owner)
    return True


def retry_for_a_moment(attempt: Callable[[], bool]) -> bool:
    """Retry for a moment: a process that lists sessions locks each of them briefly."""
    for _ in range(ATTEMPTS):
        if attempt():
            return True
        time.sleep(BETWEEN)
    return False


def this_process() -> str:
    """This process for display: "process 4711 on gpu-box"."""
    return f"process {os.getpid()} on {socket.gethostname()}"


def lives(owner: str) -> bool:
    """Whether an owner is another running process, as far as can be determined here; one of another machine may be."""
    words = owner.split()
    if owner == this_process() or len(words) != len(this_process().split()) or not words[1].isdigit():
        return False
    if words[-1] != socket.gethostname():
        return True
    try:
        os.kill(int(words[1]), 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def line_of(changes: Mapping[str, Any]) -> bytes:
    """Changes as a line, with the time and a checksum over both."""
    body = json.dumps([time.time(), changes], separators=(",", ":")).encode()
    return BEFORE_BODY % f"{zlib.crc32(body):08x}".encode() + body + AFTER_BODY


def changes_of(line: bytes) -> State | None:
    """A line's changes; None where it is incomplete or damaged."""
    try:
        content = json.loads(line)
        # over the bytes themselves: another last digit of a number may parse to the same number
        body = line[len(BEFORE_BODY % b"") + 8 : -len(AFTER_BODY)]
        sound = line == BEFORE_BODY % content["crc32"].encode() + body + AFTER_BODY and content["crc32"] == f"{zlib.crc32(body):08x}"
        changes = content["at"][1]
    except (ValueError, KeyError, TypeError, IndexError, AttributeError, RecursionError):
        return None
    return changes if sound and isinstance(changes, dict) else None
