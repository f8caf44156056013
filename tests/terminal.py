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
    "ctrl+u": "\x15",
}
PATIENCE = 60.0


class Terminal:
    """One program on a screen of the given size; leave the `with` block and its whole process group is gone."""

    def __init__(
        self, command: Sequence[str], columns: int, rows: int, cwd: Path | None = None, env: Mapping[str, str] | None = None
    ) -> None:
        self.screen = pyte.Screen(columns, rows)
        self._stream = pyte.ByteStream(self.screen)
        self._master, slave = os.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        self.received = 0
        self.started = time.perf_counter()
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

    @property
    def text(self) -> str:
        """The screen as lines."""
        return "\n".join(line.rstrip() for line in self.screen.display)

    def press(self, *keys: str) -> None:
        """Type keys by name, or text as it is."""
        os.write(self._master, "".join(KEYS.get(key, key) for key in keys).encode())

    def wait_for(self, what: str | Callable[[str], bool], patience: float = PATIENCE) -> str:
        """The screen as soon as it matches a regular expression or a condition; fails with the screen where it never does."""
        condition = (lambda text: re.search(what, text) is not None) if isinstance(what, str) else what
        deadline = time.perf_counter() + patience
        while not condition(self.text):
            if not self._read(deadline - time.perf_counter()):
                raise AssertionError(f"never saw {what!r} (exit status {self.process.poll()}); the screen was:\n{self.text}")
        return self.text

    def wait_for_quiet(self, seconds: float) -> str:
        """The screen once nothing has come for so long."""
        while self._read(seconds):
            pass
        return self.text

    def wait_for_end(self, patience: float = PATIENCE) -> int:
        """The exit status."""
        deadline = time.perf_counter() + patience
        while self.process.poll() is None:
            if not self._read(min(0.1, deadline - time.perf_counter())) and time.perf_counter() > deadline:
                raise AssertionError(f"does not end; the screen was:\n{self.text}")
        return self.process.returncode

    def _read(self, seconds: float) -> bool:
        """Take what comes within a time; whether anything did."""
        ready, _, _ = select.select([self._master], [], [], max(0.0, seconds))
        if not ready:
            return False
        try:
            data = os.read(self._master, 1 << 16)
        except OSError:
            return False
        self.received += len(data)
        self._stream.feed(data)
        return bool(data)
