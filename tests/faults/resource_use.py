"""What a process takes while the same is done again and again: memory, open files, threads, time."""

from __future__ import annotations

import gc
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median

WATCHED = 200
MOST_GROWTH, MOST_SLOWER = 1.05, 2.0


@dataclass(frozen=True)
class ResourceUse:
    """What a process takes at one moment: resident memory in KiB, open descriptors, threads."""

    memory: int
    descriptors: int
    threads: int

    @classmethod
    def now(cls) -> ResourceUse:
        """Of this process, without what is only waiting to be collected."""
        gc.collect()
        memory = next(int(line.split()[1]) for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmRSS"))
        return cls(memory, len(list(Path("/proc/self/fd").iterdir())), threading.active_count())


def watched(name: str, act: Callable[[int], object], times: int, warm_up: int) -> list[str]:
    """Do something many times; gives what grew between the end of the warm-up and the end."""
    seconds: list[float] = []
    before = ResourceUse.now()
    for number in range(times):
        if number == warm_up:
            before = ResourceUse.now()
        started = time.perf_counter()
        act(number)
        seconds.append(time.perf_counter() - started)
    return compared(name, before, ResourceUse.now(), seconds[warm_up:])


def compared(name: str, before: ResourceUse, after: ResourceUse, seconds: list[float], pool: int = 0) -> list[str]:
    """What grew, and the figures on the screen; times are medians of the first and the last actions. `pool`: threads that may come yet."""
    some = max(1, min(WATCHED, len(seconds) // 3))
    first, last = median(seconds[:some]), median(seconds[-some:])
    print(f"      {name}: {before.memory / 1024:.1f} MiB to {after.memory / 1024:.1f} MiB ({after.memory / before.memory - 1:+.1%}), "
          f"{before.descriptors} descriptors to {after.descriptors}, {before.threads} threads to {after.threads}, "
          f"{first * 1e3:.2f} ms an action to {last * 1e3:.2f} ms", flush=True)  # fmt: skip
    grown = {
        "memory": after.memory > MOST_GROWTH * before.memory,
        "open descriptors": after.descriptors > before.descriptors,
        "threads": after.threads > before.threads + pool,
        "the time of an action": last > MOST_SLOWER * first,
    }
    return [f"{name}: {what} grew" for what, did in grown.items() if did]
