"""A cut whose proof fails is neither written nor measured; commands exit with 1 and print the figures."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests.cli.conftest import Answer, Call, Pruned, spawn
from tests.damage import damaged_environment


def damaged(*arguments: object) -> Answer:
    """The command line with a surgery that damages what it cuts."""
    return spawn(*arguments, env=damaged_environment())


def test_prune_writes_nothing_keeps_an_older_file_and_reports_the_figures(demo_checkpoint: Path, tmp_path: Path):
    (tmp_path / "out.pt").write_bytes(b"older")
    output = ["-o", tmp_path / "out.pt", "--force", "--save-plan", tmp_path / "plan.yaml"]
    answer = damaged("prune", demo_checkpoint, "--cut", "model.5=30%", *output, "--json")
    assert (answer.status, len(answer.remarks)) == (1, 1)
    assert answer.document.keys() == {"output", "proof"}
    proof = answer.document["proof"]
    assert (answer.document["output"], proof["equal"], proof["verdict"]) == (None, False, "not equal")
    assert proof["relative_difference"] > 1e-4
    assert (proof["elements"] > 0, proof["not_exercised"]) == (True, [])
    assert [(file.name, file.read_bytes()) for file in tmp_path.iterdir()] == [("out.pt", b"older")]


def test_plan_is_not_written_and_one_line_has_the_reason(pruned: Pruned, demo_checkpoint: Path, tmp_path: Path):
    answer = damaged("prune", demo_checkpoint, "--plan", pruned.plan, "-o", tmp_path / "out.pt")
    assert (answer.status, answer.out, len(answer.remarks)) == (1, "", 1)
    assert answer.err.startswith("tui-pruner: not written: step 1 is not proved: the masked twin disagrees: relative difference")
    assert answer.err.endswith("leave out what it cuts\n")
    assert list(tmp_path.iterdir()) == []


def test_unproved_plan_is_not_measured(
    pruned: Pruned, demo_checkpoint: Path, demo_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))  # another test may have measured the same plan, proved
    answer = damaged("validate", demo_checkpoint, "--plan", pruned.plan, "--data", demo_data, "--images", 2, "--json")
    assert (answer.status, answer.document["output"], answer.document["proof"]["equal"]) == (1, None, False), answer.err


def test_report_on_an_unproved_plan_says_so_and_measures_nothing(
    pruned: Pruned, demo_checkpoint: Path, demo_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    options = ["--validation-images", 2, "--images", 2, "--data", demo_data, "--json"]
    answer = damaged("report", pruned.plan, "-o", tmp_path / "report.md", "--model", demo_checkpoint, *options)
    assert (answer.status, answer.document["proved"], answer.document["metrics"]) == (1, False, None)
    assert answer.document["pictures"] == []
    assert "NOT EQUAL to the masked twin after step 1" in (tmp_path / "report.md").read_text()


def test_demo_stops_at_the_proof(tmp_path: Path):
    environment = {**damaged_environment(), "TMPDIR": str(tmp_path)}
    answer = spawn("demo", "--report", "--json", env=environment)
    assert (answer.status, answer.document["output"], answer.document["proof"]["equal"]) == (1, None, False)
    assert not list(tmp_path.rglob("*.pt"))


@pytest.fixture
def unproved_file(pruned: Pruned, tmp_path: Path) -> Path:
    """A file as the app wrote them when it did not look at the proof."""
    content = torch.load(pruned.file, map_location="cpu", weights_only=False)
    content["tui_pruner"]["proof"] = {**content["tui_pruner"]["proof"], "equal": False, "relative_difference": 0.3}
    torch.save(content, tmp_path / "unproved.pt")
    return tmp_path / "unproved.pt"


@pytest.mark.parametrize("command", [["recalibrate", "--images", 2], ["finetune", "--epochs", 1], ["export", "--format", "torchscript"]])
def test_file_once_written_without_a_proof_is_refused_as_input(
    unproved_file: Path, demo_data: Path, tmp_path: Path, call: Call, command: list[object]
):
    name, *options = command
    answer = call(name, unproved_file, "--data", demo_data, *options, "-o", tmp_path / f"out.{'torchscript' if name == 'export' else 'pt'}")
    assert answer.status == 1, answer.err
    assert answer.remarks[-1].endswith("was cut without a proof (its twin disagreed): prune digits.pt again")
    assert list(tmp_path.iterdir()) == [unproved_file]
