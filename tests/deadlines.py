"""The one place that says how long a test waits: against hanging only, so far off that no busy machine comes near.

What must be fast is compared with something else in the same run, or measured by `make bench`.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator

HANGING = 900.0
"""Seconds after which a process that a test started counts as hanging."""
LONGEST_TEST = 3 * HANGING
"""Seconds after which pytest ends a test."""
MISSING = 120.0
"""Seconds after which something on a screen counts as missing where every process has a core; the busier the machine, the more."""
LOOK_EVERY = 0.02
LOOK_AT_LAST = 0.1


def time_left(started: float) -> float:
    """How much longer to wait for what is waited for since `started`, a reading of `time.monotonic`; negative where it never came."""
    crowd = os.getloadavg()[0] / (os.cpu_count() or 1)
    return started + MISSING * max(1.0, crowd) - time.monotonic()


def longer_and_longer() -> Iterator[float]:
    """Seconds between one look and the next: a look may cost as much as what is waited for, and what is not there soon takes a while."""
    pause = LOOK_EVERY
    while True:
        yield pause
        pause = min(1.2 * pause, LOOK_AT_LAST)


def wait_until(reached: Callable[[], object], what: str) -> None:
    """Look again and again until something outside this process is so."""
    started, pauses = time.monotonic(), longer_and_longer()
    while not reached():
        assert time_left(started) > 0, f"never came: {what}"
        time.sleep(next(pauses))
