from __future__ import annotations

import fcntl
import importlib
import inspect
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tui_pruner.domain.errors import DataError, JobError
from tui_pruner.engine.job_messages import ValidationParameters
from tui_pruner.engine.processes import ATTENDED, child_environment
from tui_pruner.jobs import __main__ as jobs
from tui_pruner.jobs.__main__ import explain

PARAMETERS = ValidationParameters(checkpoint="a.pt", sha256="0", data="d.yaml", imgsz=64)
MAIN = """
import sys
from tui_pruner.jobs.__main__ import Kind, main
sys.exit(main(["try", *sys.argv[1:]], {"try": Kind("job_messages.ValidationParameters", "tried", "work")}))
"""
IMPORTS = (
    "import ctypes, fcntl, os, signal, subprocess, sys, tempfile\n"
    "from pathlib import Path\n"
    "from tui_pruner.engine.job_messages import JobProgress, ValidationResult\n"
)


class Child:
    """`python -m tui_pruner.jobs` with a job function of the test's own."""

    def __init__(self, folder: Path, body: str, *arguments: str) -> None:
        lines = "".join(f"    {line}\n" for line in body.strip().splitlines())
        (folder / "tried.py").write_text(f"{IMPORTS}\ndef work(parameters, on_progress):\n{lines}")
        environment = {**child_environment(), "PYTHONPATH": str(folder)}
        self.process = subprocess.Popen(
            [sys.executable, "-c", MAIN, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment,
            start_new_session=True,
        )
        self.process.stdin.write(PARAMETERS.model_dump_json().encode() + b"\n")
        self.process.stdin.flush()

    def message(self) -> dict:
        return json.loads(self.process.stdout.readline())

    def end(self) -> tuple[list[dict], str, int]:
        """All that is left to read, with stdin open until the child ends."""
        lines, noise = self.process.stdout.read(), self.process.stderr.read()
        status = self.process.wait()
        self.process.stdin.close()
        return [json.loads(line) for line in lines.splitlines()], noise.decode(), status


def test_only_messages_reach_stdout_and_no_prints_of_python_or_native_code(tmp_path):
    body = """
print("python prints")
sys.__stdout__.write("the first stdout\\n"); sys.__stdout__.flush()
os.write(1, b"native code writes\\n")
ctypes.CDLL(None).puts(b"libc puts"); ctypes.CDLL(None).fflush(None)
subprocess.run(["echo", "a child echoes"])
on_progress(JobProgress(done=1, total=1))
return ValidationResult(metrics={}, images=1, seconds=0.5)
"""
    messages, noise, status = Child(tmp_path, body).end()
    assert [next(iter(message)) for message in messages] == ["progress", "result"]
    assert messages[1]["result"]["seconds"] == 0.5
    assert status == 0
    for words in ("python prints", "the first stdout", "native code writes", "libc puts", "a child echoes"):
        assert words in noise


@pytest.mark.parametrize(
    ("body", "kind", "words"),
    [
        ("from tui_pruner.domain.errors import DataError; raise DataError('the data is bad')", "DataError", "the data is bad"),
        ("raise ZeroDivisionError('first line\\nsecond line')", "JobError", "ZeroDivisionError: first line; the traceback is in "),
        ("raise MemoryError", "JobError", "not enough memory"),
        ("sys.exit('gave up')", "JobError", "SystemExit: gave up; the traceback is in "),
        ("import module_that_is_not_there", "JobError", "ModuleNotFoundError: No module named"),
    ],
)
def test_failure_is_one_line_with_its_traceback_in_the_log(tmp_path, body, kind, words):
    (message,), noise, status = Child(tmp_path, body).end()
    assert message["error"]["kind"] == kind
    assert words in message["error"]["message"] and "\n" not in message["error"]["message"]
    assert "Traceback" in noise
    assert status == 3


def test_unknown_kind_and_unreadable_parameters_are_job_errors():
    for arguments, line, words in (
        (["dance"], "{}", "no job 'dance'; the jobs are validate"),
        (["validate"], "{", "ValidationError"),
    ):
        command = [sys.executable, "-m", "tui_pruner.jobs", *arguments]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
            process.stdin.write(line.encode() + b"\n")
            process.stdin.flush()
            message = json.loads(process.stdout.readline())
            assert process.wait() == 3
        assert message["error"]["kind"] == "JobError"
        assert words in message["error"]["message"]


def test_job_ends_with_its_children_and_temporary_files_when_stdin_closes(tmp_path):
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    lock = tmp_path / "lock"
    body = f"""
holder = "import fcntl, signal; f = open({str(lock)!r}, 'w'); fcntl.flock(f, fcntl.LOCK_EX); print('held', flush=True); signal.pause()"
child = subprocess.Popen([sys.executable, "-c", holder], stdout=subprocess.PIPE)
child.stdout.readline()
leftover = tempfile.mkdtemp()
on_progress(JobProgress(done=1, total=2, doing=leftover))
signal.pause()
"""
    child = Child(tmp_path, body, str(scratch))
    leftover = Path(child.message()["progress"]["doing"])
    assert leftover.parent == scratch and leftover.is_dir()
    child.process.stdin.close()
    assert child.process.wait() != 0
    with lock.open("w") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
    assert not scratch.exists()
    child.process.stdout.close()
    child.process.stderr.close()


def test_log_has_the_job_its_progress_and_its_end_but_no_other_duration_than_the_list(tmp_path):
    body = """
for done in (0, 16, 16):
    on_progress(JobProgress(done=done, total=64, doing="validating", metrics={"metrics/mAP50(B)": 0.5, "fitness": 0.1} if done else {}))
return ValidationResult(metrics={}, images=64, seconds=0.5)
"""
    _, noise, _ = Child(tmp_path, body).end()
    lines = [re.sub(r"^\d\d:\d\d:\d\d ", "", line) for line in noise.splitlines()]
    assert re.match(r"\d{4}-\d\d-\d\d tui-pruner .*, torch \d.*, Python 3", lines[0])
    assert lines[1] == "try: checkpoint a.pt, sha256 0, data d.yaml, images 64, imgsz 64, seed 0, masked False"
    assert lines[2:4] == ["validating 0/64", "validating 16/64: mAP50(B) 0.500"]
    assert lines[4:] == ["done"]


def test_log_of_a_recipe_leaves_counting_to_the_jobs_of_its_stages(tmp_path):
    body = """
on_progress(JobProgress(done=0, total=0, doing="plan", stage="target"))
on_progress(JobProgress(done=3, total=9, doing="plan: measuring", stage="target"))
on_progress(JobProgress(done=0, total=0, doing="plan: done", stage="target"))
return ValidationResult(metrics={}, images=64, seconds=0.5)
"""
    _, noise, _ = Child(tmp_path, body).end()
    assert [line[9:] for line in noise.splitlines()][2:] == ["plan", "plan: done", "done"]


@pytest.mark.parametrize("attended", [False, True])
def test_jobs_run_at_lower_priority_than_the_app(attended: bool, tmp_path, monkeypatch):
    monkeypatch.delenv(ATTENDED, raising=False)
    if attended:
        monkeypatch.setenv(ATTENDED, "1")
    body = """
file = Path("/proc/self/autogroup")
session = float(file.read_text().rpartition(" ")[2]) if file.exists() else -1
policy = os.sched_getscheduler(0) if hasattr(os, "sched_getscheduler") else -1
return ValidationResult(metrics={"nice": os.nice(0), "session": session, "policy": policy}, images=1, seconds=0)
"""
    (message,), _, _ = Child(tmp_path, body).end()
    found = message["result"]["metrics"]
    assert found["nice"] == os.nice(0) + 5
    if hasattr(os, "SCHED_BATCH"):
        assert found["policy"] == (os.SCHED_BATCH if attended else os.SCHED_OTHER)
    if found["session"] >= 0 and os.getuid() == 0:  # the kernel takes it from other users ten times a second at most
        assert found["session"] == (5 if attended else 0)


def test_job_does_not_change_the_priority_of_a_shells_session(monkeypatch, tmp_path):
    file = tmp_path / "autogroup"
    monkeypatch.setattr(jobs, "AUTOGROUP", file)
    for leader, written in ((os.getpid() + 1, False), (os.getpid(), True)):
        monkeypatch.setattr(os, "getsid", lambda process, leader=leader: leader)
        monkeypatch.setattr(os, "nice", lambda steps: steps)
        monkeypatch.setattr(os, "sched_setscheduler", lambda *how: None, raising=False)
        jobs.lower_priority(to_keys=True)
        assert file.exists() is written
    assert file.read_text() == "5"


def test_out_of_memory_is_recognised_from_python_cuda_and_the_cpu_allocator():
    import torch

    allocator = RuntimeError(
        "[enforce fail at alloc_cpu.cpp:114] DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes"
    )
    for error in (MemoryError(), torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"), allocator):
        assert str(explain(error)).startswith("not enough memory for this job")
    assert type(explain(RuntimeError("shape"))) is JobError
    bad = DataError("bad")
    assert explain(bad) is bad


def test_bad_yaml_is_refused_without_loading_torch(tmp_path):
    script = """
import sys
from tui_pruner.jobs.data.dataset import read_data
from tui_pruner.jobs.validate import run_validation
from tui_pruner.domain.errors import DataError
try:
    read_data(sys.argv[1])
except DataError:
    print([name for name in ("torch", "ultralytics", "textual") if name in sys.modules])
"""
    found = subprocess.run([sys.executable, "-c", script, str(tmp_path / "none.yaml")], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


@pytest.mark.parametrize("kind", jobs.KINDS)
def test_every_kind_of_job_names_its_parameters_and_its_function(kind):
    named = jobs.KINDS[kind]
    function = getattr(importlib.import_module(named.module), named.function)
    assert inspect.signature(function).parameters["parameters"].annotation == named.parameters.__name__
