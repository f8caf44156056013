"""Errors for users (each message is one line: what is wrong, with what, and what to do), and exit statuses."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
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


class OutOfReach(RequestError):
    """No cut that is allowed reaches the targets."""

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


class ProgramEnd(PrunerError):
    """Code of the user's raised what would have ended this program, such as SystemExit."""


class Interruption(BaseException):
    """Ends a computation from outside it. No error: nothing that handles errors may take it for one."""


@contextmanager
def user_code(what: str) -> Iterator[None]:
    """Around code of the user's: what it raises to end this program becomes an error of that code. Ctrl-C and interruptions pass.

    Raises:
        ProgramEnd: it raises SystemExit, KeyboardInterrupt or another exception that is no `Exception`.
    """
    try:
        yield
    except (Exception, Interruption):
        raise
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt) and not is_raised(error):
            raise
        said = " ".join(f"{type(error).__name__} {error}".split())[:80]
        raise ProgramEnd(f"{what} raises {said}, which would end this program: have it return, or raise an Exception") from error


def is_raised(error: BaseException) -> bool:
    """Whether a `raise` in Python made an exception; Ctrl-C arrives between any two instructions, or from the handler of its signal."""
    import dis  # late: no first screen waits for it
    import signal

    innermost, handler = error.__traceback__, signal.getsignal(signal.SIGINT)
    while innermost is not None and innermost.tb_next is not None:
        innermost = innermost.tb_next
    if innermost is None or innermost.tb_frame.f_code is getattr(getattr(handler, "func", handler), "__code__", None):
        return False  # asyncio's handler is a `partial`
    return dis.opname[innermost.tb_frame.f_code.co_code[innermost.tb_lasti]] == "RAISE_VARARGS"


def out_of_memory(error: BaseException) -> bool:
    """Whether memory was short: Python's, CUDA's, or the CPU allocator's RuntimeError, without importing torch to name them."""
    return isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError" or "can't allocate memory" in str(error)


REFUSED = 2
"""A wrong usage or input."""
FAILED = 3
"""A job or the program failed."""
INTERRUPTED = 130
"""Ended by Ctrl-C or a signal."""
