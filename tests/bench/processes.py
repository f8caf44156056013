"""Other processes: how long they take, when they say a word, and how much memory they hold."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.bench.sandbox import ROOT
from tests.deadlines import time_left

KIB = 1024
SETTLED = 0.5
BUSY = """
import os, sys
from tui_pruner.jobs.__main__ import lower_priority
lower_priority(to_keys=True)
if all(os.fork() for _ in range(int(sys.argv[1]))):
    print("started", flush=True)
while True:
    pass
"""
"""Statements that keep a core busy in this process and in some more; processes, since threads of Python share one core."""


def seconds_of(command: Sequence[str]) -> float:
    """From the start of a process to its end."""
    started = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL)
    return time.perf_counter() - started


def result_of(module: str) -> Any:
    """What a measuring module of ours, run in a process of its own, prints as JSON in its last line."""
    run = subprocess.run([sys.executable, "-m", module], check=True, stdout=subprocess.PIPE, cwd=ROOT, text=True)
    return json.loads(run.stdout.splitlines()[-1])


@dataclass(frozen=True)
class Course:
    """One run of a Python process: seconds until its statements were done and until it had ended, bytes resident in between."""

    done: float
    ended: float
    resident: int


def course_of(statements: str) -> Course:
    """Run statements in a fresh Python process, which is held for a moment before it ends; that moment is not counted."""
    code = f"{statements}\nprint('done', flush=True)\ninput()"
    started = time.perf_counter()
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as process:
        assert process.stdout is not None and process.stdin is not None
        while (line := process.stdout.readline()) and line != b"done\n":
            continue
        if line != b"done\n":
            raise RuntimeError(f"the process ended before it was done: {statements}")
        done, resident = time.perf_counter() - started, resident_bytes(process.pid)
        released = time.perf_counter()
        process.stdin.write(b"\n")
        process.stdin.close()
        process.wait()
        return Course(done, done + time.perf_counter() - released, resident)


def resident_bytes(process: int | str = "self", field: str = "VmRSS") -> int:
    """The resident memory of a process, or with the field "VmHWM" its peak. Linux only."""
    for line in Path(f"/proc/{process}/status").read_text().splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) * KIB
    raise ProcessLookupError(f"process {process} has no {field}")


def proportional_bytes(process: int) -> int:
    """The resident memory of a process where what it shares with others counts only in part (PSS). Linux only."""
    lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("Pss:")).split()[1]) * KIB


def cores_used(processes: Sequence[int], while_: Callable[[], None]) -> float:
    """How many cores some processes keep busy on average while something else happens; one that ends meanwhile counts as it was before."""
    started, before = time.perf_counter(), [seconds_used(process, 0.0) for process in processes]
    while_()
    used = sum(seconds_used(process, known) - known for process, known in zip(processes, before, strict=True))
    return used / (time.perf_counter() - started)


def seconds_used(process: int, if_ended: float | None = None) -> float:
    """The processor time of a process so far, or `if_ended` where it has ended.

    Raises:
        ProcessLookupError, FileNotFoundError: it has ended, and there is no `if_ended`.
    """
    try:
        fields = after_name(Path(f"/proc/{process}"))
    except (FileNotFoundError, ProcessLookupError):
        if if_ended is None:
            raise
        return if_ended
    return sum(map(int, fields[11:13])) / os.sysconf("SC_CLK_TCK")


def forget_peak() -> None:
    """Make the peak of this process its present size."""
    Path("/proc/self/clear_refs").write_text("5")


def children_of(process: int) -> list[int]:
    """The processes that a process started and that still run."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if int(after_name(folder)[1]) == process:
                found.append(int(folder.name))
        except (FileNotFoundError, ProcessLookupError):
            continue
    return found


def with_descendants(processes: Sequence[int]) -> list[int]:
    """Some processes, with all that they started and that still run: a training's images are read by processes of its own."""
    found = list(processes)
    for process in found:
        found += [child for child in children_of(process) if child not in found]
    return found


@contextmanager
def occupied(cores: int) -> Iterator[list[int]]:
    """Keep some cores busy meanwhile as further threads of one job would, in one session with its priority; gives the processes."""
    if cores < 1:
        yield []
        return
    command = [sys.executable, "-c", BUSY, str(cores - 1)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, start_new_session=True, cwd=ROOT) as first:
        try:
            assert first.stdout is not None
            if not first.stdout.readline():
                raise RuntimeError("the processes that keep cores busy did not start")
            yield [first.pid, *children_of(first.pid)]
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(first.pid, signal.SIGKILL)


def after_name(folder: Path) -> list[str]:
    """The fields of a process's stat file after its name, which may hold blanks: state, parent, ..."""
    return (folder / "stat").read_text().rpartition(") ")[2].split()


def wait_until_idle(process: int) -> None:
    """Wait until a process has used no processor time for half a second."""
    folder, used, since = Path(f"/proc/{process}"), "", time.monotonic()
    started = since
    while time.monotonic() - since < SETTLED and time_left(started) > 0:
        now = " ".join(after_name(folder)[11:13])
        if now != used:
            used, since = now, time.monotonic()
        time.sleep(SETTLED / 10)
