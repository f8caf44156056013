"""The queue: real child processes one after another, each with its own log, also where some of them fail."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import signal
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.deadlines import LOOK_EVERY, time_left
from tests.tui.scripted_jobs import held, start_script, wait_until_free, wanted
from tui_pruner.domain.errors import DataError, JobError, RequestError
from tui_pruner.storage import paths
from tui_pruner.tui import job_queue
from tui_pruner.tui.job_queue import JobQueue
from tui_pruner.tui.messages import JobsChanged
from tui_pruner.tui.panes.jobs import Activity, running_line


@pytest.fixture(autouse=True)
def own_state(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))


class Listener:
    """What the queue told, and a way to wait for a state."""

    def __init__(self) -> None:
        self.ended: list[str] = []
        self._news = asyncio.Event()
        self.queue = JobQueue(self, start_script)  # type: ignore[arg-type]

    def post_message(self, message: JobsChanged) -> bool:
        if message.ended is not None:
            self.ended.append(f"{message.ended.spec.title} {message.ended.state}")
        self._news.set()
        return True

    async def until(self, reached: Callable[[], bool]) -> None:
        """Let the queue work; a job's progress is not a news, so that it is looked at now and then."""
        started = time.monotonic()
        while not reached():
            assert time_left(started) > 0, f"the jobs are {self.states}"
            self._news.clear()
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._news.wait(), timeout=LOOK_EVERY)

    @property
    def states(self) -> list[str]:
        return [job.state for job in self.queue.jobs]


@pytest.fixture
async def listener():
    listener = Listener()
    yield listener
    listener.queue.close()
    await listener.until(lambda: not listener.queue.busy)


async def test_jobs_run_one_at_a_time_in_order(listener):
    taken: list[Any] = []
    queue = listener.queue
    assert all(queue.add(wanted("quick", title, taken=taken)) for title in ("first", "second", "third"))
    assert listener.states == ["waiting"] * 3 and [queue.before(job) for job in queue.jobs] == [0, 1, 2]
    await listener.until(lambda: not queue.busy)
    assert taken == [("first", 42), ("second", 42), ("third", 42)]
    assert listener.ended == ["first done", "second done", "third done"]
    assert [job.outcome.figure for job in queue.jobs] == ["the answer is 42"] * 3
    spans = [(job.started, job.ended) for job in queue.jobs]
    assert all(ended <= started for (_, ended), (started, _) in itertools.pairwise(spans))
    assert all(job.elapsed(1e9) == job.ended - job.started > 0 for job in queue.jobs)


async def test_same_job_is_queued_again_only_after_it_ended(listener):
    queue = listener.queue
    assert queue.add(wanted("hang", "one")) and queue.add(wanted("quick", "two"))
    assert not queue.add(wanted("hang", "one")) and not queue.add(wanted("quick", "two"))
    assert queue.add(wanted("quick", "two", data="other.yaml"))
    assert not queue.again(queue.jobs[0])
    await listener.until(lambda: queue.running is not None)
    assert queue.cancel()
    await listener.until(lambda: not queue.busy)
    assert queue.again(queue.jobs[1])
    await listener.until(lambda: not queue.busy)
    assert listener.states == ["cancelled", "done", "done", "done"]


async def test_jobs_about_different_content_have_different_names(listener):
    queue = listener.queue
    for key in ("one", "two", "three", "two"):
        queue.add(replace(wanted("quick", "step 1"), key=key, about="4 layers"))
        await listener.until(lambda: not queue.busy)
    names = [job.spec.title for job in queue.jobs]
    assert names == ["step 1: 4 layers", "step 1: 4 layers (2)", "step 1: 4 layers (3)", "step 1: 4 layers (2)"]


async def test_cancelled_job_is_killed_a_waiting_one_removed_and_the_others_continue(listener, tmp_path):
    queue, lock, taken = listener.queue, tmp_path / "lock", []
    queue.add(wanted("hold", "killed", lock=str(lock)))
    queue.add(wanted("hold", "dropped", lock=str(lock)))
    queue.add(wanted("quick", "last", taken=taken))
    await listener.until(lambda: queue.jobs[0].progress is not None)
    assert held(lock)
    assert queue.cancel(queue.jobs[1]) and queue.jobs[1].started is None
    assert queue.cancel()
    await listener.until(lambda: not queue.busy)
    wait_until_free(lock)
    assert listener.states == ["cancelled", "cancelled", "done"] and taken == [("last", 42)]
    assert not queue.cancel() and not queue.cancel(queue.jobs[0])


@pytest.mark.parametrize(
    ("kind", "death", "words"),
    [("hang", signal.SIGKILL, r"hang was killed by SIGKILL \(out of memory\?\)"), ("fail", None, "fail ended with status 7")],
)
async def test_killed_job_reports_the_reason_and_its_log_and_the_next_one_runs(listener, kind, death, words):
    queue = listener.queue
    queue.add(wanted(kind, "dying"))
    queue.add(wanted("quick", "next"))
    if death is not None:
        await listener.until(lambda: queue.jobs[0].progress is not None)
        os.kill(queue._job._process.pid, death)
    await listener.until(lambda: not queue.busy)
    dead = queue.jobs[0]
    assert listener.states == ["failed", "done"]
    assert isinstance(dead.error, JobError)
    with pytest.raises(JobError, match=words):
        raise dead.error
    assert str(dead.log) in str(dead.error)
    assert dead.log.read_text() == ("it hangs\n" if death else "Traceback: the reason\n")


