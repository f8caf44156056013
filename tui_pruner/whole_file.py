"""Files that are there whole or not at all, whatever ends the process that writes them."""

from __future__ import annotations

import tempfile
from pathlib import Path


def replace_file(file: Path, content: bytes) -> None:
    """Write a file in a folder that need not exist yet, whole or not at all.

    Raises:
        OSError: it cannot be written.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile("wb", dir=file.parent, suffix=".tmp", delete=False) as stream:
        try:
            stream.write(content)
            stream.close()
            Path(stream.name).replace(file)
        except OSError:
            Path(stream.name).unlink(missing_ok=True)
            raise
