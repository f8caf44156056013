"""How long to wait for what may hang: seconds on an idle machine, more on a busy one."""

from __future__ import annotations

import asyncio
import ctypes
import os
import threading
import time
from collections.abc import Awaitable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from tui_pruner.domain.errors import Interruption

Answer = TypeVar("Answer")
LOOK_EVERY = 1.0
"""Seconds of waiting that are counted at a time."""
ASLEEP = 2.0
"""Seconds by which a wait is late of a process that was stopped (Ctrl-Z, a debugger), not of one that is busy."""
NOTHING = 1e-4
"""Seconds that are too short to wait for."""
AGAIN = 0.5
"""Seconds between two attempts."""


def crowd() -> float:
    """How many processes compete for each processor of this machine, averaged over the last minute; at least 1.

    So many seconds an answer takes that takes one second alone.
    """
    try:
        return max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))
    except OSError:  # the system does not report it
        return 1.0


async def within(seconds: float, answer: Awaitable[Answer]) -> Answer:
    """Wait for an answer for this many seconds, more on a busy machine.

    Time in which this process itself was stopped hardly counts: what was answered meanwhile has not been read yet.

    Raises:
        asyncio.TimeoutError: it did not come; what was waited for is cancelled.
    """
    loop, waiting, waited = asyncio.get_running_loop(), asyncio.ensure_future(answer), 0.0
    try:
        while (left := seconds * crowd() - waited) > NOTHING:
            began, most = loop.time(), min(left, LOOK_EVERY)
            await asyncio.wait({waiting}, timeout=most)
            if waiting.done():
                return waiting.result()
            took = loop.time() - began
            waited += took if took < most + ASLEEP else most / 2  # so that what is stopped again and again gives up too
        raise asyncio.TimeoutError
    finally:
        waiting.cancel()


class TimeUp(Interruption):
    """The time is up; a BaseException, so that no `except Exception` in a forward catches it."""


@contextmanager
def deadline(seconds: float) -> Iterator[None]:
    """Raise `TimeUp` in the calling thread, at its next line of Python, after this many seconds (more on a busy machine).

    It is raised again until the block ends: an exception raised within a callback of the garbage collector is swallowed.
    """
    thread, leaving = threading.get_ident(), threading.Lock()
    thrown, over = threading.Event(), threading.Event()

    def interrupt() -> None:
        began, wait = time.monotonic(), seconds
        while not over.wait(wait):
            wait = AGAIN
            if time.monotonic() - began < seconds * crowd():
                continue
            with leaving:
                if not over.is_set():
                    thrown.set()
                    throw(thread, TimeUp)

    threading.Thread(target=interrupt, daemon=True).start()
    try:
        yield
    finally:
        with leaving:
            over.set()
            if thrown.is_set():  # without this, CPython 3.11 would search for ever and hang under a profiler
                throw(thread, None)  # cancel what was raised in the last moment and has not arrived


def throw(thread: int, error: type[BaseException] | None) -> None:
    """Raise an exception in a thread; None cancels one that was not delivered yet."""
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), ctypes.py_object(error) if error else None)
