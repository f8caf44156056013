"""Jobs as text: progress that fits, the time left, the metric marked as so far, and the end of a log."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tests.tui.scripted_jobs import wanted
from tui_pruner.domain.errors import JobError
from tui_pruner.engine.job_messages import JobProgress, ValidationParameters
from tui_pruner.tui.drawing import GLYPHS
from tui_pruner.tui.job_specs.job import DONE, FAILED, JobOutcome, ProgressRate, QueuedJob
from tui_pruner.tui.panes.jobs import (
    Activity,
    counted,
    job_detail_lines,
    job_lines,
    list_lines,
    note_lines,
    progress_lines,
    unfinished_jobs,
)
from tui_pruner.tui.screens import all_jobs as log_tail
from tui_pruner.tui.screens.all_jobs import LogTail, plain_lines, window

MAP = {"metrics/mAP50-95(B)": 0.4981, "fitness": 0.4981}


def job(kind: str, title: str, number: int = 1, done: int | None = None) -> QueuedJob:
    """A job that waits, or runs since second 10 with this many of 64 done at second 20."""
    made = QueuedJob(wanted(kind, title), number)
    if done is not None:
        made.start(10.0, Path("job.log"))
        made.follow(JobProgress(done=0, total=64, doing="validating"), 16.0)
        made.follow(JobProgress(done=done, total=64, doing="validating", metrics=MAP), 20.0)
    return made


def test_time_left_is_estimated_from_the_current_phase():
    pace = ProgressRate()
    assert pace.remaining(64, 0.0) is None
    pace.follow("reading", 0, 0.0)
    pace.follow("validating", 0, 30.0)
    assert pace.remaining(64, 31.0) is None
    pace.follow("validating", 16, 34.0)
    assert pace.remaining(64, 34.0) == pytest.approx(12.0)
    assert pace.remaining(64, 36.0) == pytest.approx(10.0)
    assert pace.remaining(64, 62.0) == pytest.approx(32.0), "more is overdue: as if it came now"
    pace.follow("validating", 64, 50.0)
    assert pace.remaining(64, 50.0) is None


def test_results_that_arrive_together_do_not_make_the_time_left_zero():
    pace = ProgressRate()
    pace.follow("results", 1, 100.0)
    pace.follow("results", 8, 100.01)
    assert pace.remaining(153, 104.0) == pytest.approx(4.0 / 14 * 138)


def test_running_job_shows_its_count_its_running_metric_and_the_time_left():
    work = Activity(job("validate", "step 2", done=16), [job("calibrate", "checkpoint")], now=20.0)
    running, waiting = job_lines(work, 70)
    assert "validate step 2" in running.plain and "16/64  mAP .498 so far  12 s left" in running.plain
    assert waiting.plain == "  then calibrate checkpoint"
    assert "K cancels" in job_lines(work, 110)[0].plain and "so far  10 s elapsed  12 s left" in job_lines(work, 110)[0].plain
    for width in (30, 44, 50, 60, 90):
        assert all(line.cell_len <= max(width, 46) for line in job_lines(work, width))
    assert "so far" not in job_lines(work, 46)[0].plain and "16/64  12 s left" in job_lines(work, 46)[0].plain


def test_job_without_a_count_shows_its_current_phase():
    made = job("validate", "step 1")
    made.progress = JobProgress(done=0, total=64, doing="reading the checkpoint")
    running, phase = job_lines(Activity(made, now=30.0), 51)
    assert "0/64" in running.plain and phase.plain == "  reading the checkpoint"
    assert len(job_lines(Activity(made, now=30.0), 120)) == 1
    made.progress = JobProgress(done=16, total=64, doing="reading the checkpoint")
    assert len(job_lines(Activity(made, now=30.0), 51)) == 1


def test_phase_of_a_recipe_is_not_said_twice_in_two_lines():
    made = job("compress", "flops=60%")
    made.spec = replace(made.spec, recipe={"target": "flops=60%"})
    made.start(10.0, Path("job.log"))
    made.progress = JobProgress(done=0, total=0, doing="plan: reading the layers' inputs")
    for width in (30, 50, 80):
        lines = [line.plain for line in progress_lines(made, 30.0, width)]
        assert sum("plan: reading" in line for line in lines) == 1, width


def test_time_left_of_a_recipe_is_said_to_be_that_of_its_present_part():
    made = job("compress", "flops=60%", done=32)
    assert job_detail_lines(made, 0, 20.0, 60)[0].plain.endswith(" s left")
    made.spec = replace(made.spec, recipe={"target": "flops=60%"})
    assert job_detail_lines(made, 0, 20.0, 60)[0].plain.endswith(" s left in this part")
    assert " left in this part" in progress_lines(made, 20.0, 80)[0].plain


def test_job_without_an_estimate_says_once_how_long_it_runs():
    made = job("validate", "step 1", done=64)
    (state, *_) = (line.plain for line in job_detail_lines(made, 0, 30.0, 60))
    assert state == "running for 20 s, 64 of 64"


def test_results_without_words_or_with_a_long_one_keep_all_their_letters():
    signs = [line.plain.strip() for line in note_lines([("", True), ("", False), ("", None)], 46, 6)]
    assert signs == [GLYPHS.bad, GLYPHS.good, GLYPHS.minus], "what was cancelled was not done"
    path = "/data/sets/in/a/path/without/any/blank/that/is/longer/than/the/line/best-pruned.pt"
    lines = [line.plain for line in note_lines([(f"best.pt wrote {path}, 5.9 MB, 3.2 s", True)], 48, 6)]
    assert path in "".join(line[2:] for line in lines) and all(len(line) <= 48 for line in lines) and lines[-1].endswith("3.2 s")
    for width in range(1, 60):
        assert len(note_lines([(f"reads {path}", True), ("", False)], width, 3)) <= 3


def test_unfinished_jobs_are_described_in_one_sentence():
    running, waiting = job("validate", "step 2", done=16), job("validate", "step 3")
    assert unfinished_jobs(Activity(running)) == "Validate step 2 is running (16 of 64)."
    assert unfinished_jobs(Activity(running, [waiting])) == "Validate step 2 is running (16 of 64) and 1 job waits."
    assert unfinished_jobs(Activity(None, [waiting, waiting])) == "2 jobs wait."


def ended(number: int, state: str, figure: str = "", error: JobError | None = None) -> QueuedJob:
    made = job("validate", f"step {number}", number, done=64)
    made.outcome = JobOutcome(figure, [("mAP50-95(B)", ".498")], ["1 of 64 images was skipped"])
    made.end(state, 21.0, error)
    return made


def test_list_has_a_line_for_each_job_in_order():
    dead = JobError("validate was killed by SIGKILL without a result; see job.log")
    jobs = [
        ended(1, DONE, "mAP .498, 64 images, 3.2 s"),
        ended(2, FAILED, error=dead),
        job("validate", "step 3", 3, 16),
        job("validate", "4"),
    ]
    lines = [line.plain for line in list_lines(jobs, jobs[2], 20.0, 80, 0)]
    assert [line[:2] for line in lines] == ["  ", "  ", "▸ ", "  "]
    assert "mAP .498, 64 images, 3.2 s" in lines[0] and lines[0].rstrip().endswith("11 s")
    assert "was killed by SIGKILL" in lines[1] and "12 s left" in lines[2] and "waits for 1 job" in lines[3]
    assert {len(line) for line in lines} == {80}
    assert counted(jobs) == "1 running, 1 waiting, 1 done, 1 failed"
    assert "no job yet" in list_lines([], None, 0.0, 80, 0)[0].plain


def text(made: QueuedJob, before: int = 0, now: float = 20.0) -> str:
    return "\n".join(line.plain.rstrip() for line in job_detail_lines(made, before, now, 60))


def test_list_cuts_names_in_the_middle_and_figures_between_numbers():
    made = job("quick", "step 1: model.5.m.0.cv1 −40%")
    made.start(0.0, Path("job.log"))
    made.end(DONE, 5.0)
    made.outcome = JobOutcome("mAP .894 (.881 to .909), 64 images")
    narrow, middle, wide = (list_lines([made], None, 9.0, width, 0)[0].plain for width in (56, 64, 110))
    assert "mAP .894  " in narrow and "(" not in narrow and narrow.endswith(" 5 s")
    assert "quick step 1" in narrow and "−40%" in narrow
    assert "mAP .894 (.881 to .909)  " in middle and "64 images" not in middle
    assert "quick step 1: model.5.m.0.cv1 −40%" in wide and "64 images" in wide


def test_details_of_a_job_have_its_result_parameters_and_plan():
    cuts = [{"layer": "model.5", "amount": "30%", "removes": {"model.5.conv.weight": {"0": list(range(38))}}}]
    plan = {"steps": [{"name": "first", "cuts": cuts}, {"name": "", "cuts": cuts * 2}]}
    made = ended(2, DONE, "mAP .498, 64 images, 3.2 s")
    made.parameters = ValidationParameters(checkpoint="best.pt", sha256="0" * 64, data="data.yaml", imgsz=640, plan=plan)
    shown = text(made)
    assert shown.startswith("done: mAP .498, 64 images, 3.2 s\n\nResult\nmAP50-95(B)    .498\n1 of 64 images was skipped")
    for line in ("checkpoint     best.pt", "sha256         000000000000…", "images         64", "log            job.log"):
        assert line in shown
    assert "step 1         first: model.5 30%\nstep 2         model.5 30%, model.5 30%" in shown
    assert "removes" not in shown


def test_details_of_a_job_have_its_state():
    assert text(job("validate", "step 2"), before=0).startswith("waiting: it is next")
    assert text(job("validate", "step 2"), before=2).startswith("waiting: 2 jobs before it")
    running = text(job("validate", "step 2", done=16))
    assert running.startswith("running for 10 s, 16 of 64, 12 s left") and "mAP50-95(B)    .498" in running and "fitness" not in running
    failed = ended(2, FAILED, error=JobError("validate was killed by SIGKILL without a result; see job.log"))
    assert text(failed).startswith("failed after 11 s\nvalidate was killed by SIGKILL without a result; see job.log")


def test_progress_bars_and_control_characters_are_reduced_to_plain_text():
    content = b"  0%|   |\r 50%|=  |\r100%|===|\n\x1b[31mred\x1b[0m\tWARNING \x1b]0;title\x07bell\x07\r\n\xff\n\n"
    assert plain_lines(content) == ["100%|===|", "red     WARNING bell", "\ufffd"]
    assert plain_lines(b"half a line\nwhole", whole=False) == ["whole"]


def test_log_is_read_again_only_if_it_has_grown(tmp_path, monkeypatch):
    monkeypatch.setattr(log_tail, "MOST_BYTES", 20)
    log, tail = tmp_path / "job.log", LogTail()
    assert not tail.follow(None)
    assert tail.follow(log) and tail.lines == []
    log.write_text("one\n")
    assert tail.follow(log) and tail.lines == ["one"]
    assert not tail.follow(log)
    log.write_text("one\n" + "x" * 30 + "\ntwo\nthree\n")
    assert tail.follow(log) and tail.lines == ["two", "three"]
    assert tail.follow(tmp_path / "other.log") and tail.lines == []


def test_log_window_is_always_full_and_scrolls_back_to_the_first_line():
    lines = ["one", "two three", "four"]
    assert window(lines, 5, 3, 0) == ["two", "three", "four"]
    assert window(lines, 5, 3, 1) == ["one", "two", "three"] == window(lines, 5, 3, 99)
    assert window(lines, 9, 5, 0) == ["one", "two three", "four", "", ""] == window(lines, 9, 5, 99)
    assert window([], 9, 2, 0) == ["", ""]


def test_training_curves_show_losses_and_metric():
    made = job("finetune", "out.pt", done=1)
    for epoch, loss in enumerate([2.0, 1.5, 1.25, 1.125]):
        metrics = {"train/box_loss": loss, "lr/pg0": 0.01, "metrics/mAP50-95(B)": 0.5 + epoch / 10}
        made.follow(JobProgress(done=epoch, total=4, doing=f"epoch {epoch + 1}/4", metrics=metrics), 30.0 + epoch)
    text = [line.plain for line in job_detail_lines(made, 0, 40.0, 60)]
    place = text.index("Curves")
    assert [line.split() for line in text[place + 1 : place + 3]] == [["mAP50-95(B)", "0.8", "▁▁▃▅█"], ["box_loss", "1.12", "█▃▁▁"]]


def test_long_curve_is_thinned_and_keeps_its_ends():
    made = job("finetune", "out.pt", done=1)
    for number in range(5000):
        made.follow(JobProgress(done=number, total=5000, metrics={"train/loss": float(number)}), 30.0 + number)
    points = made.history["train/loss"]
    assert points[0] == 0.0 and points[-1] > 4900 and len(points) <= 400 and points == sorted(points)


def test_last_results_are_wrapped_where_lines_are_left_and_lose_clauses_elsewhere():
    long = "takes user_blocks.Excite, user_blocks.Gate from your own modules, which stock Ultralytics does not have"
    notes = [("checkpoint mAP .894, 64 images, 3.2 s", False), (long, False)]
    lines = [line.plain for line in job_lines(Activity(notes=notes), 50, 6)]
    assert lines[0] == "✓ checkpoint mAP .894, 64 images, 3.2 s" and len(lines) == 4
    assert lines[1].startswith("✓ takes") and " ".join(line.strip("✓ ") for line in lines[1:]) == long
    assert [line.plain for line in job_lines(Activity(notes=notes), 50, 2)] == [lines[0], "✓ takes user_blocks.Excite"]
    timed = [("step 12 mAP .894 (.880 to .912), 64 images, 1:12", False)]
    assert [line.plain for line in job_lines(Activity(notes=timed), 46, 6)] == ["✓ step 12 mAP .894 (.880 to .912), 64 images"]
    newest = [line.plain for line in job_lines(Activity(notes=[notes[1], *notes[:1] * 5]), 50, 6)]
    assert len(newest) == 6 and newest[0] == "✓ takes user_blocks.Excite"
    assert all(len(line) <= 20 for line in (line.plain for line in job_lines(Activity(notes=[("x" * 90, True)]), 20, 6)))
