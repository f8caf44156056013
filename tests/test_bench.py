"""The measurements of other processes: one that ends meanwhile, and cores that are kept busy as by one job."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.bench import tracing
from tests.bench.processes import after_name, children_of, cores_used, occupied, seconds_used, with_descendants
from tests.deadlines import time_left

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="these measurements read /proc")


def runs(process: int) -> bool:
    """Whether a process exists and has not ended."""
    try:
        return after_name(Path(f"/proc/{process}"))[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_process_that_ends_during_a_measurement_does_not_stop_it():
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:

        def end() -> None:
            process.communicate(b"\n")

        assert cores_used([os.getpid(), process.pid], end) >= 0
    assert seconds_used(process.pid, 1.5) == 1.5
    with pytest.raises((FileNotFoundError, ProcessLookupError)):
        seconds_used(process.pid)


def test_cores_are_kept_busy_by_one_session_that_ends_as_a_whole():
    with occupied(3) as busy:
        assert len(busy) == 3 and {os.getsid(process) for process in busy} == {busy[0]} != {os.getsid(0)}
        assert sorted(with_descendants(busy)) == sorted(busy), "none is counted twice"
        fine = [os.getpriority(os.PRIO_PROCESS, process) for process in busy]
        assert min(fine) > os.getpriority(os.PRIO_PROCESS, 0) or min(fine) == 19
    assert busy[0] not in children_of(os.getpid())
    started = time.monotonic()
    while any(map(runs, busy)) and time_left(started) > 0:
        time.sleep(0.01)
    assert not any(map(runs, busy))
    with occupied(0) as busy:
        assert busy == []


def test_libraries_that_are_not_installed_are_named(monkeypatch, capsys):
    monkeypatch.setattr(tracing, "MODULES", {"no_such_library": {"network": 224}})
    monkeypatch.setattr(tracing, "ROUNDS", {})
    monkeypatch.setattr(tracing, "ALONE", {})
    assert tracing.figures() == []
    assert capsys.readouterr().err == "no_such_library is not installed: none of its networks is traced\n"
