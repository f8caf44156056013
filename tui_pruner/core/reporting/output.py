"""Where a report goes: checked before any work is done, and written whole or not at all."""

from __future__ import annotations

from pathlib import Path

from tui_pruner.core.checkpoint.output import output_error
from tui_pruner.errors import OutputError
from tui_pruner.printable import legible
from tui_pruner.whole_file import check_place, replace_file


def check_report_output(output: Path, suffixes: tuple[str, ...], force: bool) -> None:
    """Refuse a place where a report cannot be written.

    Raises:
        OutputError: another suffix, a folder, an existing file without `force`, no such folder, or no permission.
    """
    if output.suffix.lower() not in suffixes and not output.is_dir():
        raise OutputError(f"{output} is no report: its name must end in {' or '.join(suffixes)}")
    check_place(output, str(output), "report.html", force)


def write_report(output: Path, text: str) -> None:
    """Write a report to its place, whole or not at all.

    Raises:
        OutputError: the operating system refuses.
    """
    try:
        replace_file(output, legible(text).encode())
    except OSError as error:
        raise output_error(output, error) from error
