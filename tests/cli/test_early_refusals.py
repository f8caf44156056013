"""Wrong input is refused before any library is imported; also completion, headings of the help, and progress events."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.conftest import Call
from tests.deadlines import HANGING
from tui_pruner.__main__ import COMMANDS
from tui_pruner.cli.launch import demand_no_misspelt_command
from tui_pruner.cli.options import GROUPS
from tui_pruner.domain.errors import CheckpointError, RequestError
from tui_pruner.storage.model_file import require_model, same_architecture

SCRIPT = """
import json, sys
from tui_pruner.__main__ import run
status = run(json.loads(sys.argv[1]))
print(json.dumps([status, sorted({"torch", "ultralytics", "torchvision", "numpy"} & set(sys.modules))]))
"""
BAD = {
    "a path": (["inspect", "nope.pt"], "nope.pt: no such file; check the path"),
    "an original": (["prove", "{model}", "nope.pt"], "nope.pt: no such file"),
    "one of several": (["bench", "{model}", "nope.pt"], "nope.pt: no such file"),
    "another to be held against": (["gate", "{model}", "--against", "nope.pt", "--data", "{data}"], "nope.pt: no such file"),
    "an architecture": (["inspect", "yolov8nn.yaml"], "no such architecture; nearest: "),
    "a plan": (["preview", "{model}", "--plan", "nope.yaml"], "cannot read the plan nope.yaml"),
    "a plan that is no YAML": (["preview", "{model}", "--plan", "{broken}"], "broken.yaml is not YAML"),
    "a data yaml": (["validate", "{model}", "--data", "nope.yaml"], "no data yaml nope.yaml"),
    "a data yaml that is none": (["scan", "{model}", "--data", "{broken}"], "broken.yaml is not a data yaml"),
    "a cut": (["preview", "{model}", "--cut", "5=much"], "the amount 'much' is not a number"),
    "an option": (["inspect", "{model}", "--jsn"], "No such option: --jsn; did you mean --json?"),
    "a command": (["inspct", "{model}"], "no command 'inspct', and no such file: did you mean inspect?"),
    "a command alone": (["valdate"], "no command 'valdate', and no such file: did you mean validate?"),
}


@pytest.mark.parametrize("case", BAD)
def test_wrong_input_is_refused_in_one_line_without_importing_a_library(case: str, demo_checkpoint: Path, demo_data: Path, tmp_path: Path):
    words, expected = BAD[case]
    (tmp_path / "broken.yaml").write_text("val: [\n")
    places = {"model": demo_checkpoint, "data": demo_data, "broken": tmp_path / "broken.yaml"}
    command = [sys.executable, "-c", SCRIPT, json.dumps([word.format(**places) for word in words])]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=HANGING)
    assert json.loads(done.stdout) == [2, []]
    (line,) = done.stderr.splitlines()
    assert line.startswith("tui-pruner: ") and expected in line


def test_every_architecture_is_known_under_the_names_that_ultralytics_accepts():
    from ultralytics.nn.tasks import yaml_model_load

    names = (
        "yolov8n.yaml", "yolov8.yaml", "yolov8x-seg.yaml", "yolov8n-p6.yaml", "yolov5s6.yaml", "yolov9e.yaml", "yolov10b.yaml",
        "yolo11l-cls.yaml", "yolo26n.yaml", "yolo12m.yaml", "rtdetr-l.yaml", "yolov8s-worldv2.yaml", "yoloe-11s-seg.yaml",
    )  # fmt: skip
    for name in names:
        assert yaml_model_load(name)["backbone"] and same_architecture(name), name
        require_model(name)
    with pytest.raises(CheckpointError, match="no such architecture; nearest: "):
        require_model("yolov8nn.yaml")
    require_model("folder/that/is/not/here/yolov8n.yaml")


def test_word_that_may_be_a_file_is_not_a_misspelt_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "inspec").write_text("a model of that name")
    for word in ("inspec", "inspect.pt", "folder/inspec", "bestmodel", "--inspec"):
        demand_no_misspelt_command(word, ["inspect"])
    with pytest.raises(RequestError, match="did you mean inspect"):
        demand_no_misspelt_command("inspekt", ["inspect"])


def completions(shell: str, words: str) -> str:
    """What a shell is told that the last of these words may become."""
    asked = {"COMP_WORDS": words, "COMP_CWORD": str(len(words.split()) - 1), "_TYPER_COMPLETE_ARGS": words}
    environment = {**os.environ, **asked, "_TYPER_COMPLETE_FISH_ACTION": "get-args", "_TUI_PRUNER_COMPLETE": f"complete_{shell}"}
    command = [sys.executable, "-m", "tui_pruner"]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=HANGING, env=environment).stdout


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_shells_complete_commands_and_options(shell: str):
    assert "gate" in completions(shell, "tui-pruner ga") and "groups" not in completions(shell, "tui-pruner ga")
    options = completions(shell, "tui-pruner gate --max")
    assert "--max-drop" in options and "--max-latency" in options and "--images" not in options


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_script_for_a_shell_is_printed(shell: str):
    environment = {**os.environ, "_TUI_PRUNER_COMPLETE": f"source_{shell}"}
    command = [sys.executable, "-m", "tui_pruner"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=HANGING, env=environment)
    assert f"_TUI_PRUNER_COMPLETE=complete_{shell}" in done.stdout and not done.stderr


def test_every_command_has_exactly_one_heading_in_the_help(call: Call):
    shown = [name for names in GROUPS.values() for name in names]
    assert sorted([*shown, "open"]) == sorted(COMMANDS) and len(set(shown)) == len(shown)
    lines = call("--help").out.splitlines()
    assert [line[:-1] for line in lines if line[:-1] in GROUPS] == list(GROUPS)
    assert not any(line.endswith("...") for line in lines[1:]), "no sentence is broken off"
    assert {line.split()[0] for line in lines if line.startswith("  ") and line.split()[0] in COMMANDS} == set(shown)


def test_json_progress_is_one_event_per_line_and_does_not_change_the_result(call: Call, demo_checkpoint: Path, demo_data: Path):
    options = ["--data", demo_data, "--images", 2, "--imgsz", 100, "--json"]
    answer = call("validate", demo_checkpoint, *options, "--progress", "json")
    assert answer.status == 0 and answer.document["images"] == 2
    events = [json.loads(line) for line in answer.remarks if line.startswith('{"event"')]
    progress = [one for one in events if one["event"] == "progress"]
    assert progress[-1]["job"] == "validate" and (progress[-1]["done"], progress[-1]["total"]) == (2, 2)
    assert [one["text"] for one in events if one["event"] == "remark"] == ["image side 100 rounded up to 128, a multiple of the stride 32"]
    plain = call("validate", demo_checkpoint, *options)
    assert not any(line.startswith("{") for line in plain.remarks)
    assert call("validate", demo_checkpoint, "--progress", "loud").status == 2
