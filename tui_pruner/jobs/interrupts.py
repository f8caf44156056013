"""A wish to stop early, from a key or from another process: a file that those who work look for between two steps."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM)


@contextlib.contextmanager
def stopping_on_signals(wish: Path) -> Iterator[None]:
    """The first SIGINT or SIGTERM writes a file; the next one does what it did before."""
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread can handle signals
        return
    before = {number: signal.getsignal(number) for number in SIGNALS}

    def back() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    def note(number: int, frame: Any) -> None:
        back()
        wish.touch()

    for number in SIGNALS:
        signal.signal(number, note)
    try:
        yield
    finally:
        back()
