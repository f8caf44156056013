"""Runs jobs: one child each, progress as it comes, ended as a whole on cancel."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

from tui_pruner import errors, places
from tui_pruner.engine.client import as_error
from tui_pruner.engine.processes import kill_group, start_module
from tui_pruner.engine.protocol import JobProgress, Message


class Job:
    """One background computation: `await job.run()` gives its result as plain data; `cancel` ends it at any moment."""

    def __init__(self, kind: str, parameters: Message, on_progress: Callable[[JobProgress], None]) -> None:
        self.kind = kind
        self.parameters = parameters
        self._on_progress = on_progress
        self._process: asyncio.subprocess.Process | None = None
        self._cancelled = False

    async def run(self) -> dict[str, Any]:
        """Do it.

        Raises:
            Cancelled: `cancel` was called.
            PrunerError: the job's own explanation (bad data, out of memory).
            JobError: the child ended without one.
        """
        if self._cancelled:
            raise errors.Cancelled(f"{self.kind} was cancelled")
        self._process = await start_module("tui_pruner.jobs", self.kind)
        assert self._process.stdin is not None and self._process.stdout is not None
        try:
            self._process.stdin.write(self.parameters.model_dump_json().encode() + b"\n")
            await self._process.stdin.drain()
            result = await self._listen(self._process.stdout)
        except (BrokenPipeError, ConnectionResetError):
            result = None
        finally:
            kill_group(self._process)
            await self._process.wait()
        if self._cancelled:
            raise errors.Cancelled(f"{self.kind} was cancelled")
        if result is None:
            raise errors.JobError(f"{self.kind} ended with status {self._process.returncode} and no result; see {places.log_file()}")
        return result

    def cancel(self) -> None:
        """Stop the job and everything that it started."""
        self._cancelled = True
        if self._process is not None:
            kill_group(self._process)

    async def _listen(self, stream: asyncio.StreamReader) -> dict[str, Any] | None:
        while line := await stream.readline():
            try:
                message = json.loads(line)
            except ValueError:
                continue
            if "progress" in message:
                self._on_progress(JobProgress.model_validate(message["progress"]))
            elif "error" in message:
                raise as_error(message["error"])
            elif "result" in message:
                result: dict[str, Any] = message["result"]
                return result
        return None
