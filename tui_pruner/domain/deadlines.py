"""How long to wait for what may hang: seconds on an idle machine, more on a busy one."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable
from typing import TypeVar

Answer = TypeVar("Answer")
LOOK_EVERY = 1.0
"""Seconds of waiting that are counted at a time."""
ASLEEP = 2.0
"""Seconds by which a wait is late of a process that was stopped (Ctrl-Z, a debugger), not of one that is busy."""
NOTHING = 1e-4
"""Seconds that are too short to wait for."""


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

    Time in which this process itself was stopped hardly counts: what was answered meanwhile has not been read yet.

    Raises:
        asyncio.TimeoutError: it did not come; what was waited for is cancelled.
    """
    loop, waiting, waited = asyncio.get_running_loop(), asyncio.ensure_future(answer), 0.0
    try:
        while (left := seconds * crowd() - waited) > NOTHING:
            began, most = loop.time(), min(left, LOOK_EVERY)
            await asyncio.wait({waiting}, timeout=most)
            if waiting.done():
                return waiting.result()
            took = loop.time() - began
            waited += took if took < most + ASLEEP else most / 2  # so that what is stopped again and again gives up too
        raise asyncio.TimeoutError
    finally:
        waiting.cancel()
