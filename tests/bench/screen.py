"""A program in a pseudo-terminal: everything that it writes with the time, replayed afterwards to find when a text was on the screen.

Replaying afterwards keeps the terminal emulator, which is slower than the program, from slowing the program down.
"""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import termios
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import pyte

from tests.deadlines import HANGING, time_left

COLUMNS, LINES = 120, 40
READ = 1 << 16
SETTLED = 0.3
ESCAPES = re.compile(rb"\x1b\[[0-9;?<>=]*[a-zA-Z]")

Text = Sequence[str]


@dataclass
class Recording:
    """What a program wrote, as (seconds since its start, bytes)."""

    chunks: list[tuple[float, bytes]] = field(default_factory=list)

    @property
    def size(self) -> int:
        """How many bytes there are."""
        return sum(len(data) for _, data in self.chunks)

    def plain(self, first: int = 0) -> bytes:
        """All bytes from one chunk on, without control sequences."""
        return ESCAPES.sub(b"", b"".join(data for _, data in self.chunks[first:]))

    def when(self, shown: Callable[[Text], bool]) -> float:
        """The second at which the screen's lines first satisfied a condition.

        Raises:
            LookupError: they never did.
        """
        screen = pyte.Screen(COLUMNS, LINES)
        stream = pyte.ByteStream(screen)
        for moment, data in self.chunks:
            stream.feed(data)
            if shown(screen.display):
                return moment
        raise LookupError("the screen never showed it:\n" + "\n".join(line.rstrip() for line in screen.display))


class Terminal:
    """A program that runs in a pseudo-terminal of 120x40. Use as a context manager: the program is ended on leaving."""

    def __init__(self, command: Sequence[str]) -> None:
        self._master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", LINES, COLUMNS, 0, 0))
        self.recording = Recording()
        self._pressed = 0
        self._started = time.perf_counter()
        # With this environment and not the C library's, where readline leaves COLUMNS and LINES of its own.
        self.process = subprocess.Popen(command, stdin=slave, stdout=slave, stderr=slave, start_new_session=True, env=dict(os.environ))
        os.close(slave)

    def __enter__(self) -> Terminal:
        return self

    def __exit__(self, *error: object) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        while self._read(SETTLED) or self.process.poll() is None:
            if time.perf_counter() - self._started > HANGING:
                self.process.kill()
        os.close(self._master)

    def read_until(self, words: Sequence[str], settled: bool = True) -> None:
        """Record until all these words have come since the last key, and then, if it is to have `settled`, nothing for a moment.

        Raises:
            TimeoutError: they never came, or the program ended.
        """
        started = time.monotonic()
        while not all(word.encode() in self.recording.plain(self._pressed) for word in words):
            if time_left(started) < 0 or (not self._read(1.0) and self.process.poll() is not None):
                raise TimeoutError(f"the program did not show {' and '.join(words)}: {self.recording.plain()[-500:]!r}")
        if settled:
            self.record_until_silent(SETTLED)

    def press(self, keys: str) -> None:
        """Send keys as a terminal does."""
        self._pressed = len(self.recording.chunks)
        os.write(self._master, keys.encode())

    def answer(self, keys: str, words: str) -> float:
        """Press keys; gives the seconds until the program has written these words.

        Raises:
            TimeoutError: it never did.
        """
        pressed = time.perf_counter()
        self.press(keys)
        while words.encode() not in self.recording.plain(self._pressed):
            if not self._read(HANGING):
                raise TimeoutError(f"the program did not show {words}: {self.recording.plain(self._pressed)[-500:]!r}")
        return self._started + self.recording.chunks[-1][0] - pressed

    def record(self, seconds: float) -> None:
        """Record what comes in this time."""
        deadline = time.perf_counter() + seconds
        while (left := deadline - time.perf_counter()) > 0:
            self._read(left)

    def record_until_silent(self, seconds: float) -> None:
        """Record until nothing has come for this time, or it never rests."""
        started = time.monotonic()
        while self._read(seconds) and time_left(started) > 0:
            continue

    def _read(self, patience: float) -> bool:
        ready, _, _ = select.select([self._master], [], [], patience)
        try:
            data = os.read(self._master, READ) if ready else b""
        except OSError:  # the other end is closed
            return False
        if data:
            self.recording.chunks.append((time.perf_counter() - self._started, data))
        return bool(data)
