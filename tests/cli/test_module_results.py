"""`gate`, `compress` and `report` on any module: verdicts, files, and commands that run as they are printed."""

from __future__ import annotations

import re
from pathlib import Path
from types import ModuleType
from xml.etree import ElementTree

import pytest

from tests.cli.conftest import Call
from tests.small_module import NET, options, project

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
