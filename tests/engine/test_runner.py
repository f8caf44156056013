"""Jobs as real child processes; file locks prove that all their processes ended."""

from __future__ import annotations

import asyncio
import fcntl
import os
import signal
from pathlib import Path

import pytest

from tui_pruner.domain import errors
from tui_pruner.engine import processes
from tui_pruner.engine.client import Job
from tui_pruner.engine.messages import Message
from tui_pruner.engine.processes import start_python
from tui_pruner.storage import paths

PRELUDE = """
import fcntl, json, os, signal, subprocess, sys
scratch = sys.argv[1]
def say(**message): print(json.dumps(message), flush=True)
def hold(path):
    stream = open(path, "w")
    fcntl.flock(stream, fcntl.LOCK_EX)
    return stream
HOLDER = (
    "import fcntl, signal, sys; stream = open(sys.argv[1], 'w'); fcntl.flock(stream, fcntl.LOCK_EX);"
    "sys.stderr.write('held'); sys.stderr.close(); signal.pause()"
)
def spawn_holder(path, **options):
    child = subprocess.Popen([sys.executable, "-c", HOLDER, path], stderr=subprocess.PIPE, **options)
    assert child.stderr.read(4) == b"held"
    return child
"""


class Parameters(Message):
    lock: str = ""


@pytest.fixture(autouse=True)
def own_state(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))


def child(script: str):
    async def start(kind: str, scratch: str, log: Path | None) -> asyncio.subprocess.Process:
        return await start_python("-c", PRELUDE + script, scratch, log=log)

    return start


def job(script: str, on_progress=lambda progress: None, **parameters) -> Job:
    return Job("validate", Parameters(**parameters), on_progress, start=child(script))


def wait_until_free(lock: Path) -> None:
    """Returns when no one holds the lock; an orphan makes the test run into its time limit."""
    with lock.open("w") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)


def held(lock: Path) -> bool:
    with lock.open("w") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


HANGING = """
path = json.loads(sys.stdin.readline())["lock"]
mine, other = hold(path + ".child"), spawn_holder(path + ".grandchild")
open(os.path.join(scratch, "leftover"), "w").close()
say(progress={"done": 1, "total": 2})
signal.pause()
"""


class Hanging:
    """A job that reported once and will never answer, with a child of its own."""

    def __init__(self, folder: Path) -> None:
        self.locks = [folder / "lock.child", folder / "lock.grandchild"]
        self.reported = asyncio.Event()
        self.job = job(HANGING, lambda progress: self.reported.set(), lock=str(folder / "lock"))

    async def start(self) -> asyncio.Task:
        task = asyncio.create_task(self.job.run())
        await self.reported.wait()
        assert all(map(held, self.locks))
        return task

    def assert_all_dead(self) -> None:
        for lock in self.locks:
            wait_until_free(lock)


def scratch_folders(tmp_path: Path) -> list[Path]:
    return list(tmp_path.glob("tui-pruner-job-*"))


async def test_progress_arrives_in_order_before_the_result(tmp_path):
    seen = []
    script = """
for done in range(3): say(progress={"done": done, "total": 2, "doing": "counting"})
say(result={"echo": json.loads(sys.stdin.readline())["lock"]})
"""
    assert await job(script, seen.append, lock="here").run() == {"echo": "here"}
    assert [(progress.done, progress.total, progress.doing) for progress in seen] == [(n, 2, "counting") for n in range(3)]
    assert scratch_folders(tmp_path) == []


async def test_invalid_lines_are_skipped():
    seen = []
    script = """
for line in ("hello", "123", "null", "[1]", "{", '{"progress": 3}', '{"progress": {"done": "x"}}', "[" * 100000, ""):
    print(line, flush=True)
sys.stdout.buffer.write(bytes(range(128, 256)) + b"\\n")
say(progress={"done": 1, "total": 1})
say(result={"ok": True})
"""
    assert await job(script, seen.append).run() == {"ok": True}
    assert [progress.done for progress in seen] == [1]


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ("sys.exit(7)", "validate ended with status 7 without a result"),
        ("print('almost'); sys.exit(0)", "validate ended with status 0 without a result"),
        ("os.kill(os.getpid(), signal.SIGSEGV)", "validate was killed by SIGSEGV without a result"),
        ("os.kill(os.getpid(), signal.SIGKILL)", r"validate was killed by SIGKILL \(out of memory\?\) without a result"),
        ("say(error='no view')", "validate failed and did not say why"),
        ("say(error={'kind': 'DataError'})", "validate failed and did not say why"),
    ],
)
async def test_crash_without_a_result_is_reported_with_cause_and_log(script, words):
    with pytest.raises(errors.JobError, match=words) as caught:
        await job(script).run()
    assert str(paths.log_file()) in str(caught.value)


@pytest.mark.parametrize(
    ("kind", "raised"),
    [("DataError", errors.DataError), ("JobError", errors.JobError), ("NoSuchError", errors.JobError), ("annotations", errors.JobError)],
)
async def test_error_reported_by_the_job_is_raised_even_if_it_never_read_its_parameters(kind, raised):
    with pytest.raises(raised, match=r"^the data is bad$") as caught:
        await job(f"os.close(0); say(error={{'kind': '{kind}', 'message': 'the data is bad'}}); sys.exit(3)").run()
    assert type(caught.value) is raised


async def test_stderr_of_the_child_is_in_the_log():
    await job("sys.stderr.write('a library speaks'); sys.stderr.flush(); say(result={})").run()
    assert "a library speaks" in paths.log_file().read_text()


