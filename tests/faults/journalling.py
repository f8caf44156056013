"""A session kept step by step on a disk that fails: what was acknowledged is there after every attempt."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from unittest.mock import patch

from tests.faults.failing_disk import FailingDisk
from tui_pruner.domain.errors import PrunerError
from tui_pruner.storage import journal, paths
from tui_pruner.storage.journal import is_held, read
from tui_pruner.storage.sessions import SavedSession, SessionFile

ID = "20260101-000000-narrow-0000"
STEPS = [{"name": f"step {number}", "cuts": [{"layer": f"model.{number}", "amount": "25%"}]} for number in range(6)]
STATES = [0, 1, 2, 3, 2, 3, 4, 2, 0, 0, 1, 5, 6, 3, 2, 1]
"""How many steps there are after each action; none makes the session worth nothing, and its file goes."""
TAKEN_OVER = (3, 11)
"""Before these, another process continues it."""


class Journalling:
    """A session that grows, shrinks, is compacted, becomes worth nothing, and is taken over by another process twice."""

    name = "journal"

    def __init__(self) -> None:
        self.wrong: list[str] = []

    def prepare(self, folder: Path) -> None:
        """Nothing is there before."""
        self.wrong = []

    def attempt(self, disk: FailingDisk) -> Iterator[Exception]:
        """Keep one state after the other; gives what is refused."""
        file, acknowledged = SessionFile(ID), 0
        with patch.multiple(journal, SMALLEST_TO_COMPACT=400, GROWTH=2, BETWEEN=0.0):
            for place, steps in enumerate(STATES):
                if place in TAKEN_OVER:
                    file.close()
                    file = SessionFile(ID)
                try:
                    file.keep(session(steps))
                    acknowledged = place
                except (OSError, PrunerError) as error:
                    yield error
                with disk.paused():
                    self._look(STATES[acknowledged : place + 1], held=acknowledged == place)
            file.close()

    def look(self, folder: Path, done: bool) -> Iterator[str]:
        """What was wrong on the way."""
        yield from self.wrong

    def again(self, folder: Path) -> Iterator[str]:
        """What is wrong after the disk has recovered."""
        self._look([kept_steps()])
        for steps in (4, 5):
            file = SessionFile(ID)
            file.keep(session(steps))
            file.close()
            self._look([steps])
        yield from self.wrong
        if (names := [path.name for path in paths.sessions_folder().iterdir()]) != [f"{ID}.jsonl"]:
            yield f"the sessions' folder has {names}"

    def _look(self, allowed: list[int], held: bool = False) -> None:
        there = kept_steps()
        if there not in allowed:
            self.wrong.append(f"{allowed[0]} steps were acknowledged, {allowed[1:]} tried, {there} are there")
        if held and there and not is_held(kept_file()):
            self.wrong.append("another process could write the journal at the same time")


def session(steps: int) -> SavedSession:
    """A session of this many steps."""
    return SavedSession(id=ID, model="/models/narrow.pt", plan={"sha256": "0", "steps": STEPS[:steps]}, steps=steps)


def kept_file() -> Path:
    """Where it is kept."""
    return paths.sessions_folder() / f"{ID}.jsonl"


def kept_steps() -> int:
    """How many steps anyone who resumes it would find."""
    if not kept_file().exists() or not (state := read(kept_file()).state):
        return 0
    found = SavedSession.of_state(state)
    assert found.plan["steps"] == STEPS[: found.steps]
    return found.steps
