"""Kept sessions: written whole, found again, not taken from a living process, and damaged ones left alone."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tui_pruner import places, sessions
from tui_pruner.errors import PlanError
from tui_pruner.sessions import MOST, SavedSession, dropped_session, keep, new_id, session_to_resume

STEP = {"name": "", "cuts": []}


@pytest.fixture(scope="module")
def dead() -> int:
    """The number of a process that has ended."""
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    return child.pid


def session(process: int, model: str = "/models/best.pt", **more) -> SavedSession:
    return SavedSession(id=new_id(model), process=process, model=model, **{"plan": {"steps": [STEP]}, "steps": 1, **more})


def test_the_newest_session_comes_back_as_it_was(dead: int):
    first, second = session(dead), session(dead, asked={"model.5": "30%"}, marks=["model.6"], metrics={"": 0.5}, round_to=8)
    keep(first)
    keep(second)
    found = session_to_resume()
    assert found.model_copy(update={"saved_at": 0.0}) == second
    assert session_to_resume(first.id).id == first.id
    assert [kept.id for kept in sessions.sessions()] == [second.id, first.id]


def test_a_session_that_is_open_elsewhere_is_not_taken(dead: int):
    keep(session(os.getpid()))
    with pytest.raises(PlanError, match="no session to resume"):
        session_to_resume()
    with pytest.raises(PlanError, match="no session begins with 'nothing'"):
        session_to_resume("nothing")


def test_only_what_was_not_left_on_purpose_is_offered(dead: int):
    keep(session(dead))
    assert dropped_session("/models/best.pt") is not None
    assert dropped_session("/models/other.pt") is None
    keep(session(dead, left=True))
    assert dropped_session("/models/best.pt") is None


def test_nothing_worth_keeping_leaves_no_file(dead: int):
    kept = session(dead)
    keep(kept)
    keep(kept.model_copy(update={"plan": {"steps": []}, "steps": 0}))
    assert sessions.sessions() == []


def test_damaged_files_are_passed_over_and_old_ones_go(dead: int):
    for _ in range(MOST + 3):
        keep(session(dead))
    assert len(list(places.sessions_folder().glob("*.json"))) == MOST
    keep(session(dead))
    for file, content in zip(places.sessions_folder().glob("*.json"), [b"", b"{", b'{"format": 9}', b"\xff"], strict=False):
        file.write_bytes(content)
    assert len(sessions.sessions()) == MOST - 4
