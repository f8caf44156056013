"""What the end of a command becomes: an exit status, and for an error one line on stderr."""

from __future__ import annotations

import contextlib
import sys
import traceback
from collections.abc import Callable

from tui_pruner import places
from tui_pruner.errors import PrunerError

INTERRUPTED = 130


def ended(action: Callable[[], int]) -> int:
    """Run a command; its exit status."""
    try:
        return action()
    except KeyboardInterrupt:
        print("tui-pruner: interrupted", file=sys.stderr)
        return INTERRUPTED
    except PrunerError as error:
        print(f"tui-pruner: {error}", file=sys.stderr)
        return error.exit_status
    except Exception as error:
        return unforeseen(error)


def unforeseen(error: Exception) -> int:
    """An error that nobody thought of: the traceback goes to the log, one line to the user."""
    log = places.log_file()
    with contextlib.suppress(OSError):
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("a", encoding="utf-8") as stream:
            traceback.print_exception(error, file=stream)
    first = str(error).splitlines()[0] if str(error) else ""
    print(f"tui-pruner: internal error: {type(error).__name__}: {first} (the traceback is in {log})", file=sys.stderr)
    return 3