async def test_each_job_has_its_own_log_and_the_oldest_logs_are_removed(listener, monkeypatch):
    from tui_pruner.engine import processes

    monkeypatch.setattr(processes, "MOST_LOGS", 3)
    for number in range(5):
        listener.queue.add(wanted("fail", str(number)))
    await listener.until(lambda: not listener.queue.busy)
    logs = [job.log for job in listener.queue.jobs]
    assert len(set(logs)) == 5
    assert sorted(paths.job_logs().iterdir()) == sorted(logs[2:])


async def test_unusable_data_removes_only_the_waiting_jobs_that_read_it(listener):
    queue = listener.queue
    queue.add(wanted("bad data", "first", data="bad.yaml"))
    queue.add(wanted("quick", "same data", data="bad.yaml"))
    queue.add(wanted("quick", "other data", data="good.yaml"))
    await listener.until(lambda: not queue.busy)
    assert listener.states == ["failed", "cancelled", "done"]
    assert isinstance(queue.jobs[0].error, DataError) and queue.jobs[1].error is queue.jobs[0].error


async def test_result_that_cannot_be_used_fails_only_its_job(listener):
    async def take(result):
        return result["no such key"]

    from dataclasses import replace

    listener.queue.add(replace(wanted("quick", "odd"), take=take))
    listener.queue.add(wanted("quick", "next"))
    await listener.until(lambda: not listener.queue.busy)
    assert listener.states == ["failed", "done"]
    assert "using the result of quick odd failed: KeyError" in str(listener.queue.jobs[0].error)


@pytest.mark.parametrize("where", ["its parameters", "its start"])
async def test_unexpected_error_fails_only_its_job_and_the_queue_continues(listener, monkeypatch, where):
    from dataclasses import replace

    odd = wanted("quick", "odd")
    if where == "its parameters":
        odd = replace(odd, parameters=lambda: {}["no such key"])
    else:
        whole, first = tempfile.mkdtemp, iter([OSError(28, "No space left on device")])

        def full_once(*arguments, **options):
            for error in first:
                raise error
            return whole(*arguments, **options)

        monkeypatch.setattr(tempfile, "mkdtemp", full_once)
    listener.queue.add(odd)
    listener.queue.add(wanted("quick", "next"))
    await listener.until(lambda: not listener.queue.busy)
    assert listener.states == ["failed", "done"]
    said = str(listener.queue.jobs[0].error)
    assert said.startswith("quick odd failed: ") and "the traceback is in" in said


async def test_job_stopped_early_without_a_result_counts_as_cancelled(listener):
    queue = listener.queue
    queue.add(wanted("hang", "one", early=True))
    await listener.until(lambda: queue.running is not None and queue.running.progress is not None)
    assert queue.cancel()
    await listener.until(lambda: not queue.busy)
    assert listener.states == ["cancelled"]


async def test_full_queue_refuses_jobs_and_old_jobs_are_removed(listener, monkeypatch):
    monkeypatch.setattr(job_queue, "MOST_WAITING", 2)
    monkeypatch.setattr(job_queue, "MOST_KEPT", 2)
    queue = listener.queue
    queue.add(wanted("quick", "0"))
    queue.add(wanted("quick", "1"))
    with pytest.raises(RequestError, match=r"^quick 2 is not queued: 2 jobs wait already, b lists them and K cancels one$"):
        queue.add(wanted("quick", "2"))
    await listener.until(lambda: not queue.busy)
    queue.add(wanted("quick", "3"))
    await listener.until(lambda: not queue.busy)
    assert [job.spec.title for job in queue.jobs] == ["1", "3"]


async def test_closing_kills_the_running_job_and_removes_the_waiting_ones(listener, tmp_path: Path):
    lock = tmp_path / "lock"
    listener.queue.add(wanted("hold", "running", lock=str(lock)))
    listener.queue.add(wanted("quick", "waiting"))
    await listener.until(lambda: listener.queue.jobs[0].progress is not None)
    listener.queue.close()
    await listener.until(lambda: not listener.queue.busy)
    wait_until_free(lock)
    assert listener.states == ["cancelled", "cancelled"]


async def test_first_cancel_stops_a_training_early_and_the_second_kills_it(listener):
    taken: list[Any] = []
    queue = listener.queue
    queue.add(wanted("train", "one", taken=taken, early=True))
    await listener.until(lambda: queue.running is not None and queue.running.progress is not None)
    first = queue.running
    assert "K ends it early" in running_line(Activity(first, now=first.started), 100).plain
    assert queue.cancel() and "K cancels" in running_line(Activity(first, now=first.started), 100).plain
    await listener.until(lambda: first.over)
    assert listener.ended == ["one done"] and taken == [("one", 7)]
    queue.add(wanted("hang", "two", early=True))
    await listener.until(lambda: queue.running is not None and queue.running.progress is not None)
    second = queue.running
    second.stopping = True
    assert queue.cancel()
    await listener.until(lambda: second.over)
    assert listener.ended == ["one done", "two cancelled"]


async def test_batch_is_halved_in_a_new_process_if_memory_is_too_small():
    taken: list[Any] = []
    listener = Listener()
    listener.queue.add(wanted("hungry", "training", taken=taken, batch=16))
    await listener.until(lambda: listener.states == ["done"])
    job = listener.queue.jobs[0]
    assert taken == [("training", 4)]
    assert list(job.outcome.notes) == ["not enough memory for batches of 16: trying 8", "not enough memory for batches of 8: trying 4"]
