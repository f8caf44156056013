"""Wrong input is refused before any library is imported; also completion, headings of the help, and progress events."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.cli.conftest import Call
from tests.deadlines import HANGING
from tui_pruner.__main__ import COMMANDS
from tui_pruner.cli.commands.scan import EXECUTORS
from tui_pruner.cli.early_checks import REPORTS, demand_no_misspelt_command, demand_places
from tui_pruner.cli.options import GROUPS, known_layers
from tui_pruner.domain.errors import CheckpointError, OutputError, RequestError
from tui_pruner.jobs.scan import executors
from tui_pruner.report.sections import FORMATS
from tui_pruner.storage import paths
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
    "a file of another kind": (["inspect", "{broken}.pt"], "broken.yaml.pt is not a PyTorch checkpoint"),
    "half a file": (["inspect", "{half}"], "half.pt is truncated (its end is missing)"),
    "a plan that lacks something": (["prune", "{model}", "--plan", "{data}", "-o", "a.pt"], "digits.yaml: checkpoint: field required"),
    "data without validation images": (["validate", "{model}", "--data", "{trained}"], "trained.yaml has no val split"),
    "no data": (["scan", "{model}"], "which data set? give --data"),
    "a criterion": (["prune", "{model}", "--cut", "5=30%", "--criterion", "l3", "-o", "a.pt"], "unknown criterion 'l3'; there are l2"),
    "a target": (["plan", "{model}", "--target", "flops"], "cannot read the target 'flops'"),
    "no target": (["compress", "{model}", "--data", "{data}", "-o", "out"], "no target: give one, such as flops=60%"),
    "a list of ratios": (["scan", "{model}", "--data", "{data}", "--ratios", "much"], "the amount 'much' is not a number"),
    "an executor": (["scan", "{model}", "--data", "{data}", "--executor", "dask"], "no executor 'dask': it is one of local, ray"),
    "a folder to write to": (["plan", "{model}", "--target", "flops=70%", "-o", "no/p.yaml"], "no/p.yaml cannot be written: no folder no"),
    "a file that is there": (["scan", "{model}", "--data", "{data}", "-o", "{half}"], "half.pt exists already: choose another name"),
    "another suffix": (["reconstruct", "{model}", "--data", "{data}", "-o", "a.onnx"], "a.onnx does not end in .pt"),
    "a report": (["report", "{plan}", "-o", "a.docx"], "a.docx is not a report: its name must end in .html or .htm or .md"),
    "a cut": (["preview", "{model}", "--cut", "5=much"], "the amount 'much' is not a number"),
    "an option": (["inspect", "{model}", "--jsn"], "No such option: --jsn; did you mean --json?"),
    "a command": (["inspct", "{model}"], "no command 'inspct', and no such file: did you mean inspect?"),
    "a command alone": (["valdate"], "no command 'valdate', and no such file: did you mean validate?"),
}


@pytest.mark.parametrize("case", BAD)
def test_wrong_input_is_refused_in_one_line_without_importing_a_library(case: str, demo_checkpoint: Path, demo_data: Path, tmp_path: Path):
    words, expected = BAD[case]
    places = {"model": demo_checkpoint, "data": demo_data}
    places |= {"broken": tmp_path / "broken.yaml", "trained": tmp_path / "trained.yaml", "half": tmp_path / "half.pt"}
    for name in ("broken.yaml", "broken.yaml.pt"):
        (tmp_path / name).write_text("val: [\n")
    places["plan"] = tmp_path / "plan.yaml"
    places["plan"].write_text("checkpoint: best.pt\nsha256: abc\n")
    places["trained"].write_text("train: images/train\nnames: [one]\n")
    places["half"].write_bytes(demo_checkpoint.read_bytes()[:100_000])
    command = [sys.executable, "-c", SCRIPT, json.dumps([word.format(**places) for word in words])]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=HANGING)
    assert json.loads(done.stdout) == [2, []]
    (line,) = done.stderr.splitlines()
    assert line.startswith("tui-pruner: ") and expected in line


def test_repeated_names_equal_those_of_the_scan_and_the_report():
    assert set(EXECUTORS) == set(executors.EXECUTORS) and tuple(FORMATS) == REPORTS


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


def test_output_may_be_a_link_to_a_checkpoint_which_is_replaced(tmp_path: Path):
    for target, name in (("out.pt", "latest"), ("out.onnx", "latest.pt")):
        (tmp_path / target).write_bytes(b"before")
        (tmp_path / name).symlink_to(tmp_path / target)
    demand_places({"output": tmp_path / "latest", "force": True}, "prune")
    with pytest.raises(OutputError, match=r"out.onnx does not end in .pt"):
        demand_places({"output": tmp_path / "latest.pt", "force": True}, "prune")


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


def test_shells_complete_the_layers_of_the_model(demo_checkpoint: Path, monkeypatch: pytest.MonkeyPatch):
    layers = known_layers(str(demo_checkpoint))
    assert {"6", "model.6.m.0.cv1"} <= set(layers) and not {"10", "model.22.cv3.0.2"} & set(layers)
    assert known_layers("nope.pt") == []
    tried: list[object] = []
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: tried.append(1) or SimpleNamespace(stdout="not JSON"))
    assert known_layers(str(demo_checkpoint)) == layers and known_layers("nope.pt") == [] and not tried, "they are in the cache folder"
    (failed,) = (file for file in (paths.cache_folder() / "layers").iterdir() if not file.stat().st_size)
    os.utime(failed, (0, 0))
    assert known_layers("nope.pt") == known_layers("nope.pt") == [] and len(tried) == 1, "tried again, once"
    monkeypatch.undo()
    offered = completions("bash", f"tui-pruner prune {demo_checkpoint} --cut model.6.m").split()
    assert offered == [f"{name}=" for name in layers if name.startswith("model.6.m")]
    assert "model.6.cv1" in completions("bash", f"tui-pruner explain {demo_checkpoint} model.6").split()


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
