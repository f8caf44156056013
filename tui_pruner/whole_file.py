"""Files that are there whole or not at all, whatever ends the process that writes them."""

from __future__ import annotations

import os
from pathlib import Path

from tui_pruner.disk import temporary_beside, write_durably
from tui_pruner.errors import OutputError


def replace_file(file: Path, content: bytes) -> None:
    """Write a file in a folder that need not exist yet, whole or not at all, with the rights of any file that the user makes.

    Raises:
        OSError: it cannot be written.
    """
    target = file.resolve()
    target.parent.mkdir(parents=True, exist_ok=True)
    with temporary_beside(target) as temporary:
        write_durably(temporary, content)
        temporary.replace(target)


def check_place(path: Path, name: str, example: str, force: bool) -> None:
    """Refuse a place where a file cannot be written, before any work is done; `name` is how the message calls it.

    Raises:
        OutputError: a folder or device, an existing file without `force`, no such folder, or no permission.
    """
    if path.is_dir():
        raise OutputError(f"{name} is a folder: add a file name such as {example}")
    if path.exists() and not path.is_file():
        raise OutputError(f"{name} is not a regular file: choose another name")
    if path.exists() and not force:
        raise OutputError(f"{name} exists already: choose another name or give --force")
    if not path.parent.is_dir():
        raise OutputError(f"{name} cannot be written: there is no folder {path.parent}, create it first")
    if not os.access(path if path.exists() else path.parent, os.W_OK):
        raise OutputError(f"{name} cannot be written: no permission, choose another folder")
