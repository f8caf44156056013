"""What terminals do and can show: signals, stray mouse bytes, few colours, ASCII, and the last words after a crash."""

from __future__ import annotations

import asyncio
import codecs
import contextlib
import os
import re
import select
import signal
import time
import traceback
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

from rich.cells import cell_len
from rich.color import Color as RichColor
from rich.segment import Segment
from rich.style import Style
from textual.color import Color
from textual.filter import LineFilter

from tui_pruner.domain.formatting import legible, printable
from tui_pruner.storage import paths
from tui_pruner.storage.atomic import replace_file
from tui_pruner.storage.error_log import versions_line

LAST_CHANCE = 3.0
LOOK_EVERY = 1.0
_X10_MOUSE = re.compile(rb"\x1b\[M[\x20-\xff]{3}", re.DOTALL)


def on_hangup(leave: Callable[[int], None], kill_children: Callable[[], None]) -> None:
    """Call `leave(status)` on SIGHUP, SIGTERM and SIGINT, so that Textual gives the terminal back; end hard when that hangs."""
    loop = asyncio.get_running_loop()

    def handle(number: int) -> None:
        kill_children()
        loop.call_later(LAST_CHANCE, os._exit, 128 + number)
        leave(128 + number)

    for number in (signal.SIGHUP, signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, handle, number)
    watch_for_hangup(loop, lambda: handle(signal.SIGHUP))


def watch_for_hangup(loop: asyncio.AbstractEventLoop, gone: Callable[[], None]) -> None:
    """Call `gone` when the terminal is closed without a signal: without a controlling terminal no SIGHUP comes."""
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
    """Shows in reverse what stands on another ground than the terminal's own: in the tint's colour, or without any."""

    def apply(self, segments: list[Segment], background: Color) -> list[Segment]:
        """The same text in other styles."""
        return [Segment(text, style and reversed_style(style), control) for text, style, control in segments]


class OnlyPrintable(LineFilter):
    """Leaves out what a terminal would obey: Textual passes on the escape sequences that a file's name or a class name may hold."""

    def apply(self, segments: list[Segment], background: Color) -> list[Segment]:
        """The same styles on text that takes as many cells."""
        return [Segment(without_orders(text), style, control) for text, style, control in segments]


class OnlyAscii(LineFilter):
    """Replaces what is not ASCII, wherever it comes from: borders, scrollbars, the names of files."""

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


def without_orders(text: str) -> str:
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
    """The error with its traceback and the versions, without values of variables; None where it cannot be written."""
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


def last_words(error: BaseException, report: Path | None) -> str:
    """What stands in the terminal when the screen is gone."""
    first = next(iter(str(error).splitlines()), "")
    where = f"; the report is {report}" if report else ""
    return printable(f"tui-pruner: crashed: {type(error).__name__}: {first}{where}; the session is kept: tui-pruner --resume continues it")
