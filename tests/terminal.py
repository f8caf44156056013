"""A program in a real pseudo-terminal, with a terminal emulator that says what a person would see on the screen."""

from __future__ import annotations

import contextlib
import fcntl
import functools
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
from wcwidth import wcwidth

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


COLOURS = re.compile("\x1b\\[([0-9;]*)m")
MOST_AT_ONCE = 64
"""Reads before the screen is looked at: what is said without end is looked at all the same."""


class Screen(pyte.Screen):
    """Draws what is one column wide a line at a time, and leaves all else to pyte."""

    def draw(self, data: str) -> None:
        """Put characters where the cursor is."""
        end = self.cursor.x + len(data)
        if end > self.columns or pyte.modes.IRM in self.mode or self.charset or not all(map(is_narrow, data)):
            super().draw(data)
            return
        line, made = self.buffer[self.cursor.y], self.cursor.attrs._replace
        for x, char in enumerate(data.translate(self.g0_charset), self.cursor.x):
            line[x] = made(data=char)
        self.cursor.x = end
        self.dirty.add(self.cursor.y)


class Stream(pyte.ByteStream):
    """Takes a change of colours whole, of which a frame has thousands, and leaves all else to pyte, a character at a time."""

    def feed(self, data: bytes) -> None:
        """Take what came."""
        if not self.use_utf8:
            super().feed(data)
            return
        text, done = self.utf8_decoder.decode(data), 0
        for change in COLOURS.finditer(text):
            pyte.Stream.feed(self, text[done : change.start()])
            if self._taking_plain_text:
                self.listener.select_graphic_rendition(*(int(number or 0) for number in change[1].split(";")))
            else:  # within another sequence
                pyte.Stream.feed(self, change[0])
            done = change.end()
        pyte.Stream.feed(self, text[done:])


@functools.cache
def is_narrow(char: str) -> bool:
    """Whether a character takes one column."""
    return bool(wcwidth(char) == 1)


class Terminal:
    """One program on a screen of the given size; leave the `with` block and its whole process group is gone."""

    def __init__(
        self, command: Sequence[str], columns: int, rows: int, cwd: Path | None = None, env: Mapping[str, str] | None = None
    ) -> None:
        self.screen = Screen(columns, rows)
        self._stream = Stream(self.screen)
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
        came = False
        for turn in range(MOST_AT_ONCE):  # a kernel hands over 4 KB at a time, and a look at the screen costs as much as a hundred
            data = self._take(0 if turn else seconds)
            if data is None:
                break
            self._ended, came = not data, came or bool(data)
            self._stream.feed(data)
            if self._ended:
                break
        if not (came or self._ended):
            return False
        self.text = "\n".join("".join([row[x].data for x in range(self.screen.columns)]).rstrip() for row in self._rows())
        return came

    def _rows(self) -> list[Mapping[int, pyte.screens.Char]]:
        """The cells of every line; one that is two columns wide has an empty one after it."""
        return [self.screen.buffer[y] for y in range(self.screen.lines)]

    def _take(self, seconds: float) -> bytes | None:
        """What came within a time: None where nothing did, empty where nothing will any more."""
        ready, _, _ = select.select([self._master], [], [], seconds)
        if not ready:
            return None
        try:
            return os.read(self._master, 1 << 16)
        except OSError:  # the last process that had the other end is gone
            return b""
