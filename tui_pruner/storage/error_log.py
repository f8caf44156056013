"""Unexpected errors and library versions: one line for the user, the rest for the log."""

from __future__ import annotations

import contextlib
import platform
import time
import traceback

from tui_pruner import __version__
from tui_pruner.domain.errors import PrunerError, out_of_memory
from tui_pruner.domain.formatting import printable
from tui_pruner.storage import paths

WAYS_OUT: tuple[tuple[type[BaseException], str], ...] = (
    (MemoryError, "not enough memory, so close other programs and try again"),
    (ImportError, "install what is missing, or install tui-pruner again"),
    (KeyboardInterrupt, "it was interrupted, so try again"),
    (OSError, "the system refused it, so mend that and try again"),
)
REPORT = "please report it with that log"


def one_line(what: str, error: BaseException) -> str:
    """Return our own explanation of an error, or for an unexpected one: what failed, how, where the traceback is, and what to do."""
    if isinstance(error, PrunerError):
        return str(error)
    kind = MemoryError if out_of_memory(error) else type(error)
    way_out = next((words for known, words in WAYS_OUT if issubclass(kind, known)), REPORT)
    return printable(f"{what} failed: {named(error)}; the traceback is in {paths.log_file()}: {way_out}")


def named(error: BaseException) -> str:
    """Return the class of an error with the first line of its message."""
    first = next(iter(str(error).splitlines()), "")
    return f"{type(error).__name__}: {first}" if first else type(error).__name__


def keep_traceback(error: BaseException) -> None:
    """Append the traceback of an unexpected error to the log; our own errors need none, and a full disk loses only the traceback."""
    if isinstance(error, PrunerError):
        return
    log = paths.log_file()
    # Also where memory is short: the line for the user matters more.
    with contextlib.suppress(Exception):
        log.parent.mkdir(parents=True, exist_ok=True)
        text = "".join(traceback.format_exception(error))
        with log.open("a", encoding="utf-8", errors="backslashreplace") as stream:
            stream.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')}\n{text}")


LIBRARIES = ("ultralytics", "torch", "torch-pruning", "textual")


def versions() -> dict[str, str]:
    """The versions of this program, its libraries, and Python, without importing any of them."""
    return {"tui-pruner": __version__, **{name: version_of(name) for name in LIBRARIES}, "Python": platform.python_version()}


def version_of(name: str) -> str:
    """A package's version, or "missing"."""
    import importlib.metadata

    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "missing"


def versions_line() -> str:
    """The same in one line, with the system."""
    return ", ".join(f"{name} {version}" for name, version in versions().items()) + f", {platform.platform()}"
