"""`gate`, `compress` and `report` on any module: verdicts, files, and commands that run as they are printed."""

from __future__ import annotations

import json
import os
import re
import shlex
import sys
from html import unescape
from pathlib import Path
from types import ModuleType
from xml.etree import ElementTree

import pytest

from tests.cli.conftest import Call, start
from tests.small_module import NET, SOURCE, options, project

NOT_OF_MODULES = re.compile(r"\b(images?|classes|Ultralytics|detections?|px|imgsz|checkpoint|NMS|mAP)\b", re.IGNORECASE)


@pytest.fixture(autouse=True)
def net(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The user's code, in the current folder."""
    return project(tmp_path, monkeypatch)


def prune(call: Call, folder: str = "cut.tp", *more: str) -> str:
    """A folder with the module, cut."""
    answer = call("prune", *options(), "--cut", "0=50%", "--cut", "2=25%", "-o", folder, *more)
    assert answer.status == 0, answer.err
    return folder


def files_in(folder: Path) -> list[Path]:
    """What is in a folder, but what Python keeps there."""
    return sorted(path for path in folder.rglob("*") if "__pycache__" not in path.parts)


def test_gate_says_yes_or_no_in_every_form(call: Call, net: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    folder, asked = prune(call), options(evaluate="noisy")
    answer = call("gate", folder, *asked, "--max-drop", "0.01", "--json")
    assert answer.status == 0 and answer.document["verdict"] == "yes" and answer.document["images"] == 60
    assert "as the program that it is" in answer.err
    monkeypatch.setattr(net, "LOSS", 0.05)
    files = ("--junit", tmp_path / "gate.xml", "--markdown", tmp_path / "gate.md")
    answer = call("gate", folder, *asked, "--max-drop", "0.01", *files)
    assert answer.status == 1 and "60 samples, the same for both models" in answer.out
    assert answer.out.splitlines()[-1] == "no: it must not be merged"
    assert ElementTree.parse(tmp_path / "gate.xml").getroot().get("failures") == "1"
    assert "60 samples" in (tmp_path / "gate.md").read_text()
    assert call("gate", folder, *options(evaluate="one_figure"), "--max-drop", "1").status == 0
    assert call("gate", folder, *options(evaluate="one_figure"), "--max-drop", "1", "--strict").status == 1


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (["gate", "cut.tp"], "give --evaluate"),
        (["gate", "missing.tp", "--evaluate", f"{NET}:noisy"], "missing.tp"),
        (["gate", "cut.tp", "--evaluate", f"{NET}:missing"], f"{NET} has no missing"),
        (["gate", "cut.tp", "--evaluate", f"{NET}:build"], "takes 0 positional arguments"),
        (["gate", "cut.tp", "--evaluate", f"{NET}:text"], "have it return a number"),
        (["gate", "cut.tp", "--evaluate", f"{NET}:noisy", "--junit", "missing/gate.xml"], "missing"),
        (["gate", "cut.tp", "--evaluate", f"{NET}:noisy", "--against", "missing.tp"], "missing.tp"),
        (["compress", "--target", "flops=60%"], "give -o FOLDER"),
        (["compress", "-o", "out"], "no target"),
        (["compress", "-o", "out", "--target", "flops=60%", "--max-drop", "0.1"], "give --evaluate"),
        (["compress", "-o", "out", "--target", "flops=60%", "--criterion", "nonsense"], "nonsense"),
        (["compress", "-o", "cut.tp", "--target", "flops=60%"], "has files already"),
        (["report", "cut.tp", "-o", "report.txt"], "must end in"),
        (["report", "missing.yaml", "-o", "report.html"], "missing.yaml"),
        (["report", "cut.tp", "-o", "report.html", "--recovered", "cut.tp"], "give --evaluate"),
        (["report", "cut.tp", "-o", "report.html", "--recovered", "missing.tp", "--evaluate", f"{NET}:noisy"], "missing.tp"),
    ],
)
def test_bad_input_is_refused_in_one_line_and_nothing_is_written(call: Call, tmp_path: Path, command: list[str], said: str):
    prune(call)
    before = files_in(tmp_path)
    answer = call(*command, *options())
    assert (answer.status, answer.out) == (2, "") and said in answer.remarks[-1] and answer.remarks[-1].startswith("tui-pruner: ")
    assert "Traceback" not in answer.err
    assert files_in(tmp_path) == before


def text_of(page: str) -> str:
    """The words of a page."""
    return unescape(re.sub(r"<[^>]*>", " ", re.sub(r"<style>.*?</style>", "", page, flags=re.DOTALL)))


def test_report_of_a_folder_without_functions_has_sizes_and_proofs(call: Call):
    answer = call("report", prune(call), *options(), "-o", "report.html", "--json")
    assert answer.status == 0 and answer.document["proved"] and answer.document["metrics"] is None
    text = text_of(Path("report.html").read_text())
    assert "1 step proved equal to the masked twin" in text and "of the example inputs" in text and "Accuracy" not in text
    assert NOT_OF_MODULES.findall(text) == []


