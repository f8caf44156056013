"""What to open and how to measure it, and the kept sessions that the start screen offers."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tui_pruner.domain.formatting import plural
from tui_pruner.storage import paths

if TYPE_CHECKING:
    from tui_pruner.domain.lineage import Stage
    from tui_pruner.storage.sessions import SavedSession


@dataclass(frozen=True)
class Opening:
    """A checkpoint with the settings that it is opened and validated with; `lineage`: the stages of the session that it follows."""

    model: str
    imgsz: int | None = None
    classes: int | None = None
    data: str | None = None
    images: int | None = 64
    device: str = ""
    plan: dict[str, Any] | None = None
    saved: SavedSession | None = None
    lineage: tuple[Stage, ...] = ()

    def resuming(self, saved: SavedSession) -> Opening:
        """The same, to resume a kept session."""
        return replace(self, saved=saved)

    @classmethod
    def of(cls, saved: SavedSession) -> Opening:
        """How a kept session was opened."""
        return cls(saved.model, saved.imgsz, saved.classes, saved.data, saved.images, saved.device, saved=saved)

    @property
    def name(self) -> str:
        """The file's name."""
        return Path(self.model).name

    @property
    def output(self) -> Path:
        """Where the pruned model goes unless the user says otherwise: best-pruned.pt beside best.pt; for the demo, the current folder."""
        path = Path(self.model)
        is_ours = path.suffix != ".pt" or path.parent == paths.demo_folder()
        folder = Path() if is_ours else path.parent
        return folder / f"{path.stem}-pruned.pt"

    @property
    def masked_file(self) -> Path:
        """Where the masked model goes unless the user says otherwise: beside the pruned model."""
        return self.output.with_name(f"{Path(self.model).stem}-masked.pt")

    @property
    def recovered_file(self) -> Path:
        """Where a recovered model goes unless the user says otherwise: beside the pruned model."""
        return self.output.with_name(f"{Path(self.model).stem}-recovered.pt")

    @property
    def report_file(self) -> Path:
        """Where the report goes unless the user says otherwise: beside the pruned model."""
        return self.output.with_name(f"{Path(self.model).stem}-report.html")

    @property
    def plan_file(self) -> Path:
        """Where the plan goes unless the user says otherwise: beside the pruned model."""
        return self.output.with_name(f"{Path(self.model).stem}-plan.yaml")


@dataclass(frozen=True)
class Unfinished:
    """A session that was kept on disk: what to open, what it is, and when it was left (seconds since 1970)."""

    opening: Opening
    title: str
    left: float


def unfinished_sessions(most: int = 3) -> list[Unfinished]:
    """The sessions that can be resumed, since no other window has them, the newest first."""
    if not any(paths.sessions_folder().glob("*.jsonl")):
        return []
    from tui_pruner.storage.sessions import sessions

    free = [session for session in sessions() if session.worth_keeping and not session.running]
    return [Unfinished(Opening.of(session), _title(session), session.saved_at) for session in free[:most]]


def _title(session: SavedSession) -> str:
    asked = f", {plural(len(session.asked), 'ratio')} not applied" if session.asked else ""
    return f"{Path(session.model).name}: {plural(session.steps, 'step')}{asked}"
