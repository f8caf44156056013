"""A limit on how long a piece of Python may run in this thread, even where it calls nothing that could be asked to stop."""

from __future__ import annotations

import ctypes
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from tui_pruner.patience import crowd

AGAIN = 0.5
"""Seconds between two attempts."""


class TooLate(BaseException):
    """The time is up; no `except Exception` on the way swallows it."""


@contextmanager
def deadline(seconds: float) -> Iterator[None]:
    """Raise `TooLate` in the thread that entered, at its next line of Python after so many seconds, more on a busy machine (`patience`).

    Again and again until it leaves: an exception that meets a callback of the garbage collector is swallowed there.
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
                    throw(thread, TooLate)

    threading.Thread(target=interrupt, daemon=True).start()
    try:
        yield
    finally:
        with leaving:
            over.set()
            if thrown.is_set():  # else CPython 3.11 would look for what is not there for ever, and hang under a profiler
                throw(thread, None)  # what was thrown in the last moment and has not arrived


def throw(thread: int, error: type[BaseException] | None) -> None:
    """Have a thread raise an exception; None takes back one that it has not raised yet."""
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), ctypes.py_object(error) if error else None)