def test_report_measures_the_refitted_folder_beside_the_cut_module(call: Call):
    asked, name = options(batches="batches"), "metrics/minus_distance"
    prune(call)
    assert call("reconstruct", "cut.tp", *asked, "-o", "refit.tp").status == 0
    answer = call("report", "refit.tp", *options(evaluate="minus_distance"), "--latency", "-o", "report.html", "--json")
    assert answer.status == 0, answer.err
    original, cut, refitted = answer.document["stages"]
    assert [original["name"], cut["name"], refitted["name"]] == ["original", "cut", "refitted"]
    assert original["metrics"][name] == 0 > refitted["metrics"][name] > cut["metrics"][name]
    assert cut["metrics"] == answer.document["metrics"]["after"]["metrics"]
    assert answer.document["metrics"]["before"]["images"] == 16 and len(answer.document["latency"]["models"]) == 2
    text = text_of(Path("report.html").read_text())
    assert f"by {NET}:minus_distance on 16 samples" in text and "95 % interval" in text and "the example inputs (2 samples)" in text
    assert NOT_OF_MODULES.findall(text) == []


def test_report_takes_only_a_folder_of_the_same_cut(call: Call):
    prune(call, "first.tp")
    assert call("prune", *options(), "--cut", "0=25%", "-o", "second.tp").status == 0
    asked = (*options(evaluate="noisy"), "--recovered", "second.tp", "-o", "report.html")
    answer = call("report", "first.tp", *asked)
    assert answer.status == 2 and answer.remarks[-1].endswith("second.tp is not this plan's module: its own plan removes other channels")
    assert not any(f"running {NET}:noisy" in line for line in answer.remarks), "it is refused before anything is measured"


PRIVATE = ("private", "hidden", NET)


def test_redacted_report_has_no_name_of_the_code_or_its_files(call: Call, net: ModuleType, tmp_path: Path):
    renamed = {"build()": "hidden_build()", "minus_distance": "hidden_distance", "inputs()": "hidden_inputs()"}
    source = SOURCE + "class HiddenPart(nn.Conv2d):\n    pass\n\nclass HiddenNet(nn.Sequential):\n    pass\n"
    source = source.replace("return nn.Sequential(*trunk", "return HiddenNet(*trunk").replace("nn.Conv2d(8, 8", "HiddenPart(8, 8")
    for name, to in renamed.items():
        source = source.replace(name, to)
    (tmp_path / "private_net.py").write_text(source)
    asked = ["--model", "private_net:hidden_build", "--inputs", "private_net:hidden_inputs", "--evaluate", "private_net:hidden_distance"]
    assert call("prune", *asked[:4], "--cut", "0=50%", "-o", "private.tp").status == 0
    for kind in ("html", "md"):
        more = ("--recovered", "private.tp", "--latency", "--redact", "-o", f"report.{kind}", "--json")
        answer = call("report", "private.tp", *asked, *more)
        assert answer.status == 0, answer.err
        facts = {name: value for name, value in answer.document.items() if name != "output"}
        shown = text_of(Path(f"report.{kind}").read_text()) + json.dumps(facts)
        assert [name for name in PRIVATE if name in shown.lower()] == []
        assert "package.module:evaluate" in shown and "recovered.tp" in shown and "Module" in shown
    plain = call("report", "private.tp", *asked, "-o", "plain.md")
    shown = Path("plain.md").read_text()
    assert plain.status == 0 and all(name in shown for name in ("private_net:hidden_build", "HiddenNet", "HiddenPart"))


def commands_in(page: Path) -> list[list[str]]:
    """The commands that a report prints, as the shell splits them."""
    block = re.search(r"<pre><code>(tui-pruner .*?)</code></pre>", page.read_text(), flags=re.DOTALL)
    assert block is not None
    return [shlex.split(line) for line in unescape(block[1]).splitlines()]


def test_compression_killed_in_the_middle_resumes_and_the_commands_of_its_report_run(call: Call, tmp_path: Path):
    hooks = options(batches="batches", evaluate="minus_distance", train="train")
    asked = ("compress", *hooks, "--target", "flops=60%", "--runs", "0", "-o", "out", "--json")
    child = start(*asked, cwd=tmp_path, env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)})
    assert child.stderr is not None
    for line in child.stderr:
        if line.startswith("refit"):
            child.kill()
    child.communicate()
    assert child.returncode == -9 and not (tmp_path / "out" / "compressed.tp").exists()
    answer = call(*asked)
    assert answer.status == 0, answer.err
    kept = {stage["name"].split()[0]: stage["kept"] for stage in answer.document["stages"]}
    assert kept["original"] and kept["plan"] and kept["cut"] and not kept["fine-tune"]
    page = Path("out/report.html")
    printed = commands_in(page)
    assert [words[1] for words in printed] == ["prune", "prove", "validate", "report"]
    for words in printed:
        again = call(*words[1:], *(["--force"] if words[1] == "report" else []))
        assert again.status == 0, (words, again.err)
    assert NOT_OF_MODULES.findall(text_of(page.read_text())) == []
