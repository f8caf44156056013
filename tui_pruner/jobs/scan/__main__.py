"""One worker of a scan on this machine: `python -m tui_pruner.jobs.scan SCRATCH`."""

from __future__ import annotations

import contextlib
import os
import queue
import shutil
import signal
import sys
import tempfile
import threading
import traceback
from collections.abc import Iterator

from tui_pruner.domain.errors import FAILED
from tui_pruner.engine.server import MessageStream, reserve_stdout
from tui_pruner.jobs.__main__ import explain
from tui_pruner.jobs.scan.workers import Order, Task, claim_cores, common_folder, done, working


def main(scratch: str) -> int:
    """Run tasks until stdin ends; return the exit status."""
    wire = reserve_stdout()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl+C reaches the whole group; the job decides what ends
    claims = claim_cores(int(os.environ["OMP_NUM_THREADS"]), common_folder())
    tempfile.tempdir = os.environ["TMPDIR"] = scratch
    try:
        with contextlib.ExitStack() as bound:
            for claim in claims:
                bound.enter_context(claim)
            serve(wire, incoming(scratch))
    except BaseException as error:
        traceback.print_exc()
        explained = explain(error)
        wire.send({"error": {"kind": type(explained).__name__, "message": str(explained)}})
    return FAILED


def serve(wire: MessageStream, lines: Iterator[bytes]) -> None:
    """Answer every task."""
    with working(Order.from_json(next(lines))) as found:
        for line in lines:
            wire.send({"result": done(found, Task.from_json(line), f"worker {os.getpid()}").model_dump()})


def incoming(scratch: str) -> Iterator[bytes]:
    """The lines on stdin; when they end, so does this process."""
    lines: queue.SimpleQueue[bytes] = queue.SimpleQueue()

    def read() -> None:
        with os.fdopen(os.dup(0), "rb") as stream:
            for line in stream:
                lines.put(line)
        shutil.rmtree(scratch, ignore_errors=True)
        os._exit(0)

    threading.Thread(target=read, name="read stdin", daemon=True).start()
    while True:
        yield lines.get()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
