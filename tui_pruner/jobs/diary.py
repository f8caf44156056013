"""What a job writes into its log besides what its libraries print: what it is, how far it is, and how it ended."""

from __future__ import annotations

import sys
import time

from tui_pruner.engine.job_messages import JobProgress
from tui_pruner.engine.protocol import Message
from tui_pruner.versions import versions_line

PLAN, METRICS = "plan", "metrics/"


class Diary:
    """Lines on stderr, each with the time of day; never the same one twice in a row."""

    def __init__(self) -> None:
        self._began = time.monotonic()
        self._last = ""

    def begin(self, kind: str, parameters: Message) -> None:
        """The job with its parameters, the plan's channels left out."""
        fields = parameters.model_dump(exclude={PLAN}, exclude_none=True)
        self._write(f"{time.strftime('%Y-%m-%d')} {versions_line()}")
        self._write(f"{kind}: " + ", ".join(f"{name} {value}" for name, value in fields.items() if value != ""))

    def follow(self, progress: JobProgress) -> None:
        """How far it is, with the metrics so far."""
        counted = f" {progress.done}/{progress.total}" if progress.total else ""
        named = {name.removeprefix(METRICS): value for name, value in progress.metrics.items() if name.startswith(METRICS)}
        metrics = ", ".join(f"{name} {value:.3f}" for name, value in named.items())
        self._write(f"{progress.doing}{counted}" + (f": {metrics}" if metrics else ""))

    def end(self) -> None:
        """It has its result."""
        self._write(f"done in {time.monotonic() - self._began:.1f} s")

    def _write(self, text: str) -> None:
        if text != self._last:
            self._last = text
            print(time.strftime("%H:%M:%S"), text, file=sys.stderr, flush=True)
