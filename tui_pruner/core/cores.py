"""Networks beside each other on the cores of a machine."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import torch

Work = Callable[[], None]


@contextmanager
def one_core_each(device: torch.device) -> Iterator[Callable[[Sequence[Work]], None]]:
    """Something that does many works without gradients: on the CPU each on a core of its own, elsewhere one after the other.

    Cores that share a small convolution wait for each other; networks that share nothing do not.
    """
    if device.type != "cpu" or cores() == 1:
        yield one_after_the_other
        return
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with ThreadPoolExecutor(cores()) as pool:

            def beside_each_other(works: Sequence[Work]) -> None:
                for begun in [pool.submit(torch.inference_mode()(work)) for work in works]:
                    begun.result()

            yield beside_each_other
    finally:
        torch.set_num_threads(before)


def one_after_the_other(works: Sequence[Work]) -> None:
    """Do one after the other."""
    for work in works:
        work()


def cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
