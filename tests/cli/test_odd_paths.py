"""Files whose names are not UTF-8 on the command line: what it says of them is JSON, leads to the very file, and can be printed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.cli.conftest import Call, spawn
from tests.deadlines import HANGING
from tests.odd_names import CAFE, SHOWN, odd_copy, odd_path
from tui_pruner.core.pruning.plan import Cut, Plan, Step, read_plan, save_plan
from tui_pruner.storage.trust import fingerprint

ASCII = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
"""Of a machine whose names of files are ASCII."""
WITHOUT_UTF8 = {name: value for name, value in os.environ.items() if not name.startswith(("LC_", "PYTHONUTF8", "PYTHONIOENCODING"))}


def test_plan_with_odd_paths_is_applied_by_a_process_with_an_ascii_locale(demo_checkpoint: Path, tmp_path: Path):
    file = odd_copy(demo_checkpoint, tmp_path, "fü".encode() + b"\xe9.pt")
    asked, plan = odd_path(tmp_path, b"asked\xe9.yaml"), odd_path(tmp_path, b"pl\xe9n.yaml")
    save_plan(asked, Plan(checkpoint=file.name, sha256=fingerprint(file), steps=[Step(cuts=[Cut(layer="model.6.cv1", amount="25%")])]))
    cut = tmp_path / "cut-ü\udce9.pt"
    arguments = ("--plan", asked, "--imgsz", 64, "-o", cut, "--save-plan", plan, "--json")
    made = spawn("prune", file, *arguments, env={**WITHOUT_UTF8, **ASCII})
    assert made.status == 0, made.err
    assert made.document["output"] == str(cut) and made.document["sha256"] == fingerprint(cut)
    assert read_plan(plan).checkpoint == file.name
    content = torch.load(cut, weights_only=False)["tui_pruner"]
    assert content["source"]["name"] == content["plan"]["checkpoint"] == file.name


def test_errors_about_odd_paths_are_printable(tmp_path: Path, call: Call):
    missing = call("inspect", tmp_path / CAFE)
    assert missing.status == 2 and missing.err == f"tui-pruner: {tmp_path}/{SHOWN}: no such file; check the path\n"
    misused = call("inspect", "model.pt", CAFE)
    assert misused.status == 2 and SHOWN in misused.err


@pytest.mark.parametrize("encoding", [{}, ASCII])
def test_locate_prints_the_exact_bytes_of_a_path(encoding: dict[str, str], tmp_path: Path):
    state = odd_path(tmp_path, "ü".encode() + b"\xe9")
    environment = {**WITHOUT_UTF8, **encoding, "XDG_STATE_HOME": str(state)}
    command = [sys.executable, "-m", "tui_pruner", "locate", "state"]
    for arguments, told in (([], lambda out: os.fsdecode(out.strip())), (["--json"], lambda out: json.loads(out)["state"])):
        done = subprocess.run([*command, *arguments], capture_output=True, check=True, env=environment, timeout=HANGING)
        assert told(done.stdout) == str(state / "tui-pruner")
