"""The journal of a compression: what every finished stage came to, in the folder that it writes to."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
from pathlib import Path
from typing import Any

from tui_pruner import __version__
from tui_pruner.engine.compress_messages import CompressParameters
from tui_pruner.engine.protocol import Message
from tui_pruner.errors import OutputError
from tui_pruner.trust import fingerprint
from tui_pruner.whole_file import replace_file

FORMAT = 1
NAME = "compress.json"
NEVER_DECIDES = {"force", "device", "batch", "resume", "folder"}
"""Parameters that a result does not depend on."""


class Journal:
    """Finished stages by what they depend on; a stage counts while its file is the one that it wrote."""

    def __init__(self, folder: Path, asked: CompressParameters) -> None:
        """Go on with what the folder has.

        Raises:
            OutputError: it has another compression, or cannot be written to.
        """
        self.file = folder / NAME
        self.asked = digest("compress", asked)
        self.stages: dict[str, dict[str, Any]] = {}
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(f"the folder {folder} cannot be used: {error.strerror or error}") from None
        known = read(self.file)
        if known is None and any(folder.iterdir()) and not asked.force:
            raise OutputError(f"{folder} has files already: choose another folder or give --force")
        if known is not None and known.get("asked") != self.asked and not asked.force:
            raise OutputError(f"{folder} has another compression: choose another folder or give --force")
        if known is not None and known.get("asked") == self.asked:
            self.stages = known["stages"]
        self._write()

    def find(self, kind: str, parameters: Message) -> dict[str, Any] | None:
        """Return what a stage came to; None where it was not done, or its file is another one now."""
        found = self.stages.get(digest(kind, parameters))
        if found is None or any(sha256_of(Path(file)) != sha256 for file, sha256 in found["files"].items()):
            return None
        result: dict[str, Any] = found["result"]
        return result

    def keep(self, kind: str, parameters: Message, result: dict[str, Any]) -> None:
        """Remember what a stage came to."""
        output = result.get("output")
        files = {output: sha256_of(Path(output))} if isinstance(output, str) else {}
        self.stages[digest(kind, parameters)] = {"kind": kind, "files": files, "result": result}
        self._write()

    def _write(self) -> None:
        try:
            replace_file(self.file, json.dumps({"format": FORMAT, "asked": self.asked, "stages": self.stages}, indent=1).encode())
        except OSError as error:
            raise OutputError(f"{self.file} cannot be written: {error.strerror or error}") from None


def read(file: Path) -> dict[str, Any] | None:
    """Return a journal's content; None where there is none or it is damaged."""
    try:
        content = json.loads(file.read_bytes())
        whole = content["format"] == FORMAT and isinstance(content["asked"], str) and isinstance(content["stages"], dict)
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return dict(content) if whole else None


def digest(kind: str, parameters: Message) -> str:
    """Return what a stage is known by: all that its result depends on."""
    versions = {"program": __version__, "ultralytics": importlib.metadata.version("ultralytics")}
    parts = {"kind": kind, **versions, **parameters.model_dump(exclude=NEVER_DECIDES)}
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def sha256_of(file: Path) -> str:
    """Return a file's SHA-256; that of a folder is of its files; empty where there is nothing."""
    if file.is_dir():
        return hashlib.sha256("".join(sha256_of(inside) for inside in sorted(file.rglob("*")) if inside.is_file()).encode()).hexdigest()
    try:
        return fingerprint(file)
    except OSError:
        return ""
