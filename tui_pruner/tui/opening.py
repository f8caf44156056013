"""Options to open a checkpoint with, and what can be opened: kept sessions, recent checkpoints, and those nearby or in training folders."""

from __future__ import annotations

import contextlib
import json
import os
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tui_pruner.domain.formatting import plural
from tui_pruner.storage import paths
from tui_pruner.storage.atomic import replace_file
from tui_pruner.storage.model_file import ModuleNames

if TYPE_CHECKING:
    from tui_pruner.domain.lineage import Stage
    from tui_pruner.storage.sessions import KeptSessions, SavedSession


@dataclass(frozen=True)
class Opening:
    """A checkpoint, or a module by the name of what builds it, with the settings that it is opened and validated with.

    `module`: the names of a module's code; None for a file.
    `lineage`: the stages of the session that it follows; `kept`: its file's earlier sessions, read while it was loaded.
    """

    model: str
    imgsz: int | None = None
    classes: int | None = None
    data: str | None = None
    images: int | None = 64
    device: str = ""
    plan: dict[str, Any] | None = None
    saved: SavedSession | None = None
    lineage: tuple[Stage, ...] = ()
    kept: KeptSessions | None = None
    module: ModuleNames | None = None

    def resuming(self, saved: SavedSession) -> Opening:
        """The same options, to resume a kept session."""
        return replace(self, saved=saved)

    @classmethod
    def of(cls, saved: SavedSession) -> Opening:
        """The options of a kept session."""
        module = ModuleNames(**{**saved.module, "build": saved.model}) if saved.module else None
        return cls(saved.model, saved.imgsz, saved.classes, saved.data, saved.images, saved.device, saved=saved, module=module)

    @property
    def name(self) -> str:
        """The file's name, for a module that of its folder or of what builds it."""
        return Path(self.module.place if self.module else self.model).name

    @property
    def suffix(self) -> str:
        """How the names of written models end: a file of PyTorch, or the folder of a module."""
        return ".tp" if self.module else ".pt"

    @property
    def stem(self) -> str:
        """The beginning of the default names: the file's, or for package.module:build "module-build"."""
        named = self.module is not None and self.module.folder is None and ":" in self.model
        return "-".join(self.model.replace(":", ".").split(".")[-2:]) if named else Path(self.name).stem

    @property
    def output(self) -> Path:
        """The default path of the pruned model: best-pruned.pt beside best.pt; for the demo or a module in the current folder."""
        path = Path(self.model)
        is_ours = path.suffix != ".pt" or path.parent == paths.demo_folder()
        folder = Path() if is_ours else path.parent
        return folder / f"{self.stem}-pruned{self.suffix}"

    @property
    def masked_file(self) -> Path:
        """The default path of the masked model: beside the pruned model."""
        return self.output.with_name(f"{Path(self.model).stem}-masked.pt")

    @property
    def recovered_file(self) -> Path:
        """The default path of a recovered model, beside the pruned model: a free name, since an earlier file is a stage of its own."""
        first = self.output.with_name(f"{self.stem}-recovered{self.suffix}")
        others = (first.with_stem(f"{first.stem}-{number}") for number in range(2, 100))
        return first if not first.exists() else next((file for file in others if not file.exists()), first)

    @property
    def report_file(self) -> Path:
        """The default path of the report: beside the pruned model."""
        return self.output.with_name(f"{self.stem}-report.html")

    @property
    def plan_file(self) -> Path:
        """The default path of the plan: beside the pruned model."""
        return self.output.with_name(f"{self.stem}-plan.yaml")


@dataclass(frozen=True)
class Unfinished:
    """A session kept on disk: its name, its checkpoint, a description, and when it was left (seconds since 1970)."""

    id: str
    opening: Opening
    title: str
    left: float


def unfinished_sessions() -> list[Unfinished]:
    """The sessions with work that can be resumed, newest first; those open in another window are left out."""
    if not any(paths.sessions_folder().glob("*.jsonl")):
        return []
    from tui_pruner.storage.sessions import sessions

    free = [session for session in sessions() if session.is_work and not session.running]
    return [Unfinished(session.id, Opening.of(session), _title(session), session.saved_at) for session in free]


def _title(session: SavedSession) -> str:
    steps = [plural(session.steps, "step")] if session.steps or not session.asked else []
    asked = [f"{plural(len(session.asked), 'ratio')} not applied"] if session.asked else []
    return f"{Path(session.model).name}: {', '.join([*steps, *asked])}"


PATTERNS = ("*.pt", "weights/*.pt", "runs/*/*/weights/best.pt", "runs/*/weights/best.pt")
MOST = 20


@dataclass(frozen=True)
class Recent:
    """A checkpoint that was opened: its absolute path, when (seconds since 1970), and why it cannot be opened now; empty when it can."""

    path: Path
    opened: float
    problem: str = ""


def checkpoints_below(folder: Path, most: int = 12) -> list[Path]:
    """The newest checkpoints below a folder, relative to it, without a full search."""
    found = {path for pattern in PATTERNS for path in _matches(folder, pattern)}
    newest = sorted(found, key=lambda path: path.stat().st_mtime, reverse=True)
    return [path.relative_to(folder) for path in newest[:most]]


def recent_checkpoints(most: int = 6) -> list[Recent]:
    """The recently opened checkpoints, newest first; none where they are unknown."""
    found = [Recent(path, opened, _problem(path)) for path, opened in _remembered().items()]
    return sorted(found, key=lambda recent: recent.opened, reverse=True)[:most]


def remember(model: str) -> None:
    """Record that a checkpoint was opened now; if the folder cannot be written, only the record is lost."""
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
