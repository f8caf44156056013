"""Terminal behaviour: signals, stray mouse bytes, few colours, ASCII, the report after a crash, and the order of keys.

Keys are handled one after the other: each is released when all effects of the previous one are complete.
"""

from __future__ import annotations

import asyncio
import codecs
import contextlib
import os
import re
import select
import signal
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

from rich.cells import cell_len
from rich.color import Color as RichColor
from rich.segment import Segment
from rich.style import Style
from textual import events
from textual.app import App
from textual.color import Color
from textual.dom import DOMNode
from textual.filter import LineFilter
from textual.message import Message

from tui_pruner.domain.deadlines import crowd
from tui_pruner.domain.formatting import legible, printable
from tui_pruner.storage import paths
from tui_pruner.storage.atomic import replace_file
from tui_pruner.storage.error_log import versions_line

LAST_CHANCE = 3.0
LOOK_EVERY = 1.0
_X10_MOUSE = re.compile(rb"\x1b\[M[\x20-\xff]{3}", re.DOTALL)


def on_hangup(leave: Callable[[int], None], kill_children: Callable[[], None]) -> None:
    """Call `leave(status)` on SIGHUP, SIGTERM and SIGINT, so that Textual restores the terminal; exit hard when that hangs."""
    loop = asyncio.get_running_loop()

    def handle(number: int) -> None:
        kill_children()
        last_chance = threading.Timer(LAST_CHANCE, os._exit, [128 + number])  # not of the loop, which may end before what hangs
        last_chance.daemon = True
        last_chance.start()
        leave(128 + number)

    for number in (signal.SIGHUP, signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, handle, number)
    watch_for_hangup(loop, lambda: handle(signal.SIGHUP))


def stop_between_frames(app: App[Any]) -> None:
    """Obey SIGTSTP and SIGCONT from the event loop, not in the middle of a write.

    Textual's own handlers write to the terminal: one that interrupts the app while it queues a frame waits for that queue for ever.
    After a stop that no process can handle (SIGSTOP) they would start a second reader of the keys; here the screen is set up again.
    A stop that is revoked before it is obeyed has no effect, as in a process without handlers. An app that is leaving obeys neither: when a
    terminal is closed SIGCONT follows SIGHUP, and a reader of keys started after the end would never end.
    """
    loop, stop, resume = asyncio.get_running_loop(), signal.getsignal(signal.SIGTSTP), signal.getsignal(signal.SIGCONT)
    if not (callable(stop) and callable(resume)):  # no terminal
        return
    stopped, due = False, None

    def on_stop() -> None:
        nonlocal due
        due = due or loop.call_soon(obey)

    def obey() -> None:
        nonlocal stopped, due
        due = None
        if app.return_code is None:
            stopped = True
            stop(signal.SIGTSTP, None)

    def on_continue() -> None:
        nonlocal stopped, due
        if app.return_code is not None:
            return
        if due is not None:
            due.cancel()
            due = None
        elif stopped:
            stopped = False
            resume(signal.SIGCONT, None)
        else:
            with app.suspend():
                pass

    loop.add_signal_handler(signal.SIGTSTP, on_stop)
    loop.add_signal_handler(signal.SIGCONT, on_continue)


def watch_for_hangup(loop: asyncio.AbstractEventLoop, gone: Callable[[], None]) -> None:
    """Call `gone` when the terminal is closed without a signal: without a controlling terminal there is no SIGHUP."""
    terminal = select.poll()
    if not os.isatty(0):
        return
    terminal.register(0, 0)

    def look() -> None:
        if any(event & select.POLLHUP for _, event in terminal.poll(0)):
            gone()
        else:
            loop.call_later(LOOK_EVERY, look)

    look()


class ForgivingDecoder(codecs.IncrementalDecoder):
    """UTF-8 that drops old-style (X10) mouse reports, which tmux sends on reattaching, and replaces other stray bytes."""

    def __init__(self, errors: str = "replace") -> None:
        super().__init__(errors)
        self._inner = codecs.getincrementaldecoder("utf-8")("replace")

    def decode(self, data: Any, final: bool = False) -> str:
        """The text of these bytes."""
        return self._inner.decode(_X10_MOUSE.sub(b"", bytes(data)), final)


def tolerate_stray_bytes() -> None:
    """Make Textual's driver decode with `ForgivingDecoder`: its strict one ends the input thread, and with it every key."""
    try:
        from textual.drivers import linux_driver
    except ImportError:
        return
    setattr(linux_driver, "getincrementaldecoder", lambda encoding: ForgivingDecoder)  # noqa: B010


DEFAULT = RichColor.default()
KITTY_PICTURE = "\U0010eeee"
"""What kitty puts a part of a picture in the place of: a private character that no terminal obeys."""
SAME = {
    "|": "│║┃▏▎▍▌▐▊▉▕┆╎┊",
    "_": "▁▂▃",
    "-": "─━═▔╌╴╶–—−",
    "+": "╭╮╯╰┌┐└┘├┤┬┴┼╔╗╚╝┏┓┗┛",
    "#": "█▀▄▅▆▇",
    ".": "·…•",
    ">": "→▸▶❯",
    "<": "←◀",
    "v": "▼▾↓",
    "^": "▲▴↑",
    "*": "●◆○⭘",
    "x": "×✗✘",
}
TRANSLATION = {ord(sign): plain for plain, signs in reversed(SAME.items()) for sign in signs}
TINTS = frozenset({"green", "yellow", "red"})


