"""Jobs in processes of their own: started, followed, cancelled; and a second try with less where memory ran out."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import signal
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar

from tui_pruner.domain import errors
from tui_pruner.domain.deadlines import within
from tui_pruner.domain.errors import PrunerError
from tui_pruner.engine.client import as_error
from tui_pruner.engine.job_messages import JobProgress
from tui_pruner.engine.messages import Message
from tui_pruner.engine.processes import end_group, kill_group, next_line, own_end, parse_message, start_module
from tui_pruner.storage import paths
from tui_pruner.storage.atomic import removed_at_next_start

Parameters = TypeVar("Parameters", bound=Message)
NO_MEMORY = ("not enough memory", "out of memory")


def with_half_the_batch(parameters: Parameters, error: PrunerError) -> Parameters | None:
    """The job to try next after one that ended so; None where it had no batch to halve, or ended for another reason.

    What a broken-off training has already is not trained again.
    """
    batch = getattr(parameters, "batch", 1)
    if batch <= 1 or not any(words in str(error) for words in NO_MEMORY):
        return None
    resumes = {"resume": True} if hasattr(parameters, "resume") else {}
    return parameters.model_copy(update={"batch": batch // 2, **resumes})


def smaller_batch(before: Message, after: Message) -> str:
    """What is said of it."""
    return f"not enough memory for batches of {getattr(before, 'batch', 1)}: trying {getattr(after, 'batch', 1)}"


LOOK_EVERY = 0.25
LAST_WORDS = 2.0
Start = Callable[[str, str, Path | None], Awaitable[asyncio.subprocess.Process]]


async def start_job(kind: str, scratch: str, log: Path | None) -> asyncio.subprocess.Process:
    """Start the child of a job of this kind, with a folder for its temporary files and, where it has one, a log of its own."""
    return await start_module("tui_pruner.jobs", kind, scratch, log=log)


class Job:
    """One background computation: `await job.run()` gives its result as plain data; `cancel` ends it at any moment."""

    def __init__(
        self,
        kind: str,
        parameters: Message,
        on_progress: Callable[[JobProgress], None],
        start: Start = start_job,
        log: Path | None = None,
    ) -> None:
        self.kind = kind
        self.parameters = parameters
        self._on_progress = on_progress
        self._start = start
        self._log = log
        self._process: asyncio.subprocess.Process | None = None
        self._cancelled = False
        self._stopped = False

    async def run(self) -> dict[str, Any]:
        """Do it, once. However it ends, nothing that it started is left: no process of its group and no temporary file.

        Raises:
            Cancelled: `cancel` was called, or `stop` before there was anything to keep.
            PrunerError: the job's own explanation (bad data, out of memory).
            JobError: the child could not be started, or ended without a result.
        """
        scratch = tempfile.mkdtemp(prefix="tui-pruner-job-")
        with removed_at_next_start(Path(scratch)):
            try:
                return await self._run_in(scratch)
            finally:
                shutil.rmtree(scratch, ignore_errors=True)

    def cancel(self) -> None:
        """Stop the job and everything that it started."""
        self._cancelled = True
        if self._process is not None:
            kill_group(self._process)

    def stop(self) -> None:
        """Ask the job to end early with what it has; one that knows no such thing ends without a result."""
        if self._process is None:
            self.cancel()
        elif self._process.returncode is None:
            self._stopped = True
            self._process.terminate()

    async def _run_in(self, scratch: str) -> dict[str, Any]:
        self._refuse_if_cancelled()
        try:
            process = self._process = await self._start(self.kind, scratch, self._log)
        except OSError as error:
            raise errors.JobError(f"{self.kind} could not be started: {error}") from error
        try:
            self._refuse_if_cancelled()
            answer = await self._converse(process)
            how = await own_end(process) if answer is None else ""
        finally:
            await end_group(process)
        self._refuse_if_cancelled()
        if answer is None and self._stopped and process.returncode == -signal.SIGTERM:
            raise errors.Cancelled(f"{self.kind} was ended before it had a result")
        if answer is None:
            raise errors.JobError(f"{self.kind} {how} without a result; see {self._log or paths.log_file()}")
        if "error" in answer:
            raise self._explained(answer["error"])
        result: dict[str, Any] = answer["result"]
        return result

    def _refuse_if_cancelled(self) -> None:
        if self._cancelled:
            raise errors.Cancelled(f"{self.kind} was cancelled")

    async def _converse(self, process: asyncio.subprocess.Process) -> dict[str, Any] | None:
        """Send the parameters and listen; None when the child ended and its last words were no result."""
        listening = asyncio.create_task(self._listen(process))
        try:
            while not listening.done() and process.returncode is None:
                await asyncio.wait({listening}, timeout=LOOK_EVERY)
            # The child's own death does not end the stream while something that it started holds the other end of the pipe.
            with contextlib.suppress(asyncio.TimeoutError):
                return await within(LAST_WORDS, listening)
            return None
        finally:
            listening.cancel()

    async def _listen(self, process: asyncio.subprocess.Process) -> dict[str, Any] | None:
        assert process.stdin is not None and process.stdout is not None
        # A child that died at once may still have said why.
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            process.stdin.write(self.parameters.to_json() + b"\n")
            await process.stdin.drain()
        while line := await next_line(process.stdout):
            message = parse_message(line)
            if "progress" in message:
                self._report(message["progress"])
            elif "result" in message or "error" in message:
                return message
        return None

    def _report(self, content: Any) -> None:
        try:
            progress = JobProgress.model_validate(content)
        except ValueError:
            return
        self._on_progress(progress)

    def _explained(self, view: Any) -> errors.PrunerError:
        if not isinstance(view, dict) or not isinstance(view.get("message"), str):
            return errors.JobError(f"{self.kind} failed and did not say why; see {self._log or paths.log_file()}")
        return as_error(view, otherwise=errors.JobError)
