"""Child processes and the pipes to them: started, read line by line, logged, and ended."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import os
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tui_pruner.domain.deadlines import within
from tui_pruner.storage import paths


async def next_line(stream: asyncio.StreamReader) -> bytes:
    """Read a line; empty at the end, and after a line beyond the limit, since such a stream cannot be read any further."""
    try:
        return await stream.readline()
    except ValueError:
        return b""


def parse_message(line: bytes) -> dict[str, Any]:
    """Parse a message; empty for any other line."""
    try:
        message = json.loads(line)
    except (ValueError, RecursionError):
        return {}
    return message if isinstance(message, dict) else {}


ATTENDED = "TUI_PRUNER_ATTENDED"
"""Set in the app, so that what it starts knows that someone presses keys meanwhile."""
LONGEST_LINE = 64 << 20
LONGEST_END = 10.0
LAST_MOMENT = 2.0
LONGEST_LOG, OLD_LOGS = 4 << 20, 3


def child_environment(log: Path | None = None) -> dict[str, str]:
    """The environment of child processes: no auto-install, telemetry or downloads by name, and no busy waiting unless the user wants it.

    Where several processes share the cores, OpenMP threads that spin make small operations up to a hundred times slower.
    """
    return {
        "OMP_WAIT_POLICY": "PASSIVE",
        **os.environ,
        "YOLO_AUTOINSTALL": "false",
        "YOLO_OFFLINE": "true",
        "YOLO_VERBOSE": "false",
        "PYTHONUNBUFFERED": "1",
        **({} if log is None else {paths.OWN_LOG: str(log)}),
    }


async def start_engine() -> asyncio.subprocess.Process:
    """Start an engine, which imports torch while the caller goes on."""
    return await start_module("tui_pruner.engine")


async def start_module(module: str, *arguments: str, log: Path | None = None) -> asyncio.subprocess.Process:
    """Start `python -m module` with pipes for its messages; its stderr goes to a log of its own, or to the shared one."""
    return await start_python("-m", module, *arguments, log=log)


async def start_python(*arguments: str, log: Path | None = None) -> asyncio.subprocess.Process:
    """Start this Python with pipes for the child's messages and its stderr in a log, as the leader of a process group."""
    with open_log(log) as noise:
        return await asyncio.create_subprocess_exec(
            sys.executable,
            *arguments,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=noise,
            env=child_environment(log),
            start_new_session=True,
            limit=LONGEST_LINE,
        )


@contextlib.contextmanager
def open_log(log: Path | None = None) -> Iterator[int]:
    """A file descriptor that appends to a log, by default the shared one; to nowhere if its folder cannot be written."""
    path = log or paths.log_file()
    rotate(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    except OSError:
        descriptor = os.open(os.devnull, os.O_WRONLY)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def rotate(log: Path) -> None:
    """Rename a log that is too long to the next number, and delete the oldest."""
    with contextlib.suppress(OSError):
        if log.stat().st_size > LONGEST_LOG:
            for number in reversed(range(1, OLD_LOGS)):
                with contextlib.suppress(FileNotFoundError):
                    log.with_name(f"{log.name}.{number}").replace(log.with_name(f"{log.name}.{number + 1}"))
            log.replace(log.with_name(f"{log.name}.1"))


def kill_group(process: asyncio.subprocess.Process) -> None:
    """Kill a running child and all that it started, at once."""
    if process.returncode is None:
        _kill(process.pid)


async def end_group(process: asyncio.subprocess.Process) -> None:
    """Kill a child's group, also when the child has just ended, and wait for it. Once only: its process id may be reused."""
    _kill(process.pid)
    # Bounded: a process that is stuck in a driver call does not even die of SIGKILL, and must not block the interface.
    with contextlib.suppress(asyncio.TimeoutError):
        await within(LONGEST_END, process.wait())
    # Processes that left the group may still hold the other end of a pipe, and asyncio closes ours only after that.
    process._transport.close()  # type: ignore[attr-defined]


async def own_end(process: asyncio.subprocess.Process) -> str:
    """How a child that sends no more messages ended by itself; ask before killing it, which would change the answer.

    For example "ended with status 1" or "was killed by SIGSEGV"; one that is still alive after a moment stopped answering.
    """
    with contextlib.suppress(asyncio.TimeoutError):
        await within(LAST_MOMENT, process.wait())
    status = process.returncode
    if status is None:
        return "stopped answering and was ended"
    if status >= 0:
        return f"ended with status {status}"
    name = signal.Signals(-status).name if -status in set(signal.Signals) else f"signal {-status}"
    return f"was killed by {name}" + (" (out of memory?)" if name == "SIGKILL" else "")


def _kill(group: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, signal.SIGKILL)


MOST_LOGS = 50
_NUMBERS = itertools.count(1)


def new_log(kind: str) -> Path:
    """The file for the log of a new job; the oldest logs beyond `MOST_LOGS` are removed."""
    folder = paths.job_logs()
    _remove_old(folder)
    return folder / f"{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}-{next(_NUMBERS)}-{kind}.log"


def _remove_old(folder: Path) -> None:
    with contextlib.suppress(OSError):
        # A name begins with the time at which the job was started.
        for log in sorted(folder.glob("*.log"))[: -MOST_LOGS + 1]:
            log.unlink()
