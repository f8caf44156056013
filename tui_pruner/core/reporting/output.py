"""Where a report goes: checked before any work is done, and written whole or not at all."""

from __future__ import annotations

import contextlib
import os
import secrets
from pathlib import Path

from tui_pruner.core.checkpoint.output import output_error
from tui_pruner.errors import OutputError


def check_report_output(output: Path, suffixes: tuple[str, ...], force: bool) -> None:
    """Refuse a place where a report cannot be written.

    Raises:
        OutputError: another suffix, a folder, an existing file without `force`, no such folder, or no permission.
    """
    if output.is_dir():
        raise OutputError(f"{output} is a folder: add a file name such as report.html")
    if output.suffix.lower() not in suffixes:
        raise OutputError(f"{output} is no report: its name must end in {' or '.join(suffixes)}")
    if output.exists() and not force:
        raise OutputError(f"{output} exists already: choose another name or give --force")
    if not output.parent.is_dir():
        raise OutputError(f"{output} cannot be written: there is no folder {output.parent}, create it first")
    if not os.access(output.parent, os.W_OK):
        raise OutputError(f"{output} cannot be written (no permission): choose another folder")


def write_report(output: Path, text: str) -> None:
    """Write a file beside its place and move it there, with the rights of any file that the user makes.

    Raises:
        OutputError: the operating system refuses.
    """
    target = output.resolve()
    temporary = target.with_name(f".writing-{secrets.token_hex(8)}")
    try:
        temporary.write_text(text, encoding="utf-8")
        temporary.replace(target)
    except OSError as error:
        raise output_error(output, error) from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
