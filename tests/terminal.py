"""A program in a real pseudo-terminal, with a terminal emulator that says what a person would see on the screen."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import select
import signal
import struct
import subprocess
import termios
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pyte

from tests.deadlines import LOOK_EVERY, time_left

KEYS = {
    "enter": "\r",
    "escape": "\x1b",
    "tab": "\t",
    "up": "\x1b[A",
    "down": "\x1b[B",
    "right": "\x1b[C",
    "left": "\x1b[D",
    "home": "\x1b[H",
    "end": "\x1b[F",
    "ctrl+o": "\x0f",
    "ctrl+r": "\x12",
    "ctrl+t": "\x14",
    "ctrl+u": "\x15",
}


class Terminal:
    """One program on a screen of the given size; leave the `with` block and its whole process group is gone."""

    def __init__(
        self, command: Sequence[str], columns: int, rows: int, cwd: Path | None = None, env: Mapping[str, str] | None = None
    ) -> None:
        self.screen = pyte.Screen(columns, rows)
        self._stream = pyte.ByteStream(self.screen)
        self._master, slave = os.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        self.text = ""
        """The screen as lines."""
        self._ended = False
        self.process = subprocess.Popen(
            list(command), stdin=slave, stdout=slave, stderr=slave, cwd=cwd, start_new_session=True,
            env={**os.environ, "TERM": "xterm-256color", "COLORTERM": "truecolor", **(env or {})},
        )  # fmt: skip
        os.close(slave)

    def __enter__(self) -> Terminal:
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        os.close(self._master)

    def press(self, *keys: str) -> None:
        """Type keys by name, or text as it is."""
        os.write(self._master, "".join(KEYS.get(key, key) for key in keys).encode())

    def resize(self, columns: int, rows: int) -> None:
        """Make the screen another size, and tell the program, as a terminal's window does."""
        self.screen.resize(rows, columns)
        fcntl.ioctl(self._master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        self.process.send_signal(signal.SIGWINCH)

    def wait_for(self, what: str | Callable[[str], bool]) -> str:
        """The screen as soon as it matches a regular expression or a condition; fails with the screen where it never does."""
        condition = (lambda text: re.search(what, text) is not None) if isinstance(what, str) else what
        started = time.monotonic()
        while not condition(self.text):
            if self._ended or time_left(started) < 0:
                raise AssertionError(f"never saw {what!r} (exit status {self.process.poll()}); the screen was:\n{self.text}")
            self._read(LOOK_EVERY)
        return self.text

    def wait_for_quiet(self, seconds: float) -> str:
        """The screen once nothing has come for so long."""
        while self._read(seconds):
            pass
        return self.text

    def wait_for_end(self) -> int:
        """The exit status."""
        started = time.monotonic()
        while self.process.poll() is None:
            if time_left(started) < 0:
                raise AssertionError(f"does not end; the screen was:\n{self.text}")
            if not self._read(LOOK_EVERY) and self._ended:
                time.sleep(LOOK_EVERY)
        return self.process.returncode

    def _read(self, seconds: float) -> bool:
        """Take what comes within a time; whether anything did."""
        ready, _, _ = select.select([self._master], [], [], seconds)
        if not ready:
            return False
        try:
            data = os.read(self._master, 1 << 16)
        except OSError:  # the last process that had the other end is gone
            data = b""
        self._ended = not data
        self._stream.feed(data)
        self.text = "\n".join(line.rstrip() for line in self.screen.display)
        return bool(data)
