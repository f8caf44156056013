"""Saved sessions: restored unchanged, not taken from a running process, and read up to the damage where damaged."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from pydantic import ValidationError

from tui_pruner.domain.errors import PlanError
from tui_pruner.domain.results import FIGURES
from tui_pruner.storage import paths, sessions
from tui_pruner.storage.sessions import MOST, SavedSession, SessionFile, new_id, session_to_resume

STEP = {"name": "", "cuts": []}
HOLDS = """
import sys
from tui_pruner.storage.sessions import SavedSession, SessionFile
session = SavedSession.model_validate_json(sys.argv[1])
SessionFile(session.id).keep(session)
print("held", flush=True)
sys.stdin.read()
"""


def last_session(model: str, sha256: str) -> SavedSession | None:
    return next(iter(sessions.sessions_of(model, sha256)), None)


def session(model: str = "/models/best.pt", **more) -> SavedSession:
    return SavedSession(id=new_id(model), model=model, **{"plan": {"sha256": "0", "steps": [STEP]}, "steps": 1, **more})


def keep(kept: SavedSession) -> None:
    """As a process that has ended since."""
    file = SessionFile(kept.id)
    file.keep(kept)
    file.close()


@dataclass(frozen=True)
class Held:
    """A session that another process has."""

    session: SavedSession
    process: subprocess.Popen[bytes]

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


@pytest.fixture
def held() -> Iterator[Held]:
    kept = session()
    with subprocess.Popen([sys.executable, "-c", HOLDS, kept.model_dump_json()], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None and child.stdout.readline() == b"held\n"
        yield Held(kept, child)
        child.kill()


def test_newest_session_is_restored_unchanged():
    first, second = session(), session(asked={"model.5": "30%"}, marks=["model.6"], metrics={"": 0.5}, round_to=8)
    keep(first)
    keep(second)
    found = session_to_resume()
    assert found.model_copy(update={"saved_at": 0.0}) == second
    assert session_to_resume(first.id).id == first.id
    assert [kept.id for kept in sessions.sessions()] == [second.id, first.id]


def test_session_is_resumed_from_any_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    for name in ("best.pt", "data.yaml", "refitted.pt"):
        (tmp_path / name).touch()
    stage = {
        "id": "file:refitted.pt",
        "parent": "",
        "kind": "reconstruct",
        "title": "refitted.pt",
        "path": "refitted.pt",
        "data": "data.yaml",
    }
    (tmp_path / "data.yaml").write_text("val: images/val\nnames: [a]\n")
    (tmp_path / "images" / "val").mkdir(parents=True)
    (tmp_path / "images" / "val" / "1.jpg").touch()
    monkeypatch.chdir(tmp_path)
    status = sessions.status_of_data("data.yaml")
    measured = {"refits": {"": (0.1, 0.02)}, "metrics": {"": 0.5}, "scan": {"data": "data.yaml"}}
    kept = session("best.pt", data="data.yaml", lineage=[stage], **measured)
    keep(kept)
    assert session_to_resume().model_copy(update={"saved_at": 0.0}) == kept, "in the same folder as it was"
    assert last_session(str(tmp_path / "best.pt"), "0") is not None
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    found = session_to_resume()
    assert (found.model, found.data) == (str(tmp_path / "best.pt"), str(tmp_path / "data.yaml"))
    assert (found.lineage[0]["path"], found.lineage[0]["data"]) == (str(tmp_path / "refitted.pt"), found.data)
    assert found.refits == {"": (0.1, 0.02)} and found.scan == {"data": found.data}
    assert sessions.status_of_data(found.data) == status != "", "its metrics are still those of this data"
    kept = session("yolov8n.yaml")
    keep(kept)
    assert session_to_resume().model == "yolov8n.yaml", "the name of an architecture is no path"


def test_paths_of_a_session_stored_elsewhere_never_lead_to_other_files_of_the_same_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    here, there = tmp_path / "here", tmp_path / "there"
    for folder in (here, there):
        folder.mkdir()
        (folder / "best.pt").write_text(folder.name)
    monkeypatch.chdir(there)
    stage = {"id": "file:best.pt", "parent": "", "kind": "reconstruct", "title": "best.pt", "path": "best.pt", "data": "coco8.yaml"}
    keep(session("best.pt", data="sets/data.yaml", lineage=[stage]))
    (there / "best.pt").unlink()
    monkeypatch.chdir(here)
    found = session_to_resume()
    assert (found.model, found.data) == (str(there / "best.pt"), str(there / "sets" / "data.yaml"))
    assert (found.lineage[0]["path"], found.lineage[0]["data"]) == (found.model, "coco8.yaml")
    assert last_session("best.pt", "0") is None


@pytest.mark.parametrize("figures", [None, FIGURES - 1, "3"])
def test_outdated_metrics_are_discarded_and_the_steps_kept(figures):
    stage = {"id": "a:", "parent": "", "kind": "finetune", "title": "a", "latency": 6.9}
    state = {
        **session(metrics={"": 0.776}, lineage=[{**stage, "metric": 0.7, "low": 0.6, "high": 0.8}]).state,
        "figures": figures,
    }
    if figures is None:
        del state["figures"]
    found = SavedSession.of_state(state)
    assert (found.metrics, found.figures, found.steps, found.lineage) == ({}, FIGURES, 1, [stage])
    assert SavedSession.of_state(session(metrics={"": 0.803}).state).metrics == {"": 0.803}


def test_session_of_a_later_version_is_read_without_its_new_keys_and_a_damaged_one_is_not():
    kept = session(marks=["model.5"])
    assert SavedSession.of_state({**kept.state, "mood": "good"}) == kept
    with pytest.raises(ValidationError):
        SavedSession.of_state({**kept.state, "marks": "model.5"})


def test_session_open_in_another_process_is_not_taken(held: Held):
    with pytest.raises(PlanError, match="no session to resume"):
        session_to_resume()
    with pytest.raises(PlanError, match=rf"is open elsewhere \(process {held.process.pid} on "):
        SessionFile(held.session.id).keep(held.session)
    with pytest.raises(PlanError, match="no session begins with 'nothing'"):
        session_to_resume("nothing")


def test_lock_of_a_dead_process_is_taken_over(held: Held):
    held.kill()
    file = SessionFile(held.session.id)
    file.keep(held.session.model_copy(update={"steps": 0, "marks": ["model.1"]}))
    (found,) = sessions.sessions()
    assert found.running and found.marks == ["model.1"] and found.steps == 0
    file.close()
    assert session_to_resume().id == held.session.id


def test_session_that_another_window_went_on_with_since_it_was_read_is_not_overwritten():
    keep(session(marks=["model.1"]))
    read = session_to_resume()
    keep(read.model_copy(update={"marks": ["model.2"]}))
    file = SessionFile(read.id, read.saved_at)
    for mark in ("model.3", "model.4"):
        file.keep(read.model_copy(update={"marks": [mark]}))
    file.close()
    ours, theirs = sessions.sessions()
    assert (ours.marks, theirs.marks) == (["model.4"], ["model.2"])
    assert ours.id == file.id != theirs.id == read.id


def test_session_that_is_continued_as_it_was_read_keeps_its_journal(held: Held):
    held.kill()
    read = session_to_resume()
    file = SessionFile(read.id, read.saved_at)
    for mark in ("model.3", "model.4"):
        file.keep(read.model_copy(update={"marks": [mark]}))
    file.close()
    (found,) = sessions.sessions()
    assert (found.id, found.marks) == (read.id, ["model.4"])


def test_last_session_has_the_same_content_and_whether_it_was_closed():
    sha256 = session().plan["sha256"]
    keep(session())
    assert not last_session("/models/best.pt", sha256).left
    assert last_session("/models/other.pt", sha256) is None
    assert last_session("/models/best.pt", "another content") is None
    keep(session(left=True))
    assert last_session("/models/best.pt", sha256).left


def test_session_is_found_by_every_path_of_its_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path / "one")
    empty = {"plan": {"sha256": "0", "steps": []}, "steps": 0}
    first = session("../other/best.pt", metrics={"": 0.5}, **empty)
    keep(first)
    for folder, model in (("one", str(tmp_path / "other" / "best.pt")), ("other", "best.pt"), ("other", "../one/../other/best.pt")):
        monkeypatch.chdir(tmp_path / folder)
        found = last_session(model, "0")
        assert found is not None and found.id == first.id, model
    assert last_session("../one/best.pt", "0") is None
    after = session("best.pt", metrics={"": 0.6}, **empty)
    keep(after)
    assert [one.id for one in sessions.sessions()] == [after.id], "older metrics of the same model, under another path"
    assert sessions.same_path(None, None) and not sessions.same_path(None, "a.yaml")


def test_figures_of_a_file_are_those_of_its_present_content(tmp_path: Path):
    file = tmp_path / "best.pt"
    file.write_bytes(b"one")
    plan = {"sha256": hashlib.sha256(b"one").hexdigest(), "steps": [STEP]}
    measured = session(str(file), plan=plan, metrics={"": 0.5})
    timed = session(f"{tmp_path}/../{tmp_path.name}/best.pt", plan=plan, latencies={"": 6.9})
    others = [
        session(str(file), plan=plan, metrics={"a step": 0.4}),
        session(str(file), metrics={"": 0.3}),
        session(str(tmp_path / "other.pt"), plan=plan, metrics={"": 0.2}),
    ]
    known = [measured, *others, timed]
    assert sessions.measured_sessions(str(file), known) == [measured, timed]
    before = file.stat()
    file.write_bytes(b"two")
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert sessions.measured_sessions(str(file), known) == []
    file.unlink()
    assert sessions.measured_sessions(str(file), known) == []


def test_sessions_of_other_models_are_not_parsed_for_one_model(monkeypatch: pytest.MonkeyPatch):
    for sha256 in ("a" * 64, "b" * 64):
        keep(session(plan={"sha256": sha256, "steps": [STEP]}))
    parsed, read = [], sessions.read
    monkeypatch.setattr(sessions, "read", lambda file: parsed.append(file) or read(file))
    found = sessions.sessions_of("/models/best.pt", "b" * 64)
    assert [one.id for one in found] == [file.stem for file in parsed] and len(parsed) == 1
    assert len(sessions.sessions()) == 2


def test_empty_session_is_deleted_and_saved_again_when_it_has_steps():
    kept = session()
    file = SessionFile(kept.id)
    file.keep(kept)
    file.keep(kept.model_copy(update={"plan": {"steps": []}, "steps": 0}))
    assert sessions.sessions() == []
    file.keep(kept)
    assert len(sessions.sessions()) == 1
    file.close()


@pytest.mark.parametrize("measured", [{"metrics": {"": 0.5}}, {"latencies": {"": 6.9}}, {"scan": {"data": "a.yaml"}}])
def test_measurements_are_kept_and_sessions_with_work_resumed_before_them(measured: dict):
    empty = {"plan": {"sha256": "0", "steps": []}, "steps": 0}
    with_steps, before, after = session(), session(**empty, metrics={"": 0.4}), session(**empty, **measured)
    keep(session(**empty))
    assert sessions.sessions() == []
    for one in (before, with_steps, after):
        keep(one)
    assert [one.id for one in sessions.sessions()] == [after.id, with_steps.id], "older metrics alone are measured again"
    assert session_to_resume().id == last_session("/models/best.pt", "0").id == with_steps.id


def test_damaged_sessions_are_read_up_to_the_damage_and_old_ones_removed():
    for _ in range(MOST + 3):
        keep(session())
    files = list(paths.sessions_folder().glob("*.jsonl"))
    assert len(files) == MOST
    for file, content in zip(files, [b"", b"{", b'{"format": 9}', b"\xff"], strict=False):
        file.write_bytes(content)
    torn = Path(files[4])
    torn.write_bytes(torn.read_bytes() + b'{"crc32":"12345678","at":[0,{"set":{"steps":9')
    found = sessions.sessions()
    assert len(found) == MOST - 4
    assert [(kept.damaged, kept.steps) for kept in found if torn.stem == kept.id] == [(1, 1)]
