"""The engine as a long-lived reader of files that no one would send: what it answers, how long that takes, and how much memory."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.bench.processes import seconds_used
from tests.deadlines import HANGING, LOOK_EVERY
from tui_pruner.engine.processes import child_environment

LONGEST = 20.0
"""Seconds of processor time that an answer may take; one that takes none comes within `HANGING` seconds."""
OPENED, REFUSED, STUMBLED, DIED, HUNG = "opened", "refused", "stumbled", "died", "hung"
BAD = frozenset({STUMBLED, DIED, HUNG})


@dataclass(frozen=True)
class Outcome:
    """What came of opening a file; `message` is the refusal, `grown` how many bytes the engine was larger at most than before."""

    kind: str
    message: str
    seconds: float
    grown: int


class Reader:
    """One engine after another: a new one for each that died or hung."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._number = 0
        self.result: dict[str, Any] = {}

    def open(self, path: Path, **options: Any) -> Outcome:
        """Have a file opened as the app has it."""
        return self.ask("open", path=str(path), **options)

    def ask(self, method: str, **params: Any) -> Outcome:
        """One request, and what came of it."""
        process = self._running()
        before, started = reset_peak(process.pid), time.monotonic()
        self._number += 1
        request = {"id": self._number, "method": method, "params": params}
        assert process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            process.stdin.write(json.dumps(request).encode() + b"\n")
            process.stdin.flush()
        kind, message = self._answer(process, started)
        outcome = Outcome(kind, message, time.monotonic() - started, peak(process.pid) - before)
        if kind in (DIED, HUNG):
            self.close()
        return outcome

    def close(self) -> None:
        """End the engine."""
        if self._process is not None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.communicate()
            self._process = None

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tui_pruner.engine"],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                bufsize=0, env=child_environment(), start_new_session=True,
            )  # fmt: skip
            self._number = 0
            self.ask("open", path="yolov8n.yaml", imgsz=32)  # now it has imported all that it needs
        return self._process

    def _answer(self, process: subprocess.Popen[bytes], started: float) -> tuple[str, str]:
        assert process.stdout is not None
        text, before = b"", seconds_used(process.pid)
        while True:
            if not select.select([process.stdout], [], [], LOOK_EVERY)[0]:
                computed, waited = seconds_used(process.pid) - before, time.monotonic() - started
                if (computed > LONGEST and self._number > 1) or waited > HANGING:
                    return HUNG, f"no answer in {waited:.0f} s, {computed:.0f} s of them computing"
                continue
            piece = os.read(process.stdout.fileno(), 1 << 20)
            if not piece:
                return DIED, f"status {process.wait()}"
            text += piece
            *lines, text = text.split(b"\n")
            for line in lines:
                message = json.loads(line)
                if message.get("id") == self._number:
                    return self._verdict(message)

    def _verdict(self, message: dict[str, Any]) -> tuple[str, str]:
        if "result" in message:
            self.result = message["result"]
            return OPENED, ""
        error = message["error"]
        return (STUMBLED if error["kind"] == "EngineError" else REFUSED), error["message"]


@contextlib.contextmanager
def reader() -> Iterator[Reader]:
    """A reader that is ended with anyone who needs it."""
    made = Reader()
    try:
        yield made
    finally:
        made.close()


def reset_peak(pid: int) -> int:
    """Have the kernel forget how large a process was; gives how large it is, in bytes."""
    Path(f"/proc/{pid}/clear_refs").write_text("5")
    return peak(pid)


def peak(pid: int) -> int:
    """The largest resident size of a process since `reset_peak`, in bytes; 0 for one that is gone."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM")), 0)
