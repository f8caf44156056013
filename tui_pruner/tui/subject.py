"""What every job is about: the opened checkpoint, and the data set that it is measured on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tui_pruner.engine.protocol import ModelInfo
    from tui_pruner.tui.opening import Opening


@dataclass(frozen=True)
class Source:
    """A file that a job starts from, and the SHA-256 of its content."""

    path: str
    sha256: str


@dataclass
class Subject:
    """The checkpoint, how it was opened, and the data yaml where one is known."""

    opening: Opening
    model: ModelInfo
    data: str | None

    @property
    def fields(self) -> dict[str, Any]:
        """The fields of `JobParameters`."""
        return {
            "checkpoint": self.model.path,
            "sha256": self.model.sha256,
            "data": self.data or "",
            "images": self.opening.images,
            "imgsz": self.model.imgsz,
            "device": self.opening.device,
            "classes": self.opening.classes,
        }
