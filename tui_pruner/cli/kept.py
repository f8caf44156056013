"""`sessions`: what the app kept of earlier work."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from tui_pruner.cli.options import Json
from tui_pruner.cli.output import reserved_stdout

if TYPE_CHECKING:
    from tui_pruner.sessions import SavedSession


def sessions(as_json: Json = False) -> int:
    """The kept sessions, newest first; --resume goes on with the first that is not open, --session ID with another."""
    with reserved_stdout(as_json) as results:
        from tui_pruner.sessions import sessions as kept

        found = kept()
        results.document({"sessions": [plain(session) for session in found]})
        for session in found:
            results.line(line_of(session))
        if not found:
            results.line("none is kept")
        return 0


def plain(session: SavedSession) -> dict[str, object]:
    """A session as scripts read it."""
    return {**session.model_dump(exclude={"format", "left", "running"}), "state": state_of(session)}


def state_of(session: SavedSession) -> str:
    """Whether it is open now, was left by its user, or dropped."""
    return "open" if session.running else "left" if session.left else "dropped"


def line_of(session: SavedSession) -> str:
    """A session in one line."""
    when = time.strftime("%Y-%m-%d %H:%M", time.localtime(session.saved_at))
    work = f"{session.steps} of {len(session.plan['steps'])} steps, {len(session.asked)} ratios, {len(session.marks)} marks"
    return f"{session.id}  {when}  {state_of(session):8}{work}  {session.model}"
