"""The engine's loop: a line in, a line out; slow answers come when they are ready, and nothing a library prints can get between."""

from __future__ import annotations

import json
import os
import sys
import threading
import time
import traceback
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any

from tui_pruner.engine.protocol import Message
from tui_pruner.engine.wire import Wire, reserve_stdout
from tui_pruner.errors import PrunerError
from tui_pruner.versions import versions_line

if TYPE_CHECKING:
    from tui_pruner.core.service import Service

LONGEST_FINISH = 900.0
"""Seconds; checking the written file alone may take most of them on a busy machine."""


def serve() -> None:
    """Answer requests until stdin ends."""
    wire = reserve_stdout()
    print(time.strftime("%Y-%m-%d %H:%M:%S"), "engine:", versions_line(), file=sys.stderr, flush=True)
    service = load_service(wire)
    for line in sys.stdin.buffer:
        handle(service, wire, line)
    finish(service)
    sys.stderr.flush()
    os._exit(0)


def finish(service: Service) -> None:
    """Let a write that is under way come to its end, within limits, since somebody wants the file; nothing else is waited for."""
    service.slow.shutdown(wait=False, cancel_futures=True)
    if service.writing is None or not service.writing.running():
        return
    limit = threading.Timer(LONGEST_FINISH, os._exit, [1])
    limit.daemon = True
    limit.start()
    service.slow.shutdown()


def load_service(wire: Wire) -> Service:
    """Import the models' world, which takes a second, and start with an empty session."""
    from tui_pruner.core.service import Service

    def say(event: str, data: Message) -> None:
        wire.send({"event": event, "data": data.model_dump(mode="json", by_alias=True)})

    return Service(say)


def handle(service: Service, wire: Wire, line: bytes) -> None:
    """Answer one request."""
    try:
        request = json.loads(line)
        number, method, params = request["id"], request["method"], request["params"]
    except (ValueError, KeyError, TypeError, RecursionError):
        wire.send({"id": -1, "error": {"kind": "EngineError", "message": "the engine got a line that is no request"}})
        return
    try:
        answer = service.answer(method, params)
    except Exception as error:
        wire.send({"id": number, "error": explain(error)})
        return
    if isinstance(answer, Future):
        answer.add_done_callback(lambda future: answer_late(wire, number, future))
    else:
        wire.send({"id": number, "result": answer.model_dump(mode="json", by_alias=True)})


def answer_late(wire: Wire, number: int, future: Future[Message]) -> None:
    """Send the answer of a slow request."""
    if future.cancelled():
        return
    error = future.exception()
    if error is not None:
        wire.send({"id": number, "error": explain(error)})
    else:
        wire.send({"id": number, "result": future.result().model_dump(mode="json", by_alias=True)})


def explain(error: BaseException) -> dict[str, Any]:
    """An error as a message; one that nobody foresaw goes to the log with its traceback."""
    if isinstance(error, PrunerError):
        return {"kind": type(error).__name__, "message": str(error)}
    traceback.print_exception(error, file=sys.stderr)
    first = str(error).splitlines()[0] if str(error) else ""
    return {"kind": "EngineError", "message": f"the engine stumbled: {type(error).__name__}: {first}"}
