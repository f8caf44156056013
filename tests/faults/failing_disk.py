"""A disk on which a call fails: the Nth of its kind below a folder, once or from then on."""

from __future__ import annotations

import errno
import fcntl
import io
import os
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest.mock import patch

HALF = "half a write"
CALLS = [
    (os, "open"), (io, "open"), (os, "write"), (os, "fsync"), (os, "replace"), (os, "link"), (os, "unlink"), (os, "mkdir"),
    (os, "ftruncate"), (fcntl, "flock"),
]  # fmt: skip
OPERATIONS = (*dict.fromkeys(name for _, name in CALLS), HALF)
ERRORS = (errno.ENOSPC, errno.EIO, errno.EACCES, errno.EINTR)


@dataclass(frozen=True)
class Fault:
    """The call that fails: which of its kind, counted from 1, with what error, and whether all after it fail too."""

    operation: str
    number: int
    error: int
    lasting: bool = False

    def __str__(self) -> str:
        return f"{errno.errorcode[self.error]} at {self.operation} number {self.number}{' and all after it' if self.lasting else ''}"

    def hits(self, count: int) -> bool:
        """Whether this call of its kind fails."""
        return count >= self.number if self.lasting else count == self.number


@dataclass
class FailingDisk:
    """Everything below a folder: calls are counted by their kind, and fail as the fault says while there is one."""

    folder: Path
    fault: Fault | None = None
    calls: Counter[str] = field(default_factory=Counter)
    failed: int = 0
    _ours: set[int] = field(default_factory=set)

    @contextmanager
    def used(self) -> Iterator[None]:
        """Stand between the program and the system."""
        with ExitStack() as stack:
            for module, name in CALLS:
                stack.enter_context(patch.object(module, name, self._watched(name, getattr(module, name))))
            yield

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Look at what is there without counting or failing."""
        fault, calls = self.fault, self.calls.copy()
        self.fault = None
        try:
            yield
        finally:
            self.fault, self.calls = fault, calls

    def _watched(self, name: str, system: Callable[..., Any]) -> Callable[..., Any]:
        def call(first: Any, *more: Any, **named: Any) -> Any:
            ours = self._concerns(first)
            if ours:
                self._count(name)
            if ours and name == "write":
                self._count(HALF, lambda: system(first, memoryview(more[0])[: len(more[0]) // 2]))
            done = system(first, *more, **named)
            if name == "open" and isinstance(done, int):
                (self._ours.add if ours else self._ours.discard)(done)
            return done

        return call

    def _concerns(self, first: Any) -> bool:
        """Whether a descriptor or a path is below the folder."""
        return first in self._ours if isinstance(first, int) else Path(os.fsdecode(first)).is_relative_to(self.folder)

    def _count(self, operation: str, before: Callable[[], object] = lambda: None) -> None:
        self.calls[operation] += 1
        if self.fault is not None and operation == self.fault.operation and self.fault.hits(self.calls[operation]):
            self.failed += 1
            before()
            raise OSError(self.fault.error, os.strerror(self.fault.error))
