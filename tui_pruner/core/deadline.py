"""A limit on how long a piece of Python may run in this thread, even where it calls nothing that could be asked to stop."""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Iterator
from contextlib import contextmanager


class TooLate(BaseException):
    """The time is up; no `except Exception` on the way swallows it."""


@contextmanager
def deadline(seconds: float) -> Iterator[None]:
    """Raise `TooLate` in the thread that entered, at its next line of Python after so many seconds."""
    thread, leaving, over = threading.get_ident(), threading.Lock(), False

    def interrupt() -> None:
        with leaving:
            if not over:
                throw(thread, TooLate)

    timer = threading.Timer(seconds, interrupt)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        with leaving:
            over = True
            throw(thread, None)  # what was thrown in the last moment and has not arrived
        timer.cancel()


def throw(thread: int, error: type[BaseException] | None) -> None:
    """Have a thread raise an exception; None takes back one that it has not raised yet."""
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), ctypes.py_object(error) if error else None)
