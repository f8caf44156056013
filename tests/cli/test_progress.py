"""Progress of long commands: one line with a bar on a terminal, one line for each report elsewhere, JSON on request."""

from __future__ import annotations

import io
import os
import pty
import re
import subprocess
import sys

import pytest
from rich.console import Console

from tests.deadlines import HANGING
from tui_pruner.cli.output import ProgressLine, progress_of, progress_shown, say, write_progress
from tui_pruner.domain.errors import DataError
from tui_pruner.engine.job_messages import JobProgress

SCRIPT = """
import sys
from tui_pruner.cli.output import progress_of, progress_shown, say
from tui_pruner.engine.job_messages import JobProgress
tell = progress_of("validate")
with progress_shown(False):
    for done in (0, 16, 32, 64):
        tell(JobProgress(done=done, total=64, doing="validating", metrics={"metrics/mAP50-95(B)": 0.5 + done / 256}))
    say("a remark")
print("torch" in sys.modules or "textual" in sys.modules, file=sys.stderr)
"""
CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


def output_on_terminal(script: str, **environment: str) -> str:
    """What a script writes on a terminal."""
    leader, follower = pty.openpty()
    settings = {**os.environ, "TERM": "xterm-256color", "COLUMNS": "100", **environment}
    process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.DEVNULL, stderr=follower, env=settings)
    os.close(follower)
    content = b""
    try:
        while piece := os.read(leader, 65536):
            content += piece
    except OSError:  # how Linux says that the other end is closed
        pass
    os.close(leader)
    assert process.wait(timeout=HANGING) == 0
    return content.decode()


def test_progress_on_a_terminal_is_one_line_that_is_erased_at_the_end():
    written = output_on_terminal(SCRIPT)
    plain = CONTROL.sub("", written)
    assert re.search(r"validate validating +━+.* 64/64 .*mAP 0\.75", plain), plain
    assert "\x1b[2K" in written and "a remark\r\n" in plain and plain.rstrip().endswith("False")
    assert written.rindex("\x1b[?25h") > written.rindex("\x1b[?25l"), "the cursor is left visible"


def test_progress_on_a_dumb_terminal_or_pipe_is_plain_lines():
    assert "validate 16/64 validating" in output_on_terminal(SCRIPT, TERM="dumb")
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True, timeout=HANGING)
    assert done.stderr.splitlines()[:2] == ["validate 0/64 validating", "validate 16/64 validating"]
    assert "\x1b" not in done.stderr


@pytest.mark.parametrize(("begun", "told"), [(True, "validate 0/0 loading\n"), (False, "")])
def test_progress_of_reading_input_is_not_written_before_a_refusal(begun: bool, told: str, capfd: pytest.CaptureFixture[str]):
    with pytest.raises(DataError), progress_shown(False):
        progress_of("validate")(JobProgress(done=0, total=0, doing="loading", begun=begun))
        raise DataError("no such data")
    assert capfd.readouterr().err == told


def test_progress_line_has_phase_count_times_and_metric():
    stream = io.StringIO()
    line = ProgressLine(Console(file=stream, force_terminal=True, width=80, _environ={"TERM": "xterm"}))
    assert not line.there
    line.show(JobProgress(done=3, total=9, doing="epoch 1/3 " + "long " * 30, metrics={"train/box_loss": 1.25}))
    line.say("[above]")
    line.end()
    plain = CONTROL.sub("", stream.getvalue())
    shown = [part for part in re.split(r"[\r\n]", plain) if part.strip()]
    assert "[above]" in plain and all(len(part) <= 80 for part in shown) and not line.there
    assert re.search(r"epoch 1/3 long .*….*3/9 0 s.*box_loss 1\.25", plain)


def test_time_left_is_estimated_anew_in_each_phase():
    line = ProgressLine(Console(file=io.StringIO(), force_terminal=True, width=80, _environ={"TERM": "xterm"}))
    line.show(JobProgress(done=9, total=10, doing="validating"))
    line.show(JobProgress(done=1, total=10, doing="refitting"))
    (task,) = line._shown.tasks
    assert (task.completed, task.total, len(task._progress)) == (1, 10, 0)
    line.show(JobProgress(done=0, total=0, doing="verifying"))
    assert line._shown.tasks[0].total is None
    line.end()


def test_json_progress_is_one_line_per_event(capfd: pytest.CaptureFixture[str]):
    with progress_shown(True):
        progress_of("scan")(JobProgress(done=1, total=2, doing="model.1"))
        write_progress(JobProgress(done=0, total=0, doing="epoch"), "box_loss 1.2")
        say("so")
    assert [line[:11] for line in capfd.readouterr().err.splitlines()] == ['{"event": "'] * 3
