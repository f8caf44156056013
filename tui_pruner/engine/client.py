"""The interface's side of other processes: the engine client, and jobs that are started, followed and cancelled.

A job that ran out of memory is tried again with half the batch.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import shutil
import signal
import tempfile
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar, cast

from pydantic import ValidationError

from tui_pruner.domain import errors
from tui_pruner.domain.deadlines import within
from tui_pruner.domain.errors import PrunerError
from tui_pruner.engine.job_messages import JobProgress
from tui_pruner.engine.messages import Message
from tui_pruner.engine.processes import end_group, kill_group, next_line, own_end, parse_message, start_engine, start_module
from tui_pruner.engine.requests import Answer, EngineRequest
from tui_pruner.storage import paths
from tui_pruner.storage.atomic import removed_at_next_start
from tui_pruner.storage.error_log import keep_traceback

EventHandler = Callable[[str, dict[str, Any]], None]


class EngineClient:
    """The client of one engine process. `on_event` gets unsolicited messages; `on_death` is called once if the process ends by itself."""

    def __init__(self, on_event: EventHandler, on_death: Callable[[str], None]) -> None:
        self._on_event = on_event
        self._on_death = on_death
        self._process: asyncio.subprocess.Process | None = None
        self._reader: asyncio.Task[None] | None = None
        self._waiting: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._next = 0
        self._closing = False
        self._given_up = ""

    @property
    def running(self) -> bool:
        """Whether the process is alive."""
        return self._process is not None and self._process.returncode is None

    async def start(self, process: asyncio.subprocess.Process | None = None) -> None:
        """Start the process, or take over one that the caller started; it imports torch in the background."""
        self._closing, self._given_up = False, ""
        self._process = process or await start_engine()
        self._reader = asyncio.create_task(self._read())

    async def call(self, request: EngineRequest[Answer]) -> Answer:
        """Send one request and wait for its answer.

        Raises:
            PrunerError: the engine refused; with the engine's error class.
            EngineError: the answer cannot be parsed.
            EngineGone: the engine is not running, or ended before it answered.
        """
        if self._process is None or self._process.stdin is None or not self.running:
            raise errors.EngineGone(f"the engine is not running; see {paths.log_file()}")
        self._next += 1
        number, waiting = self._next, asyncio.get_running_loop().create_future()
        self._waiting[number] = waiting
        line = json.dumps({"id": number, "method": request.method, "params": request.model_dump()})
        try:
            self._process.stdin.write(line.encode() + b"\n")
            await self._process.stdin.drain()
            return cast("Answer", request.answer.model_validate(await waiting))
        except ValidationError as error:
            raise errors.EngineError(f"the engine's answer to {request.method} makes no sense; see {paths.log_file()}") from error
        except (BrokenPipeError, ConnectionResetError) as error:
            raise errors.EngineGone(f"the engine died; see {paths.log_file()}") from error
        finally:
            self._waiting.pop(number, None)

    async def close(self) -> None:
        """End the process and all that it started, and wait for it."""
        self.end()
        if self._reader is not None:
            await asyncio.gather(self._reader, return_exceptions=True)

    def end(self) -> None:
        """End the process at once; `on_death` is not called."""
        self._closing = True
        self._kill()

    def give_up(self, why: str) -> None:
        """Kill a process that hangs; `on_death` gets this reason, since the exit status only shows our kill."""
        self._given_up = why
        self._kill()

    def _kill(self) -> None:
        if self._process is not None:
            kill_group(self._process)

    async def _read(self) -> None:
        process = self._process
        assert process is not None and process.stdout is not None
        how = "was ended"
        try:
            while line := await next_line(process.stdout):
                self._take(parse_message(line))
            how = await own_end(process)
        finally:
            await end_group(process)
            why = self._given_up or f"the engine {'was ended' if self._closing else how}; see {paths.log_file()}"
            self._settle_all(errors.EngineGone(why))
        if not self._closing:
            self._on_death(why)

    def _take(self, message: dict[str, Any]) -> None:
        match message:
            case {"event": str(event), "data": dict(data)}:
                try:
                    self._on_event(event, data)
                except Exception as error:  # later messages must still be read
                    keep_traceback(error)
            case {"id": -1, "error": error}:  # it could not even parse the number of the request
                self._settle_all(as_error(error))
            case {"id": int(number)} if number in self._waiting and not self._waiting[number].done():
                settle(self._waiting[number], message)

    def _settle_all(self, error: errors.PrunerError) -> None:
        for waiting in self._waiting.values():
            if not waiting.done():
                waiting.set_exception(error)


def settle(waiting: asyncio.Future[Any], message: Mapping[str, Any]) -> None:
    """Give the engine's answer to the waiting caller."""
    if "error" in message:
        waiting.set_exception(as_error(message["error"]))
    else:
        waiting.set_result(message.get("result"))


