"""What the start screen offers to go on with."""

from __future__ import annotations

from dataclasses import dataclass

from textual.message import Message

from tui_pruner.tui.opening import Opening


@dataclass(frozen=True)
class Unfinished:
    """A session that was left with steps that are in no file: what to open, what it is, and when it was left (seconds since 1970)."""

    opening: Opening
    title: str
    left: float


def unfinished_sessions() -> list[Unfinished]:
    """The sessions to go on with, the newest first."""
    return []


class SessionChosen(Message):
    """A session to go on with was chosen."""

    def __init__(self, opening: Opening) -> None:
        self.opening = opening
        super().__init__()
