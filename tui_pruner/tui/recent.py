"""Checkpoints to choose from: those opened lately, and those near: in this folder, and where Ultralytics leaves its training runs."""

from __future__ import annotations

import contextlib
import json
import os
import time
from dataclasses import dataclass
from pathlib import Path

from tui_pruner.storage import paths
from tui_pruner.storage.atomic import replace_file

PATTERNS = ("*.pt", "weights/*.pt", "runs/*/*/weights/best.pt", "runs/*/weights/best.pt")
MOST = 20


@dataclass(frozen=True)
class Recent:
    """A checkpoint that was opened: its absolute path, when (seconds since 1970), and why it cannot be opened now; empty when it can."""

    path: Path
    opened: float
    problem: str = ""


def checkpoints_near(folder: Path, most: int = 12) -> list[Path]:
    """The newest checkpoints below a folder, relative to it, without searching it whole."""
    found = {path for pattern in PATTERNS for path in _matches(folder, pattern)}
    newest = sorted(found, key=lambda path: path.stat().st_mtime, reverse=True)
    return [path.relative_to(folder) for path in newest[:most]]


def recent_checkpoints(most: int = 6) -> list[Recent]:
    """The checkpoints opened lately, the newest first; nothing where that is not known."""
    found = [Recent(path, opened, _problem(path)) for path, opened in _remembered().items()]
    return sorted(found, key=lambda recent: recent.opened, reverse=True)[:most]


def remember(model: str) -> None:
    """Remember that a checkpoint was opened now; a folder that cannot be written costs only the memory."""
    path = Path(model)
    if not path.is_file() or path.resolve().parent == paths.demo_folder().resolve():
        return
    opened = {**_remembered(), path.resolve(): time.time()}
    newest = sorted(opened.items(), key=lambda entry: entry[1], reverse=True)[:MOST]
    content = json.dumps({str(path): when for path, when in newest}, indent=1)
    with contextlib.suppress(OSError):
        replace_file(_file(), content.encode())


def _file() -> Path:
    return paths.state_folder() / "recent.json"


def _remembered() -> dict[Path, float]:
    try:
        content = json.loads(_file().read_text(encoding="utf-8"))
        return {Path(path): float(opened) for path, opened in content.items()}
    except (OSError, ValueError, AttributeError, TypeError):
        return {}


def _problem(path: Path) -> str:
    try:
        path.stat()
    except FileNotFoundError:
        return "is gone"
    except OSError as error:
        return (error.strerror or "cannot be read").lower()
    return "" if os.access(path, os.R_OK) else "may not be read"


def _matches(folder: Path, pattern: str) -> list[Path]:
    try:
        return [path for path in folder.glob(pattern) if path.is_file()]
    except OSError:  # a folder on the way that may not be entered
        return []