def as_error(view: Any, otherwise: type[errors.PrunerError] = errors.EngineError) -> errors.PrunerError:
    """The exception that an error message describes; `otherwise` where it names no class of ours."""
    view = view if isinstance(view, dict) else {}
    message = str(view.get("message", "unknown error"))
    kind = getattr(errors, str(view.get("kind")), None)
    return kind(message) if isinstance(kind, type) and issubclass(kind, errors.PrunerError) else otherwise(message)


Parameters = TypeVar("Parameters", bound=Message)
NO_MEMORY = ("not enough memory", "out of memory")


def with_half_the_batch(parameters: Parameters, error: PrunerError) -> Parameters | None:
    """The parameters for a second try after this error; None without a batch to halve, or where the error has another cause.

    An interrupted training continues from its last epoch.
    """
    batch = getattr(parameters, "batch", 1)
    if batch <= 1 or not any(words in str(error) for words in NO_MEMORY):
        return None
    resumes = {"resume": True} if hasattr(parameters, "resume") else {}
    return parameters.model_copy(update={"batch": batch // 2, **resumes})


def smaller_batch(before: Message, after: Message) -> str:
    """The message about the second try."""
    return f"not enough memory for batches of {getattr(before, 'batch', 1)}: trying {getattr(after, 'batch', 1)}"


LOOK_EVERY = 0.25
LAST_WORDS = 2.0
Start = Callable[[str, str, Path | None], Awaitable[asyncio.subprocess.Process]]


async def start_job(kind: str, scratch: str, log: Path | None) -> asyncio.subprocess.Process:
    """Start the process of a job of this kind, with a folder for its temporary files and, if given, a log of its own."""
    return await start_module("tui_pruner.jobs", kind, scratch, log=log)


class Job:
    """One background computation: `await job.run()` returns its result as plain data; `cancel` ends it at any moment."""

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
        """Run the job, once. Afterwards nothing that it started is left: no process of its group and no temporary file.

        Raises:
            Cancelled: `cancel` was called, or `stop` before there was a result to keep.
            PrunerError: the job's own error (bad data, out of memory).
            JobError: the process could not be started, or ended without a result.
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
        """Ask the job to end early with the results so far; a job that does not support that ends without a result."""
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
        """Send the parameters and read messages; None when the process ended without a result."""
        listening = asyncio.create_task(self._listen(process))
        try:
            while not listening.done() and process.returncode is None:
                await asyncio.wait({listening}, timeout=LOOK_EVERY)
            # A process that has ended keeps the pipe open while something that it started holds the other end.
            with contextlib.suppress(asyncio.TimeoutError):
                return await within(LAST_WORDS, listening)
            return None
        finally:
            listening.cancel()

    async def _listen(self, process: asyncio.subprocess.Process) -> dict[str, Any] | None:
        assert process.stdin is not None and process.stdout is not None
        # A process that ended at once may still have sent the reason.
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
