"""What the start screen offers to go on with."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from textual.message import Message

from tui_pruner import places
from tui_pruner.tui.figures import plural
from tui_pruner.tui.opening import Opening

if TYPE_CHECKING:
    from tui_pruner.sessions import SavedSession


@dataclass(frozen=True)
class Unfinished:
    """A session that was kept on disk: what to open, what it is, and when it was left (seconds since 1970)."""

    opening: Opening
    title: str
    left: float


def unfinished_sessions(most: int = 3) -> list[Unfinished]:
    """The sessions to go on with that no other window has, the newest first."""
    if not any(places.sessions_folder().glob("*.jsonl")):
        return []
    from tui_pruner.sessions import sessions

    free = [session for session in sessions() if session.worth_keeping and not session.running]
    return [Unfinished(Opening.of(session), _title(session), session.saved_at) for session in free[:most]]


def _title(session: SavedSession) -> str:
    asked = f", {plural(len(session.asked), 'ratio')} not applied" if session.asked else ""
    return f"{Path(session.model).name}: {plural(session.steps, 'step')}{asked}"


class SessionChosen(Message):
    """A session to go on with was chosen."""

    def __init__(self, opening: Opening) -> None:
        self.opening = opening
        super().__init__()
