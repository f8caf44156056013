"""A child's side of the pipes: the real stdout kept for messages alone, and an end of its own when the parent is gone."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from collections.abc import Callable, Mapping
from typing import Any


class Wire:
    """Sends messages, one JSON object a line, from any thread."""

    def __init__(self, descriptor: int) -> None:
        self._stream = os.fdopen(descriptor, "w", encoding="utf-8", newline="\n")
        self._lock = threading.Lock()

    def send(self, message: Mapping[str, Any]) -> None:
        """Write one message and flush it.

        Raises:
            BrokenPipeError: nobody reads any more.
        """
        line = json.dumps(message)
        with self._lock:
            self._stream.write(line + "\n")
            self._stream.flush()


def reserve_stdout() -> Wire:
    """Keep the real stdout for messages; whatever else prints, in Python or in native code, goes to stderr from now on.

    Call it before any library is imported: Ultralytics' log handler takes the `sys.stdout` that it finds at import.
    """
    sys.stdout.flush()
    wire = Wire(os.dup(1))
    os.dup2(2, 1)
    sys.stdout = sys.stderr
    return wire


def end_with_parent(clean_up: Callable[[], None] = lambda: None) -> None:
    """End this process, and its group if it leads one, as soon as stdin is at its end: the parent closed it or died."""

    def watch() -> None:
        # Not through sys.stdin: a daemon thread that holds its lock makes the interpreter abort at exit.
        while os.read(0, 4096):
            pass
        clean_up()
        if os.getpgrp() == os.getpid():
            os.killpg(os.getpid(), signal.SIGKILL)
        os._exit(1)

    threading.Thread(target=watch, name="watch stdin", daemon=True).start()
