"""How long to wait for what may hang: seconds on an idle machine, more on a busy one."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable
from typing import TypeVar

Answer = TypeVar("Answer")


def crowd() -> float:
    """How many processes compete for each processor of this machine, averaged over the last minute; at least 1.

    So many seconds an answer takes that takes one second alone.
    """
    try:
        return max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))
    except OSError:  # the system does not report it
        return 1.0


async def within(seconds: float, answer: Awaitable[Answer]) -> Answer:
    """Wait for an answer for this many seconds, more on a busy machine.

    Raises:
        asyncio.TimeoutError: it did not come; what was waited for is cancelled.
    """
    loop, waiting = asyncio.get_running_loop(), asyncio.ensure_future(answer)
    began = loop.time()
    try:
        while (left := began + seconds * crowd() - loop.time()) > 0:
            await asyncio.wait({waiting}, timeout=left)
            if waiting.done():
                return waiting.result()
        raise asyncio.TimeoutError
    finally:
        waiting.cancel()