class InReverse(LineFilter):
    """Show text on a coloured background in reverse video: in the tint's colour, or without any."""

    def apply(self, segments: list[Segment], background: Color) -> list[Segment]:
        """The same text in other styles."""
        return [Segment(text, style and reversed_style(style), control) for text, style, control in segments]


class OnlyPrintable(LineFilter):
    """Replace control characters: Textual passes on escape sequences that a file's name or a class name may contain."""

    def apply(self, segments: list[Segment], background: Color) -> list[Segment]:
        """The same styles on text that takes as many cells."""
        return [Segment(without_control_sequences(text), style, control) for text, style, control in segments]


class OnlyAscii(LineFilter):
    """Replace every character that is not ASCII, wherever it comes from: borders, scrollbars, file names."""

    def apply(self, segments: list[Segment], background: Color) -> list[Segment]:
        """The same styles on text of ASCII characters that takes as many cells."""
        return [Segment(as_ascii(text), style, control) for text, style, control in segments]


@lru_cache(1024)
def reversed_style(style: Style) -> Style:
    """The style for a terminal of 16 colours."""
    if style.bgcolor is None or style.bgcolor.is_default:
        return style
    colour = style.bgcolor if style.bgcolor.name in TINTS else DEFAULT
    return style + Style.from_color(colour, DEFAULT) + Style(reverse=True)


def without_control_sequences(text: str) -> str:
    """The text without control characters, cell by cell."""
    if text.isprintable():
        return text
    return "".join(sign if sign == KITTY_PICTURE or printable(sign) == sign else "?" * cell_len(sign) for sign in text)


def as_ascii(text: str) -> str:
    """The text in ASCII, cell by cell."""
    if text.isascii():
        return text
    return "".join(sign if sign.isascii() else "?" * cell_len(sign) for sign in text.translate(TRANSLATION))


MOST = 10


def write_report(error: BaseException) -> Path | None:
    """Write a report of the error with its traceback and the versions, without values of variables; None where it cannot be written."""
    folder = paths.state_folder() / "crashes"
    file = folder / f"{time.strftime('%Y%m%d-%H%M%S')}.txt"
    text = "".join(traceback.format_exception(type(error), error, error.__traceback__))
    try:
        replace_file(file, legible(f"{versions_line()}\n\n{text}").encode())
    except OSError:
        return None
    for old in sorted(folder.glob("*.txt"))[:-MOST]:
        with contextlib.suppress(OSError):
            old.unlink()
    return file


def final_message(error: BaseException, report: Path | None) -> str:
    """The text that is printed to the terminal after the screen is closed."""
    first = next(iter(str(error).splitlines()), "")
    where = f"; the report is {report}" if report else ""
    return printable(f"tui-pruner: crashed: {type(error).__name__}: {first}{where}; the session is kept: tui-pruner --resume continues it")


PATIENCE, TURN = 1.0, 0.05
"""Seconds; the patience is counted in turns, since each comes late where this process gets little CPU time."""


class KeyHandled(Message):
    """A message that follows a key from the widget that got it up to the app, and so arrives when the key has been handled."""

    def __init__(self, key: events.Key, *, then: DOMNode | None = None) -> None:
        self.key = key
        self.then = then
        super().__init__()


class KeysInOrder(App[int]):
    """An app that handles keys strictly one after the other, however fast they arrive.

    Textual sends a key to the widget that has the focus when the key arrives, but a key that moves the focus is handled
    later, in the widget's own time. A key that was typed after it then goes to the wrong widget: a space that should mark
    a layer is typed into the filter that enter was to close. Here the next key waits until the previous one has passed
    through its widget and all that contain it, then for the messages that it caused there, and then for a screen that it
    opened. A key that never gets through is waited for a second, longer on a busy machine (`patience`).
    """

    def __init__(self) -> None:
        super().__init__()
        self._typed: deque[events.Key] = deque()
        self._under_way: events.Key | None = None
        self._screen_before: DOMNode | None = None
        self._deadline: asyncio.TimerHandle | None = None

    @property
    def keys_waiting(self) -> bool:
        """Whether a key was typed that has not been handled yet."""
        return self._under_way is not None or bool(self._typed)

    async def on_event(self, event: events.Event) -> None:
        """Queue a new key until its turn; handle all other events at once."""
        if isinstance(event, events.Key) and not event.is_forwarded:
            self._typed.append(event)
            await self._release_next_key()
        else:
            await super().on_event(event)

    async def on_key_handled(self, message: KeyHandled) -> None:
        """Follow the messages that the key caused, and release the next key after them."""
        if message.key is not self._under_way:
            return
        follower = message.then
        if follower is None and self.screen is not self._screen_before:
            follower = self._screen_before = self.screen
        if follower is None or not follower.post_message(KeyHandled(message.key)):
            await self._go_on(message.key)

    async def _release_next_key(self) -> None:
        while self._typed and self._under_way is None:
            key = self._under_way = self._typed.popleft()
            self._screen_before = self.screen
            target = self.focused or self.screen
            self._start_key_timeout(key, PATIENCE * crowd())
            await super().on_event(key)
            if not target.post_message(KeyHandled(key, then=target)):
                self._free()

    def _start_key_timeout(self, key: events.Key, left: float) -> None:
        if left > 0:
            self._deadline = asyncio.get_running_loop().call_later(TURN, self._start_key_timeout, key, left - TURN)
        else:
            self.call_later(self._go_on, key)

    async def _go_on(self, key: events.Key) -> None:
        if key is self._under_way:
            self._free()
            await self._release_next_key()

    def _free(self) -> None:
        self._under_way = None
        if self._deadline is not None:
            self._deadline.cancel()
