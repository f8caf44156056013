"""Checkpoints that are near: in this folder, and where Ultralytics leaves its training runs."""

from __future__ import annotations

from pathlib import Path

PATTERNS = ("*.pt", "weights/*.pt", "runs/*/*/weights/best.pt", "runs/*/weights/best.pt")


def checkpoints_near(folder: Path, most: int = 12) -> list[Path]:
    """The newest checkpoints below a folder, relative to it, without searching it whole."""
    found = {path for pattern in PATTERNS for path in folder.glob(pattern) if path.is_file()}
    newest = sorted(found, key=lambda path: path.stat().st_mtime, reverse=True)
    return [path.relative_to(folder) for path in newest[:most]]
