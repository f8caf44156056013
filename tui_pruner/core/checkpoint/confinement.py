"""While a file is read, this thread opens no connection and starts no program, whatever the file manages to call."""

from __future__ import annotations

import contextlib
import functools
import sys
import threading
from collections.abc import Iterator
from typing import Any

CONNECTIONS = ("socket.",)
PROGRAMS = ("subprocess.", "os.system", "os.exec", "os.fork", "os.posix_spawn", "os.spawn", "pty.")
_reading = threading.local()


class Confined(RuntimeError):
    """Something tried to get out."""


@contextlib.contextmanager
def confined(trusted: bool = False) -> Iterator[None]:
    """Refuse connections, and unless the file is trusted programs too, in this thread."""
    _listen()
    _reading.forbidden = CONNECTIONS if trusted else CONNECTIONS + PROGRAMS
    try:
        yield
    finally:
        _reading.forbidden = ()


@functools.lru_cache(maxsize=1)
def _listen() -> None:
    """Python never takes an audit hook away again, so there is one for good that mostly looks away."""
    sys.addaudithook(_refuse)


def _refuse(event: str, arguments: tuple[Any, ...]) -> None:
    forbidden = getattr(_reading, "forbidden", ())
    if forbidden and event.startswith(forbidden):
        raise Confined(f"tried {event}, which nothing may while a file is read")
