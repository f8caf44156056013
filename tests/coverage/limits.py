"""A child process with a deadline in processor time and an address space of limited size."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tests.bench.sandbox import ROOT, SETTINGS

LONGEST = 3600.0
ENDINGS = {-signal.SIGPROF: "timeout", -signal.SIGKILL: "killed", -signal.SIGSEGV: "crash", -signal.SIGABRT: "crash"}
NO_MEMORY = ("MemoryError", "can't allocate memory", "bad_alloc", "Cannot allocate memory")


@dataclass(frozen=True)
class Ended:
    """What a child printed, one JSON document a line, and how it ended: "done", "timeout", "out of memory", "crash" or "error"."""

    documents: list[Any]
    how: str
    words: str


def limited(module: str, arguments: Sequence[str], bytes_at_most: int | None = None) -> Ended:
    """Run a module of ours in a process of its own; the deadline is the child's own affair (`within`)."""

    def confine() -> None:
        if bytes_at_most is not None:
            resource.setrlimit(resource.RLIMIT_AS, (bytes_at_most, bytes_at_most))

    command = [sys.executable, "-m", module, *arguments]
    environment = {**os.environ, **SETTINGS, "OMP_NUM_THREADS": "1"}
    try:
        run = subprocess.run(command, capture_output=True, cwd=ROOT, env=environment, preexec_fn=confine, timeout=LONGEST)
    except subprocess.TimeoutExpired as late:
        return Ended(documents_in(late.stdout or b""), "timeout", "")
    said = run.stderr.decode(errors="replace").strip().splitlines()
    words = said[-1] if said and run.returncode else ""
    how = "done" if run.returncode == 0 else ENDINGS.get(run.returncode, "error")
    if how in ("error", "crash") and any(sign in line for sign in NO_MEMORY for line in said):
        how = "out of memory"
    return Ended(documents_in(run.stdout), how, words)


def documents_in(printed: bytes) -> list[Any]:
    """The JSON documents among what a process printed; libraries print too."""
    return [json.loads(line) for line in printed.decode(errors="replace").splitlines() if line.startswith(("{", "["))]


def within(seconds: float) -> None:
    """End this process once it has computed for so long; 0 lifts the deadline."""
    signal.signal(signal.SIGPROF, signal.SIG_DFL)
    signal.setitimer(signal.ITIMER_PROF, seconds)


def tell(document: Any) -> None:
    """Hand a document to the parent."""
    print(json.dumps(document), flush=True)


def peak_bytes() -> int:
    """The largest resident size of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
