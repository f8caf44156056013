"""Whether the memory suffices to read a file, and a limit while it is read, so that no file can take the machine's."""

from __future__ import annotations

import contextlib
import re
import resource
from collections.abc import Iterator
from pathlib import Path

from tui_pruner.errors import CheckpointError

COPIES = 3
"""Half precision as it is stored, then float32."""
SPARE = 1 << 30


def require_room(path: Path, stored: int) -> None:
    """Refuse a file whose `stored` bytes of weights need more memory than there is.

    Raises:
        CheckpointError: they do.
    """
    free = available_memory()
    if free is not None and COPIES * stored > free:
        needed = f"{COPIES * stored / 1e9:.1f} GB of memory to be read, {free / 1e9:.1f} GB are free"
        raise CheckpointError(f"{path} needs about {needed}: end other programs first")


@contextlib.contextmanager
def limited_memory(stored: int) -> Iterator[None]:
    """Let this process take only so much more memory as reading a file of `stored` bytes can need.

    The limit is on data (RLIMIT_DATA), which the kernel counts without what libraries merely map or reserve: PyTorch and CUDA reserve
    tens of gigabytes of addresses, so a limit on those (RLIMIT_AS) would end them. Without effect where the kernel tells no such figure.
    """
    used = _figure(Path("/proc/self/status"), "VmData")
    soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
    if used is None:
        yield
        return
    wanted = used + 2 * COPIES * stored + SPARE
    limit = min(limit for limit in (wanted, soft, hard) if limit != resource.RLIM_INFINITY)
    resource.setrlimit(resource.RLIMIT_DATA, (limit, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))


def available_memory() -> int | None:
    """The bytes that programs can still have without swapping; None where the system does not tell (no Linux)."""
    return _figure(Path("/proc/meminfo"), "MemAvailable")


def _figure(file: Path, name: str) -> int | None:
    try:
        found = re.search(rf"^{name}:\s+(\d+) kB", file.read_text(encoding="utf-8"), re.MULTILINE)
    except OSError:
        return None
    return int(found[1]) * 1024 if found else None
