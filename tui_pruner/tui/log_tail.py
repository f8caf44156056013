"""The end of a log as lines of plain text, read again only when the file has grown."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from tui_pruner.tui.drawing import broken

MOST_BYTES = 32 << 10
CONTROL = re.compile(r"\x1b\[[0-9;?]*[ -/]*[@-~]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)|[\x00-\x08\x0b-\x1f\x7f]")


class LogTail:
    """One log at a time."""

    def __init__(self) -> None:
        self._read: tuple[Path | None, int] = (None, -1)
        self.lines: list[str] = []

    @property
    def log(self) -> Path | None:
        """The log that is followed."""
        return self._read[0]

    def follow(self, log: Path | None) -> bool:
        """Read the end of this log where there is something new in it; whether there was."""
        size = _size(log)
        if (log, size) == self._read:
            return False
        self._read = (log, size)
        self.lines = [] if log is None or size <= 0 else plain_lines(_end_of(log, size), whole=size <= MOST_BYTES)
        return True


def plain_lines(content: bytes, whole: bool = True) -> list[str]:
    """Lines without control characters; of one that a progress bar wrote over its last state; the first one only if `whole`."""
    lines = content.decode("utf-8", "replace").split("\n")
    if not whole:
        lines = lines[1:]
    while lines and not lines[-1].strip():
        lines.pop()
    return [CONTROL.sub("", line.rstrip("\r").rpartition("\r")[2]).expandtabs().rstrip() for line in lines]


def window(lines: Sequence[str], width: int, height: int, back: int) -> list[str]:
    """What a window of this size shows, `back` lines before the end: always exactly `height` lines, long ones broken."""
    parts = [part for line in lines for part in broken(line, width)]
    end = max(len(parts) - back, min(height, len(parts)))
    shown = parts[max(end - height, 0) : end]
    return shown + [""] * (height - len(shown))


def _size(log: Path | None) -> int:
    try:
        return -1 if log is None else log.stat().st_size
    except OSError:
        return -1


def _end_of(log: Path, size: int) -> bytes:
    try:
        with log.open("rb") as stream:
            stream.seek(max(size - MOST_BYTES, 0))
            return stream.read(MOST_BYTES)
    except OSError:
        return b""
