"""How long to wait for what may hang: seconds of a machine with nothing else to do, more of them where others work on it too."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable
from typing import TypeVar

Answer = TypeVar("Answer")


def crowd() -> float:
    """How many processes want each processor of this machine, over the last minute; at least 1.

    How many seconds an answer takes that takes one second alone.
    """
    try:
        return max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))
    except OSError:  # a system that does not say
        return 1.0


async def within(seconds: float, answer: Awaitable[Answer]) -> Answer:
    """Wait for an answer as long as it would take a hanging one to be told from one that is late.

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
