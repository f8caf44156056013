"""The screen of all jobs in the running app, with real child processes that are killed, cancelled and run again."""

from __future__ import annotations

import os
import re
import signal

import pytest
import pytest_asyncio

from tests.tui.helpers import check_golden
from tests.tui.scripted_jobs import start_script, wanted
from tui_pruner.tui.drawing import GLYPHS
from tui_pruner.tui.job_specs.job import QueuedJob
from tui_pruner.tui.screens.all_jobs import AllJobs
from tui_pruner.tui.screens.help import ActionProvider
from tui_pruner.tui.screens.prompts import Question

pytestmark = pytest.mark.asyncio(loop_scope="session")


@pytest_asyncio.fixture(loop_scope="session")
async def jobs(desk, tmp_path, monkeypatch):
    """The shared app, whose jobs do what scripts say; none is left."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    queue = desk.queue
    monkeypatch.setattr(queue, "_start", start_script)
    queue.jobs.clear()
    desk.clear_notes()
    yield desk
    queue.close()
    await desk.until(lambda: not queue.busy, "an empty queue")
    while len(desk.app.screen_stack) > 2:
        await desk.press("escape")
    queue.jobs.clear()
    desk.clear_notes()


def fix_the_job_times(monkeypatch):
    """Give every job times of one digit: on a busy machine they are longer, and the stored screens are not."""
    remaining = QueuedJob.remaining
    monkeypatch.setattr(QueuedJob, "elapsed", lambda job, now: 3.0)
    monkeypatch.setattr(QueuedJob, "remaining", lambda job, now: None if remaining(job, now) is None else 4.0)


async def wait_for_three_of_eight(desk):
    """Wait until the running job has reported its last word, and the screen shows it."""
    queue = desk.queue
    await desk.until(lambda: queue.running and queue.running.progress and queue.running.progress.done == 3, "the progress")
    await desk.until(lambda: "3/8" in desk.text, "the progress on the screen")


async def test_jobs_screen_is_laid_out_for_its_size_from_the_first_paint(jobs, monkeypatch):
    arranged: list[bool] = []
    mounted = AllJobs.on_mount
    monkeypatch.setattr(AllJobs, "on_mount", lambda screen: (arranged.append(screen.has_class("-wide")), mounted(screen))[1])
    for width in (120, 100, 99):
        await jobs.pilot.resize_terminal(width, 40)
        await jobs.press("b")
        await jobs.until(lambda: isinstance(jobs.app.screen, AllJobs), "the jobs")
        await jobs.press("escape")
    await jobs.pilot.resize_terminal(120, 40)
    assert arranged == [True, True, False]


async def test_jobs_screen_shows_every_job_with_details_and_log_of_the_chosen_one(jobs, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    fix_the_job_times(monkeypatch)
    queue = jobs.queue
    queue.add(wanted("quick", "one"))
    await jobs.until(lambda: not queue.busy, "the first result")
    assert any(note.startswith("one the answer is 42, ") for note, failed in jobs.state.notes if not failed)
    queue.add(wanted("validate", "step 1"))
    queue.add(wanted("validate", "step 2", data="digits.yaml"))
    await jobs.until(lambda: queue.running is not None, "the running job")
    queue.running.log = type(queue.running.log)("job.log")
    (tmp_path / "job.log").write_text("it begins\n")
    await jobs.press("b")
    await wait_for_three_of_eight(jobs)
    await jobs.until(lambda: "it begins" in jobs.text, "the log")
    for size in ((120, 40), (80, 24), (60, 20)):
        await jobs.pilot.resize_terminal(*size)
        await jobs.until(
            lambda size=size: jobs.text.splitlines()[-1].startswith(" K cancel") and len(jobs.text.splitlines()) == size[1], "the size"
        )
        await jobs.until(lambda: "3/8" in jobs.text and "it begins" in jobs.text, "everything at this size")
        check_golden(f"jobs-{size[0]}x{size[1]}", re.sub(f"[{GLYPHS.spinner}]", GLYPHS.spinner[0], jobs.text))
    await jobs.press("down")
    await jobs.until(lambda: "waiting: 1 job before it" in jobs.text and "digits.yaml" in jobs.text, "the waiting job")
    await jobs.press("up", "up")
    await jobs.until(lambda: "done: the answer is 42" in jobs.text, "the job that is over")
    await jobs.pilot.resize_terminal(120, 40)


async def test_jobs_are_cancelled_removed_and_run_again_from_the_screen(jobs):
    queue = jobs.queue
    queue.add(wanted("hang", "first"))
    queue.add(wanted("quick", "second"))
    await jobs.press("b")
    await wait_for_three_of_eight(jobs)
    await jobs.press("down", "K")
    await jobs.until(lambda: queue.jobs[1].state == "cancelled", "the dropped job")
    await jobs.press("up", "K", "y")
    await jobs.until(lambda: queue.jobs[0].state == "cancelled", "the killed job")
    await jobs.press("K")
    assert any("this job is over" in said for said in jobs.said)
    await jobs.press("down", "r")
    await jobs.until(lambda: [job.state for job in queue.jobs] == ["cancelled", "cancelled", "done"], "the second try")
    assert "the answer is 42" in jobs.text and "1 done, 2 cancelled" in jobs.text
    await jobs.press("escape")
    assert jobs.app.screen is jobs.bench and "second the answer is 42" in jobs.text


async def test_log_is_shown_as_it_grows_without_progress_from_the_job(jobs, tmp_path):
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    jobs.queue.add(wanted("grow", "one", lock=str(gate)))
    await jobs.press("b")
    await jobs.until(lambda: "first line" in jobs.text, "the first line")
    assert "second line" not in jobs.text
    os.close(os.open(gate, os.O_WRONLY))
    await jobs.until(lambda: "second line" in jobs.text and "first line" not in jobs.text, "the end of the log")
    await jobs.press("tab", "tab", "home")
    await jobs.until(lambda: "first line" in jobs.text and "second line" not in jobs.text, "its beginning")
    await jobs.press("pagedown", "end")
    await jobs.until(lambda: "second line" in jobs.text, "its end again")


async def test_killed_job_is_reported_with_its_log_and_the_session_continues(jobs):
    queue, session = jobs.queue, jobs.state.session
    queue.add(wanted("hang", "step 1"))
    await jobs.until(lambda: queue.running is not None and queue.running.progress is not None, "the job")
    os.kill(queue._job._process.pid, signal.SIGKILL)
    await jobs.until(lambda: any("killed by SIGKILL" in said for said in jobs.said), "the reason")
    said = next(said for said in jobs.said if "SIGKILL" in said)
    assert (
        said.startswith("hang step 1: hang was killed by SIGKILL (out of memory?) without a result; see ")
        and str(queue.jobs[0].log) in said
    )
    assert any(failed and "SIGKILL" in note for note, failed in jobs.state.notes)
    assert jobs.state.session is session
    await jobs.press("b")
    await jobs.until(lambda: "failed after" in jobs.text and "it hangs" in jobs.text, "the failed job with its log")
    await jobs.press("escape")
    await jobs.go("model.5")
    await jobs.press("right")
    await jobs.previewed()
    assert jobs.state.dry_run.ok


async def test_quitting_names_the_running_jobs_and_staying_keeps_them(jobs):
    queue = jobs.queue
    queue.add(wanted("hang", "step 1"))
    queue.add(wanted("quick", "step 2"))
    await wait_for_three_of_eight(jobs)
    await jobs.press("q")
    await jobs.until(lambda: isinstance(jobs.app.screen, Question), "the question")
    assert "Hang step 1 is running (3 of 8) and 1 job waits." in jobs.text
    await jobs.press("escape")
    await jobs.until(lambda: jobs.app.screen is jobs.bench, "the workbench")
    assert queue.running is not None and len(queue.waiting) == 1


async def test_automatic_validation_is_shown_in_the_title_and_switched_on_both_screens(jobs):
    before = jobs.state.automatic
    words = {True: "validate every step: on", False: "validate every step: off"}
    assert ("validate every step: no data yet (d)" if before else words[False]) in jobs.text, "nothing is validated without data"
    await jobs.press("V")
    await jobs.until(lambda: words[not before] in jobs.text, "the other state")
    await jobs.press("b", "V")
    await jobs.until(lambda: isinstance(jobs.app.screen, AllJobs) and words[before] in jobs.text, "the first state again")
    assert jobs.state.automatic is before


async def test_palette_offers_the_actions_of_the_open_screen(jobs):
    def offered() -> set[str]:
        return {action.title for _, action in ActionProvider(jobs.app.screen).offered()}

    on_bench = offered()
    assert {"Background jobs", "Validate", "Cancel the job"} <= on_bench and "Run again" not in on_bench
    await jobs.press("b")
    assert {"Run again", "Cancel this job", "Back to the workbench", "Help"} <= offered() and "Apply" not in offered()
