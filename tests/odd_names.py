"""Names of files that are not UTF-8: bytes as Latin-1 has them, which Python shows as lone surrogates."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

CAFE = os.fsdecode(b"caf\xe9.pt")
SHOWN = r"caf\xe9.pt"


def odd_path(folder: Path, name: bytes) -> Path:
    """A path in a folder by its bytes, with nothing there yet; skips the test where the file system refuses such a name."""
    path = folder / os.fsdecode(name)
    try:
        path.touch()
    except OSError:
        pytest.skip("this file system has only names that are UTF-8")
    path.unlink()
    return path


def odd_copy(source: Path, folder: Path, name: bytes = b"caf\xe9.pt") -> Path:
    """A file under such a name."""
    path = odd_path(folder, name)
    path.write_bytes(source.read_bytes())
    return path
