"""Copied commands and the log of commands: they exist, and do the same."""

from __future__ import annotations

import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tests.deadlines import HANGING
from tui_pruner.tui.commands import WORDS, CommandLog, CutWords, job_command
from tui_pruner.tui.controllers.copy import takes_copies
from tui_pruner.tui.opening import Opening
from tui_pruner.tui.screens.forms import Chooser


@pytest.fixture
def quiet_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """A terminal that is known to take no copies."""
    monkeypatch.setenv("TERM", "linux")
    monkeypatch.delenv("TERM_PROGRAM", raising=False)


def test_support_for_copying_is_known_for_some_terminals(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("TERM_PROGRAM", raising=False)
    found = []
    for term in ("linux", "xterm-kitty", "xterm-256color"):
        monkeypatch.setenv("TERM", term)
        found.append(takes_copies())
    assert found == [False, True, None]


def test_cuts_of_a_step_are_written_as_command_line_options():
    cuts = CutWords([("model.5", "30%"), ("classes", "keep:zero,one")], "taylor", 8)
    assert shlex.join(cuts.words("digits.yaml")) == (
        "--cut model.5=30% --keep-classes zero,one --criterion taylor --data digits.yaml --round-to 8"
    )
    assert CutWords([("model.5", "drop")]).words("digits.yaml") == ["--cut", "model.5=drop"]


@pytest.mark.parametrize("kind", WORDS)
def test_command_of_a_job_has_only_existing_options(kind: str):
    import typer.main

    from tui_pruner.cli.main import app_of

    parameters = {
        "checkpoint": "best.pt", "data": "digits.yaml", "images": 64, "criterion": "l2", "targets": ["flops=60%", "latency=80%"],
        "round_to": 8, "imgsz": 160, "blocks": True, "suggest": True, "original": "best.pt", "output": "out.pt", "epochs": 3,
        "teacher": "best.pt", "sparsity": 0.001, "format": "onnx", "folder": "out", "max_drop": 0.01, "plan": {"steps": []},
        "plan_file": "plan.yaml", "models": [{"checkpoint": "best.pt", "plan": None}, {"checkpoint": "best.pt", "plan": {}}],
    }  # fmt: skip
    program, command, *words = shlex.split(job_command(kind, parameters, "plan.yaml"))
    parser = typer.main.get_command(app_of()).commands[command]
    options = {name for parameter in parser.params for name in parameter.opts}
    assert program == "tui-pruner" and {word for word in words if word.startswith("-")} <= options


def test_changed_ratio_replaces_its_entry_in_the_command_log():
    log = CommandLog()
    for line in ("preview 1%", "preview 2%"):
        log.note("ratios", line, instead=True)
    log.note("step 1", "steps")
    log.note("step 1", "steps")
    log.note("calibrate", "")
    assert log.entries == [("ratios", "preview 2%"), ("step 1", "steps")]


async def test_copied_command_makes_the_model_of_the_session(start, tiny_checkpoint: Path, tmp_path: Path, quiet_terminal, monkeypatch):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    model = tmp_path / "tiny.pt"
    model.write_bytes(tiny_checkpoint.read_bytes())

    def copied() -> str:
        return (tmp_path / "state" / "tui-pruner" / "copied.txt").read_text().strip()

    async with start(opening=Opening(str(model), imgsz=64)) as desk:
        await desk.go("model.5")
        await desk.press("y", "1")
        await desk.until(lambda: any("this terminal takes no copies: it is in" in said for said in desk.said), "the place")
        assert copied() == "model.5"
        await desk.press("3", "0", "enter", "y")
        await desk.until(lambda: isinstance(desk.app.screen, Chooser), "the choice")
        await desk.press("2")
        await desk.until(lambda: copied() == "model.5=30%", "the cut")
        await desk.press("a")
        await desk.until(lambda: len(desk.state.session.steps) == 1, "the step")
        await desk.go("model.7")
        await desk.press("2", "5", "enter")
        await desk.until(lambda: bool(desk.state.pending), "the ratio")
        await desk.previewed()
        await desk.press("y", "3")
        await desk.until(lambda: "prune" in copied(), "the command")
        after = desk.state.after.parameters
        await desk.press("P")
        await desk.until(lambda: "Command log" in desk.text and "--save-plan" in desk.text, "the log")
        await desk.press("down", "enter")
        await desk.until(lambda: copied().startswith("tui-pruner steps"), "the step's command")
        assert "--cut model.5=30%" in copied()
        await desk.press("y", "3")
        await desk.until(lambda: "prune" in copied(), "the command again")
        command = copied()
    assert command.count("&&") == 1
    for line in command.split(" && "):
        words = [sys.executable, "-m", "tui_pruner", *shlex.split(line)[1:]]
        done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=HANGING, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
    words = [sys.executable, "-m", "tui_pruner", "inspect", str(tmp_path / "tiny-pruned.pt"), "--imgsz", "64", "--json"]
    done = subprocess.run(words, capture_output=True, text=True, check=True, timeout=HANGING)
    assert f'"parameters": {after}' in done.stdout
