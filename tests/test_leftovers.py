"""Temporary files of killed processes are removed at the next start; those of running ones are not."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tui_pruner.storage import atomic, paths
from tui_pruner.storage.atomic import checksum_of_note, remove_leftovers, removed_at_next_start, replace_file

DIES = """
import os, sys
from pathlib import Path
from tui_pruner.storage import atomic as disk, atomic as whole_file
disk.write_durably = whole_file.write_durably = lambda path, content: (path.write_bytes(content[:3]), os.kill(os.getpid(), 9))
whole_file.replace_file(Path(sys.argv[1]), b"new content")
"""


@pytest.fixture(autouse=True)
def own_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))


def test_partial_file_of_a_killed_process_is_removed_at_the_next_start(tmp_path: Path):
    target = tmp_path / "plan.yaml"
    replace_file(target, b"old content")
    assert subprocess.run([sys.executable, "-c", DIES, str(target)], check=False).returncode == -9
    (half,) = tmp_path.glob(f"{atomic.WRITING}*")
    assert half.read_bytes() == b"new"
    assert remove_leftovers() == [half]
    assert target.read_bytes() == b"old content" and [path.name for path in tmp_path.iterdir() if path.is_file()] == ["plan.yaml"]
    assert list((paths.state_folder() / "pending").iterdir()) == [] and remove_leftovers() == []


def test_files_in_use_by_a_running_process_are_not_removed(tmp_path: Path):
    with removed_at_next_start(tmp_path / "folder"):
        (tmp_path / "folder").mkdir()
        (tmp_path / "folder" / "image.jpg").write_bytes(b"1")
        found = subprocess.run(
            [sys.executable, "-c", "from tui_pruner.storage.atomic import remove_leftovers; print(len(remove_leftovers()))"],
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        assert found.stdout.strip() == "0" and (tmp_path / "folder" / "image.jpg").exists()
        shutil.rmtree(tmp_path / "folder")
    assert list((paths.state_folder() / "pending").iterdir()) == []


def test_folder_is_removed_with_its_content_and_a_link_without_its_target(tmp_path: Path):
    (tmp_path / "folder" / "inner").mkdir(parents=True)
    (tmp_path / "kept").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "kept")
    pending = paths.state_folder() / "pending"
    pending.mkdir(parents=True)
    for number, name in enumerate(("folder", "link", "never made")):
        said = os.fsencode(tmp_path / name)
        (pending / f"{number}{checksum_of_note(said)}").write_bytes(said)
    (pending / "empty").write_bytes(b"")
    assert remove_leftovers() == [tmp_path / "folder", tmp_path / "link"]
    assert not (tmp_path / "folder").exists() and not (tmp_path / "link").is_symlink() and (tmp_path / "kept").is_dir()
    assert [path.name for path in pending.iterdir()] == ["empty"], "its process may be just writing it"


def test_damaged_note_removes_nothing_and_is_deleted_when_old(tmp_path: Path):
    (tmp_path / "models").mkdir()
    pending = paths.state_folder() / "pending"
    pending.mkdir(parents=True)
    half = pending / f"0{checksum_of_note(os.fsencode(tmp_path / 'models' / '.writing-1.pt'))}"
    half.write_bytes(os.fsencode(tmp_path / "models"))
    assert remove_leftovers() == [] and half.exists()
    os.utime(half, (0, 0))
    assert remove_leftovers() == [] and not half.exists() and (tmp_path / "models").is_dir()


def test_cleanup_that_ran_out_of_time_continues_at_the_next_start(tmp_path: Path):
    with removed_at_next_start(tmp_path / "half"):
        (tmp_path / "half").write_bytes(b"1")
    assert remove_leftovers() == [tmp_path / "half"] and list((paths.state_folder() / "pending").iterdir()) == []


def test_work_continues_if_no_cleanup_note_can_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("XDG_STATE_HOME", "/dev/null")
    replace_file(tmp_path / "plan.yaml", b"content")
    assert (tmp_path / "plan.yaml").read_bytes() == b"content" and remove_leftovers() == []