async def test_job_with_its_own_log_writes_there_and_names_it(tmp_path):
    log = tmp_path / "own" / "job.log"
    dying = "sys.stderr.write(os.environ['TUI_PRUNER_LOG']); sys.stderr.flush(); sys.exit(7)"
    with pytest.raises(errors.JobError, match="status 7 without a result") as caught:
        await Job("validate", Parameters(), lambda progress: None, start=child(dying), log=log).run()
    assert str(caught.value).endswith(f"; see {log}") and log.read_text() == str(log)
    assert not paths.log_file().exists()


async def test_cancel_ends_an_unresponsive_job_with_its_children(tmp_path):
    hanging = Hanging(tmp_path)
    task = await hanging.start()
    hanging.job.cancel()
    with pytest.raises(errors.Cancelled, match="validate was cancelled"):
        await task
    hanging.assert_all_dead()
    assert scratch_folders(tmp_path) == []


async def test_cancelling_the_awaiting_task_ends_the_job_with_its_children(tmp_path):
    hanging = Hanging(tmp_path)
    task = await hanging.start()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    hanging.assert_all_dead()
    assert scratch_folders(tmp_path) == []


def test_closing_the_loop_under_a_job_ends_it_with_its_children(tmp_path):
    async def leave() -> Hanging:
        hanging = Hanging(tmp_path)
        hanging.kept = await hanging.start()
        return hanging

    asyncio.run(leave()).assert_all_dead()
    assert scratch_folders(tmp_path) == []


async def test_exception_in_the_progress_handler_ends_the_job(tmp_path):
    def fail(progress):
        raise ValueError("the handler failed")

    with pytest.raises(ValueError, match="the handler failed"):
        await job(HANGING, fail, lock=str(tmp_path / "lock")).run()
    wait_until_free(tmp_path / "lock.child")
    wait_until_free(tmp_path / "lock.grandchild")


async def test_orphans_of_a_crashed_child_are_ended(tmp_path):
    lock = tmp_path / "lock"
    with pytest.raises(errors.JobError, match="status 5"):
        await job(f"spawn_holder({str(lock)!r}, stdout=subprocess.DEVNULL); os._exit(5)").run()
    wait_until_free(lock)


async def test_crashed_child_is_noticed_though_an_escaped_process_holds_its_stdout(tmp_path):
    escaped = []
    script = f"""
child = spawn_holder({str(tmp_path / "lock")!r}, start_new_session=True)
say(progress={{"done": child.pid, "total": 0}})
os._exit(5)
"""
    with pytest.raises(errors.JobError, match="ended with status 5"):
        await job(script, lambda progress: escaped.append(progress.done)).run()
    assert held(tmp_path / "lock")
    os.kill(escaped[0], signal.SIGKILL)


async def test_line_above_the_length_limit_ends_the_job_with_an_error(monkeypatch):
    monkeypatch.setattr(processes, "LONGEST_LINE", 1000)
    with pytest.raises(errors.JobError, match="without a result"):
        await job("print('x' * 5000, flush=True); say(result={})").run()


async def test_job_that_closes_its_stdout_is_not_reported_as_out_of_memory(monkeypatch):
    monkeypatch.setattr(processes, "LAST_MOMENT", 0.1)
    with pytest.raises(errors.JobError, match="validate stopped answering and was ended without a result"):
        await job("os.close(1); signal.pause()").run()


async def test_job_stopped_before_any_result_counts_as_cancelled():
    early = job("say(progress={'done': 1, 'total': 2}); signal.pause()", lambda progress: early.stop())
    with pytest.raises(errors.Cancelled, match="validate was ended before it had a result"):
        await early.run()


async def test_job_cancelled_before_or_during_its_start_does_not_run(tmp_path):
    early = job("say(result={})")
    early.cancel()
    with pytest.raises(errors.Cancelled):
        await early.run()

    async def start(kind, scratch, log):
        process = await child(HANGING)(kind, scratch, log)
        starting.cancel()
        return process

    starting = Job("validate", Parameters(lock=str(tmp_path / "lock")), lambda progress: None, start=start)
    with pytest.raises(errors.Cancelled):
        await starting.run()


async def test_result_that_arrives_after_a_cancel_is_dropped():
    finished = job("say(progress={'done': 1, 'total': 1}); say(result={})", lambda progress: finished.cancel())
    with pytest.raises(errors.Cancelled):
        await finished.run()


async def test_child_that_cannot_be_started_is_a_job_error():
    async def start(kind, scratch, log):
        raise BlockingIOError(11, "Resource temporarily unavailable")

    with pytest.raises(errors.JobError, match=r"could not be started: .*temporarily unavailable"):
        await Job("validate", Parameters(), lambda progress: None, start=start).run()


async def test_unwritable_log_does_not_stop_a_job(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "file"))
    assert await job("sys.stderr.write('lost'); say(result={'ok': 1})").run() == {"ok": 1}


async def test_jobs_run_and_are_cancelled_inside_a_textual_app(tmp_path):
    from textual.app import App

    app = App()
    async with app.run_test() as pilot:
        hanging = Hanging(tmp_path)
        task = await hanging.start()
        assert await job("say(result={'answer': 42})").run() == {"answer": 42}
        hanging.job.cancel()
        with pytest.raises(errors.Cancelled):
            await task
        await pilot.pause()
        assert app.is_running
    hanging.assert_all_dead()


async def test_real_job_refuses_bad_data_in_one_line(tmp_path):
    from tui_pruner.engine.job_messages import ValidationParameters

    parameters = ValidationParameters(checkpoint="none.pt", sha256="0", data=str(tmp_path / "none.yaml"), imgsz=64)
    with pytest.raises(errors.DataError, match=r"no data yaml .*none\.yaml"):
        await Job("validate", parameters, lambda progress: None).run()
