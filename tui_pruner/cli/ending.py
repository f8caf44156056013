"""What the end of a command becomes: an exit status, and for an error one line on stderr."""

from __future__ import annotations

import sys
from collections.abc import Callable

from tui_pruner.errors import PrunerError
from tui_pruner.unexpected import keep_traceback, one_line

FAILED = 3
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
        keep_traceback(error)
        print(f"tui-pruner: {one_line('the command', error)}", file=sys.stderr)
        return FAILED
