"""Child processes: started in a group of their own so that they end as a whole, with everything that libraries print kept in a log."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import Iterator

from tui_pruner import places

LONGEST_LINE = 64 << 20


def child_environment() -> dict[str, str]:
    """The environment of our children: no auto-install, no telemetry, no downloads by name."""
    return {**os.environ, "YOLO_AUTOINSTALL": "false", "YOLO_OFFLINE": "true", "YOLO_VERBOSE": "false", "PYTHONUNBUFFERED": "1"}


async def start_module(module: str, *arguments: str) -> asyncio.subprocess.Process:
    """Start `python -m module` with pipes for its messages and its noise in the log file."""
    with open_log() as log:
        return await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            module,
            *arguments,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=log,
            env=child_environment(),
            start_new_session=True,
            limit=LONGEST_LINE,
        )


@contextlib.contextmanager
def open_log() -> Iterator[int]:
    """A file descriptor that appends to the log."""
    path = places.log_file()
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def kill_group(process: asyncio.subprocess.Process) -> None:
    """End a child and all that it started, at once."""
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
