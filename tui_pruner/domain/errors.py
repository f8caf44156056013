"""Errors for users (each message is one line: what is wrong, with what, and what to do), and exit statuses."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tui_pruner.domain.formatting import printable


class PrunerError(Exception):
    """Any failure that is explained to the user instead of shown as a traceback."""

    exit_status = 2

    def __str__(self) -> str:
        """The message without terminal control characters, since it may quote a file's content."""
        return printable(super().__str__())


class CheckpointError(PrunerError):
    """The model file cannot be used: missing, damaged, of another format, or refused."""


class UntrustedError(CheckpointError):
    """The model file needs more than stock models do, so it is loaded only for a user who trusts it like a program."""


class TraceError(PrunerError):
    """The model's forward could not be traced."""


class RequestError(PrunerError):
    """A requested cut is impossible for this model: unknown layer, bad amount, locked channels."""


class ConflictError(RequestError):
    """Two requests ask one group for different widths."""

    exit_status = 1


class PlanError(PrunerError):
    """A plan file is malformed or belongs to another checkpoint."""


class OutputError(PrunerError):
    """The output cannot be written to this path."""


class DataError(PrunerError):
    """The data set cannot be used for validation."""


class ProofError(PrunerError):
    """A cut is not proved equal to its masked twin and must not be used. `proof` has the figures as plain data, if there are any."""

    exit_status = 1

    def __init__(self, message: str, proof: Mapping[str, Any] | None = None) -> None:
        super().__init__(message)
        self.proof = proof


class VerificationError(PrunerError):
    """A written file failed its checks in a clean process and was removed."""

    exit_status = 3


class JobError(PrunerError):
    """A background job ended without a result."""

    exit_status = 3


class EngineError(PrunerError):
    """An unexpected error in the engine, or an answer that cannot be parsed; the engine is still running."""

    exit_status = 3


class EngineGone(EngineError):
    """The engine process died, hung or was ended: the request has no answer."""


class Cancelled(PrunerError):
    """The user stopped a running job."""

    exit_status = 130


def out_of_memory(error: BaseException) -> bool:
    """Whether memory was short: Python's, CUDA's, or the CPU allocator's RuntimeError, without importing torch to name them."""
    return isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError" or "can't allocate memory" in str(error)


FAILED = 3
"""A job or the program failed."""
INTERRUPTED = 130
"""Ended by Ctrl-C or a signal."""
