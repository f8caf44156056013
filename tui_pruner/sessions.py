"""Sessions kept on disk while one works, so that a dropped line or a kill costs nothing: what is open, its steps, marks and results."""

from __future__ import annotations

import contextlib
import os
import secrets
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from tui_pruner import places
from tui_pruner.errors import PlanError
from tui_pruner.whole_file import replace_file

FORMAT = 1
MOST = 40


class SavedSession(BaseModel):
    """All that the interface needs to go on: `plan` holds every step, of which the first `steps` count; `asked` is by layer.

    `metrics` is by the plans' keys (`tui/scores.py`). `process` is whose it is while that one lives; `left`: the user quit by a key.
    """

    model_config = ConfigDict(extra="forbid")

    format: int = FORMAT
    id: str
    saved_at: float = 0.0
    process: int
    left: bool = False
    model: str
    imgsz: int | None = None
    classes: int | None = None
    data: str | None = None
    images: int | None = None
    device: str = ""
    plan: dict[str, Any]
    steps: int
    unsaved: bool = False
    asked: dict[str, str] = {}
    criterion: str = "l2"
    round_to: int = 1
    marks: list[str] = []
    cursor: str = ""
    metric: str = "mAP"
    metrics: dict[str, float] = Field(default={})

    @property
    def worth_keeping(self) -> bool:
        """Whether anything would be lost without it."""
        return bool(self.plan["steps"] or self.asked or self.marks)

    @property
    def running(self) -> bool:
        """Whether the process that it belongs to is alive."""
        try:
            os.kill(self.process, 0)
        except ProcessLookupError:
            return False
        except PermissionError:
            return True
        return True


def new_id(model: str) -> str:
    """A name for a session of a model that no other has."""
    return f"{time.strftime('%Y%m%d-%H%M%S')}-{Path(model).stem}-{secrets.token_hex(2)}"


def keep(session: SavedSession) -> None:
    """Write a session, whole or not at all; one that is worth nothing leaves no file.

    Raises:
        OSError: it cannot be written.
    """
    file = places.sessions_folder() / f"{session.id}.json"
    if not session.worth_keeping:
        file.unlink(missing_ok=True)
        return
    first = not file.exists()
    replace_file(file, session.model_copy(update={"saved_at": time.time()}).model_dump_json().encode())
    if first:
        _drop_oldest()


def sessions() -> list[SavedSession]:
    """All that can be read, the newest first."""
    return sorted(_readable(), key=lambda session: session.saved_at, reverse=True)


def session_to_resume(wanted: str = "") -> SavedSession:
    """The newest session that no living process has, or the one whose id begins so.

    Raises:
        PlanError: there is none.
    """
    free = [session for session in sessions() if not session.running and session.id.startswith(wanted)]
    if not free:
        which = f"no session begins with {wanted!r}" if wanted else "there is no session to resume"
        raise PlanError(f"{which}: tui-pruner sessions lists what is kept in {places.sessions_folder()}")
    return free[0]


def dropped_session(model: str) -> SavedSession | None:
    """The newest session of a model that ended without its user's leave, if it is the newest of this model."""
    of_model = [session for session in sessions() if session.model == model and not session.running]
    return of_model[0] if of_model and not of_model[0].left else None


def _readable() -> Iterator[SavedSession]:
    for file in places.sessions_folder().glob("*.json"):
        with contextlib.suppress(OSError, ValidationError):
            session = SavedSession.model_validate_json(file.read_bytes())
            if session.format == FORMAT:
                yield session


def _drop_oldest() -> None:
    files = sorted(places.sessions_folder().glob("*.json"), key=lambda file: file.stat().st_mtime, reverse=True)
    for file in files[MOST:]:
        with contextlib.suppress(OSError):
            file.unlink()
