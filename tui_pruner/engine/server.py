"""The engine's process: only messages on the real stdout, requests from stdin answered one by one, and an end when the parent ends."""

from __future__ import annotations

import gc
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, BinaryIO

from tui_pruner.domain.errors import PrunerError
from tui_pruner.engine.messages import Message
from tui_pruner.storage.error_log import keep_traceback, one_line, versions_line

if TYPE_CHECKING:
    from tui_pruner.engine.service import Service


class MessageStream:
    """Sends messages, one JSON object a line, from any thread."""

    def __init__(self, descriptor: int) -> None:
        self._stream = os.fdopen(descriptor, "w", encoding="utf-8", newline="\n")
        self._lock = threading.Lock()

    def send(self, message: Mapping[str, Any]) -> None:
        """Write one message and flush it.

        Raises:
            BrokenPipeError: the reader is gone.
        """
        line = json.dumps(message)
        with self._lock:
            self._stream.write(line + "\n")
            self._stream.flush()


def reserve_stdout() -> MessageStream:
    """Reserve the real stdout for messages; all other output, of Python or native code, goes to stderr from now on.

    Call it before any library is imported: Ultralytics' log handler takes the `sys.stdout` that it finds at import.
    """
    sys.stdout.flush()
    wire = MessageStream(os.dup(1))
    os.dup2(2, 1)
    sys.stdout = sys.stderr
    return wire


def reserve_stdin() -> BinaryIO:
    """Reserve the real stdin for requests; what else reads stdin, such as code of the user's, finds it at its end."""
    requests, nowhere = os.fdopen(os.dup(0), "rb"), os.open(os.devnull, os.O_RDONLY)
    os.dup2(nowhere, 0)
    os.close(nowhere)
    return requests


def end_with_parent(clean_up: Callable[[], None] = lambda: None) -> None:
    """End this process, and its group if it leads one, when stdin ends: the parent closed it or died."""

    def watch() -> None:
        # Not through sys.stdin: a daemon thread that holds its lock makes the interpreter abort at exit.
        while os.read(0, 4096):
            pass
        clean_up()
        if os.getpgrp() == os.getpid():
            os.killpg(os.getpid(), signal.SIGKILL)
        os._exit(1)

    threading.Thread(target=watch, name="watch stdin", daemon=True).start()


LONGEST_FINISH = 900.0
"""Seconds; on a busy machine, checking the written file may take most of them."""
MOST_CUTS_NAMED = 3
Ask = Callable[[str, dict[str, Any]], "Message | Future[Message]"]


def serve() -> None:
    """Answer requests until stdin ends."""
    lines, wire = reserve_stdin(), reserve_stdout()
    gc.disable()  # until the checkpoint is open: passing over what is being imported takes a seventh of the time to it
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl+C is for the interface, which ends this process by closing its stdin
    print(time.strftime("%Y-%m-%d %H:%M:%S"), "engine:", versions_line(), file=sys.stderr, flush=True)
    service: Service | None = None
    try:
        service = load_service(wire)
        ask: Ask = service.answer
    except BaseException as error:
        ask = failing_handler(error)
    for line in lines:
        handle(ask, wire, line)
        freeze_present_objects()
    if service is not None:
        finish(service)
    sys.stderr.flush()
    os._exit(0)


def freeze_present_objects() -> None:
    """Have the garbage collector look at what comes, and never again at all that was imported."""
    if not gc.isenabled():
        gc.freeze()
        gc.enable()


def finish(service: Service) -> None:
    """Wait for a write in progress, within limits, since the user wants the file; nothing else is waited for."""
    service.slow.shutdown(wait=False, cancel_futures=True)
    if service.writing is None or not service.writing.running():
        return
    limit = threading.Timer(LONGEST_FINISH, os._exit, [1])
    limit.daemon = True
    limit.start()
    service.slow.shutdown()


def load_service(wire: MessageStream) -> Service:
    """Import torch and the rest, which takes a second, and start with an empty session."""
    from tui_pruner.engine.service import Service

    def say(event: str, data: Message) -> None:
        wire.send({"event": event, "data": data.model_dump(mode="json", by_alias=True)})

    return Service(say)


def failing_handler(cause: BaseException) -> Ask:
    """Return a handler that answers every request with the reason why the engine could not be loaded; a restart would fail the same way."""
    keep_traceback(cause)
    reason = one_line("loading the engine", cause)

    def ask(method: str, params: dict[str, Any]) -> Message:
        raise PrunerError(reason)

    return ask


def handle(ask: Ask, wire: MessageStream, line: bytes) -> None:
    """Answer one request; a line is always sent."""
    try:
        request = json.loads(line)
        number, method, params = request["id"], request["method"], request["params"]
    except (ValueError, KeyError, TypeError, RecursionError):
        wire.send({"id": -1, "error": {"kind": "EngineError", "message": "the engine got a line that is not a request"}})
        return
    what = described(method, params)
    try:
        answer = ask(method, params)
    except BaseException as error:
        wire.send({"id": number, "error": explain(what, error)})
        return
    if isinstance(answer, Future):
        answer.add_done_callback(lambda future: None if future.cancelled() else send_result(wire, number, what, future.result))
    else:
        send_result(wire, number, what, lambda: answer)


def send_result(wire: MessageStream, number: int, what: str, result: Callable[[], Message]) -> None:
    """Send the result of a request, or the error: it failed, or its result cannot be sent."""
    try:
        wire.send({"id": number, "result": result().model_dump(mode="json", by_alias=True)})
    except BrokenPipeError:
        raise
    except BaseException as error:
        wire.send({"id": number, "error": explain(what, error)})


def explain(what: str, error: BaseException) -> dict[str, Any]:
    """An error as a message; an unexpected error is logged with its traceback.

    An exit that a library asks for, an interrupt, and a lack of memory are answered too, since the session is in this process.
    """
    keep_traceback(error)
    kind = type(error).__name__ if isinstance(error, PrunerError) else "EngineError"
    return {"kind": kind, "message": one_line(what, error)}


def described(method: Any, params: Any) -> str:
    """A request in a few words: "open best.pt", "preview model.5=30%"."""
    name = str(method).replace("_", " ")
    if not isinstance(params, Mapping):
        return name
    cuts = params.get("requests")
    named = [f"{cut.get('layer')}={cut.get('amount')}" for cut in cuts if isinstance(cut, Mapping)] if isinstance(cuts, list) else []
    if len(named) > MOST_CUTS_NAMED:
        named = [*named[:MOST_CUTS_NAMED], f"{len(named) - MOST_CUTS_NAMED} more"]
    first = next((str(params[key]) for key in ("path", "layer", "first", "step", "scores", "targets") if params.get(key)), "")
    return f"{name} {first or ', '.join(named)}".rstrip()
