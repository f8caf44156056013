"""The interface's side of the engine: starts the child, asks, listens, and says when it died."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping
from typing import Any, cast

from pydantic import ValidationError

from tui_pruner.domain import errors
from tui_pruner.engine.processes import end_group, kill_group, next_line, own_end, parse_message, start_module
from tui_pruner.engine.requests import Answer, EngineRequest
from tui_pruner.storage import paths
from tui_pruner.storage.error_log import keep_traceback

MODULE = "tui_pruner.engine"
EventHandler = Callable[[str, dict[str, Any]], None]


class EngineClient:
    """One engine child. `on_event` gets what the engine says unasked; `on_death` is called once when the child ends by itself."""

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
        """Whether the child is alive."""
        return self._process is not None and self._process.returncode is None

    async def start(self, process: asyncio.subprocess.Process | None = None) -> None:
        """Start the child, or take over one that the caller started; it imports torch while the caller goes on."""
        self._closing, self._given_up = False, ""
        self._process = process or await start_module(MODULE)
        self._reader = asyncio.create_task(self._read())

    async def call(self, request: EngineRequest[Answer]) -> Answer:
        """Ask one thing.

        Raises:
            PrunerError: the engine's refusal, as the class that it was there.
            EngineError: its answer makes no sense.
            EngineGone: the engine is not there, or went away before it answered.
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
        """End the child and all that it started, and wait for it."""
        self.end()
        if self._reader is not None:
            await asyncio.gather(self._reader, return_exceptions=True)

    def end(self) -> None:
        """End the child at once and for good: this does not count as a death."""
        self._closing = True
        self._kill()

    def give_up(self, why: str) -> None:
        """End a child that hangs; `on_death` is told why in these words, since how it ended is our doing."""
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
                except Exception as error:  # what comes after it must be heard all the same
                    keep_traceback(error)
            case {"id": -1, "error": error}:  # it could not even read which request it was
                self._settle_all(as_error(error))
            case {"id": int(number)} if number in self._waiting and not self._waiting[number].done():
                settle(self._waiting[number], message)

    def _settle_all(self, error: errors.PrunerError) -> None:
        for waiting in self._waiting.values():
            if not waiting.done():
                waiting.set_exception(error)


def settle(waiting: asyncio.Future[Any], message: Mapping[str, Any]) -> None:
    """Give the waiting caller what the engine answered."""
    if "error" in message:
        waiting.set_exception(as_error(message["error"]))
    else:
        waiting.set_result(message.get("result"))


def as_error(view: Any, otherwise: type[errors.PrunerError] = errors.EngineError) -> errors.PrunerError:
    """The exception that an error message stands for; `otherwise` where it names none of ours."""
    view = view if isinstance(view, dict) else {}
    message = str(view.get("message", "unknown error"))
    kind = getattr(errors, str(view.get("kind")), None)
    return kind(message) if isinstance(kind, type) and issubclass(kind, errors.PrunerError) else otherwise(message)
