"""A mistake of the interface itself: a report that can be sent on, and a word on how to go on."""

from __future__ import annotations

import contextlib
import time
import traceback
from pathlib import Path

from tui_pruner import places
from tui_pruner.printable import legible, printable
from tui_pruner.versions import versions_line
from tui_pruner.whole_file import replace_file

MOST = 10


def write_report(error: BaseException) -> Path | None:
    """The error with its traceback and the versions, without values of variables; None where it cannot be written."""
    folder = places.state_folder() / "crashes"
    file = folder / f"{time.strftime('%Y%m%d-%H%M%S')}.txt"
    text = "".join(traceback.format_exception(type(error), error, error.__traceback__))
    try:
        replace_file(file, legible(f"{versions_line()}\n\n{text}").encode())
    except OSError:
        return None
    for old in sorted(folder.glob("*.txt"))[:-MOST]:
        with contextlib.suppress(OSError):
            old.unlink()
    return file


def last_words(error: BaseException, report: Path | None) -> str:
    """What stands in the terminal when the screen is gone."""
    first = next(iter(str(error).splitlines()), "")
    where = f"; the report is {report}" if report else ""
    return printable(
        f"tui-pruner: stumbled over {type(error).__name__}: {first}{where}; the session is kept: tui-pruner --resume goes on with it"
    )
