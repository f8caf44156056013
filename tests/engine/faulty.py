"""A real engine whose methods fail on demand: `python -m tests.engine.faulty FILE` reads before each request which ones do.

FILE has lines such as `preview ZeroDivisionError`. Only the service's answer is replaced: the loop and the wire are the product's.
"""

from __future__ import annotations

import builtins
import sys
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from pathlib import Path
from typing import Any

from tui_pruner.engine import server
from tui_pruner.engine.messages import Message
from tui_pruner.engine.server import MessageStream

LATE = ("check_shapes", "reach", "plan_target", "write")
"""The methods that the service answers from its other thread."""
WORDS = "on purpose"
Answer = Message | Future[Message]


def failing(ask: server.Ask, faults: Callable[[], Mapping[str, BaseException]]) -> server.Ask:
    """The same, but for the methods that have a fault at the time."""

    def asked(method: str, params: dict[str, Any]) -> Answer:
        error = faults().get(method)
        if error is None:
            return ask(method, params)
        if method not in LATE:
            raise error
        late: Future[Message] = Future()
        late.set_exception(error)
        return late

    return asked


def faults_in(file: Path) -> dict[str, BaseException]:
    """What a file says, by method."""
    lines = file.read_text().splitlines() if file.exists() else []
    return {method: getattr(builtins, error)(WORDS) for method, error in (line.split() for line in lines)}


def main(file: Path) -> None:
    """Serve with the faults of a file."""
    load = server.load_service

    def faulty(wire: MessageStream) -> Any:
        service = load(wire)
        service.answer = failing(service.answer, lambda: faults_in(file))
        return service

    server.load_service = faulty
    server.serve()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
