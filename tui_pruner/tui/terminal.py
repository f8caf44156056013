"""Workarounds for what terminals do: signals that must restore the screen, and mouse bytes that are no UTF-8."""

from __future__ import annotations

import asyncio
import codecs
import os
import re
import select
import signal
from collections.abc import Callable
from typing import Any

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
    """Call `gone` when the terminal is closed and nobody says so: without a controlling terminal there is no SIGHUP."""
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
