"""The command line as a process: its streams, its exit statuses, and what an interruption leaves."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.conftest import CUTS, FIELD_MODEL, Call, spawn, start
from tests.deadlines import HANGING
from tui_pruner import __version__
from tui_pruner.storage import paths

CONTROL = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f]")


def wait_for(stream, words: str) -> None:
    """Read lines until one has these words."""
    for line in stream:
        if words in line:
            return
    raise AssertionError(f"{words!r} never came")


@pytest.mark.parametrize("arguments", [["--version"], ["--help"], ["prune", "--help"], ["prune", "-h"]])
def test_version_and_help_load_no_model_library(arguments: list[str]):
    script = (
        "import sys; from tui_pruner.__main__ import run; status = run(sys.argv[1:]);"
        "heavy = {'torch', 'ultralytics', 'numpy', 'textual'} & set(sys.modules); sys.exit(f'{status} {heavy}')"
    )
    done = subprocess.run([sys.executable, "-c", script, *arguments], capture_output=True, text=True, check=False, timeout=HANGING)
    assert done.stderr.strip() == "0 set()"
    assert (__version__ if arguments == ["--version"] else "Usage: ") in done.stdout


def test_version_is_one_line():
    answer = spawn("--version")
    assert (answer.status, answer.out, answer.err) == (0, f"tui-pruner {__version__}\n", "")


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-"])
def test_a_stream_that_was_closed_is_no_failure(closed: str):
    script = f'"$@" {closed}; echo "status $?"'
    words = [sys.executable, "-m", "tui_pruner", "locate", "nowhere"]
    done = subprocess.run(["sh", "-c", script, "sh", *words], capture_output=True, text=True, check=True, timeout=HANGING)
    assert done.stdout == "status 2\n" and "failed" not in done.stderr
    done = subprocess.run(["sh", "-c", script, "sh", *words[:3]], capture_output=True, text=True, check=True, timeout=HANGING)
    assert done.stdout == "status 2\n" and (done.stderr.startswith("tui-pruner: the app needs a terminal") or closed == "2>&-")


def test_json_is_alone_on_stdout_and_remarks_are_on_stderr():
    answer = spawn("inspect", *FIELD_MODEL, "--imgsz", "100", "--json")
    assert answer.status == 0
    assert answer.out.count("\n") == 1
    assert answer.document["model"]["imgsz"] == 128
    assert len(answer.remarks) == 2


def test_output_without_a_terminal_has_no_control_codes():
    for command in (["inspect"], ["preview", "--cut", "5=30%"]):
        answer = spawn(command[0], *FIELD_MODEL, *command[1:], env={**os.environ, "FORCE_COLOR": "1", "TTY_COMPATIBLE": "1"})
        assert answer.status == 0
        assert not CONTROL.search(answer.out + answer.err)


def test_table_on_a_terminal_fits_its_width():
    leader, follower = pty.openpty()
    command = [sys.executable, "-m", "tui_pruner", "inspect", *FIELD_MODEL]
    environment = {**os.environ, "TERM": "xterm-256color", "COLUMNS": "60"}
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=follower, stderr=subprocess.PIPE, env=environment)
    os.close(follower)
    content = b""
    try:
        while piece := os.read(leader, 65536):
            content += piece
    except OSError:  # how Linux says that the other end is closed
        pass
    assert process.wait(timeout=HANGING) == 0
    process.stderr.close()
    os.close(leader)
    plain = re.sub(r"\x1b\[[0-9;]*m", "", content.decode())
    assert max(len(line) for line in plain.split("\r\n") if line) <= 60
    assert "\x1b[1m" in content.decode()


def test_closed_pipe_is_not_an_error():
    reading, writing = os.pipe()
    os.close(reading)
    command = [sys.executable, "-m", "tui_pruner", "groups", *FIELD_MODEL, "--json"]
    done = subprocess.run(
        command, stdin=subprocess.DEVNULL, stdout=writing, stderr=subprocess.PIPE, text=True, check=False, timeout=HANGING
    )
    os.close(writing)
    assert done.returncode == 0
    assert len(done.stderr.splitlines()) == 1


def test_interrupted_validation_exits_with_130(demo_checkpoint: Path, demo_data: Path):
    with start("validate", demo_checkpoint, "--data", demo_data, "--imgsz", "320") as process:
        wait_for(process.stderr, "validating")
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=HANGING)
    assert process.returncode == 130
    assert out == ""
    assert err.splitlines()[-1] == "tui-pruner: interrupted"
    assert "Traceback" not in err


def test_interrupted_prune_exits_with_130_and_leaves_no_file(demo_checkpoint: Path, tmp_path: Path):
    with start("prune", demo_checkpoint, "--cut", CUTS[0], "-o", tmp_path / "out.pt", "--json") as process:
        wait_for(process.stderr, "verifying")
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=HANGING)
    assert (process.returncode, out, err) == (130, "", "tui-pruner: interrupted\n")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("place", "base"), [("config", "CONFIG"), ("state", "STATE"), ("log", "STATE"), ("cache", "CACHE")])
def test_locate_prints_the_folders_of_the_program(place: str, base: str, call: Call):
    answer = call("locate", place)
    assert (answer.status, answer.err) == (0, "")
    assert Path(answer.out.strip()).is_absolute()
    assert Path(answer.out.strip()).is_relative_to(os.environ[f"XDG_{base}_HOME"])
    assert call("locate", place, "--json", "--imgsz", 64, "--device", "cpu").document == {place: answer.out.strip()}


def test_demo_without_a_terminal_runs_the_whole_workflow(call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    answer = call("demo", "--json")
    assert answer.status == 0
    walked = answer.document
    assert walked["inspect"]["parameters"] == 3_012_798
    assert walked["inspect"]["convolutions"]["total"] == 64
    assert walked["preview"]["after"]["parameters"] < 3_012_798
    assert walked["preview"]["dry_run"]["ok"] is True
    assert walked["proof"]["equal"] is walked["prove_file"]["equal"] is True
    assert walked["validate"]["images"] == 64
    assert walked["validate"]["before"]["metrics/mAP50-95(B)"] > 0.6
    assert walked["save"]["bytes"] < (paths.demo_folder() / "digits.pt").stat().st_size
    assert all(check["ok"] for check in walked["save"]["checks"])
    assert list(tmp_path.iterdir()) == []


def test_demo_prints_a_report_for_people(call: Call):
    answer = call("demo")
    assert answer.status == 0
    assert [line.split(":")[0] for line in answer.out.splitlines() if re.match(r"\d [A-Z]\w+( on 64 images)?:", line)] == [
        "1 Look", "2 Preview", "3 Cut", "4 Validate on 64 images", "5 Save", "6 Reload",
    ]  # fmt: skip
    assert "FAILED" not in answer.out
    assert not CONTROL.search(answer.out)


def test_prints_of_libraries_do_not_reach_stdout(call: Call, monkeypatch: pytest.MonkeyPatch, demo_checkpoint: Path):
    from tui_pruner.core.pruning import coverage

    def noisy(analysis):
        print("a library prints")
        os.write(1, b"native code writes\n")
        return made(analysis)

    made = coverage.coupling_report
    monkeypatch.setattr(coverage, "coupling_report", noisy)
    answer = call("groups", demo_checkpoint, "--json")
    assert json.loads(answer.out)["convolutions"]["total"] == 64
    assert answer.remarks == ["a library prints", "native code writes"]
