"""The log: every child process appends to it, it is rotated, and it has versions but no contents of the data."""

from __future__ import annotations

from pathlib import Path

import pytest

from tui_pruner.engine import processes
from tui_pruner.engine.client import EngineClient
from tui_pruner.engine.processes import OLD_LOGS, open_log
from tui_pruner.engine.requests import Open
from tui_pruner.storage import paths


def test_long_log_is_rotated_and_the_oldest_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(processes, "LONGEST_LOG", 10)
    log = tmp_path / "a.log"
    for number in range(OLD_LOGS + 3):
        with open_log(log):
            log.write_text(f"this is the log of the start number {number}")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.log", *(f"a.log.{number}" for number in range(1, OLD_LOGS + 1))]
    assert [int((tmp_path / f"a.log.{age}").read_text().split()[-1]) for age in range(1, OLD_LOGS + 1)] == [4, 3, 2]


async def test_engine_logs_the_versions_it_runs_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    client = EngineClient(lambda event, data: None, lambda why: None)
    await client.start()
    with pytest.raises(Exception, match=r"no such file|no file exists|does not exist"):
        await client.call(Open(path=str(tmp_path / "missing.pt")))
    await client.close()
    (line,) = [line for line in paths.log_file().read_text().splitlines() if " engine: " in line]
    assert "torch " in line and "ultralytics " in line and "Python " in line
