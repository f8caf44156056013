"""`--keep-classes`: previewed, pruned into a file with its names, planned behind, reported; refused in one line with nothing written."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import yaml

from tests.cli.conftest import Call


def test_prune_keeps_classes_by_name_and_the_file_has_their_original_numbers(call: Call, demo_checkpoint: Path, tmp_path: Path) -> None:
    plan = tmp_path / "plan.yaml"
    kept = ("--keep-classes", "seven, 1", "--cut", "model.6.m.0.cv1=30%")
    previewed = call("preview", demo_checkpoint, *kept, "--json").document
    assert previewed["layers"]["model.22.cv3.1.2"] == {
        "out_before": 10, "out_after": 2, "in_before": 64, "in_after": 64, "asked": True, "parameters_after": 130, "flops_after": 25_600,
    }  # fmt: skip
    document = call("prune", demo_checkpoint, *kept, "-o", tmp_path / "two.pt", "--save-plan", plan, "--json").document
    assert document["proof"]["equal"] and document["kept"]["model.22.cv3.0.2.weight"]["0"] == [1, 7]
    content = torch.load(tmp_path / "two.pt", map_location="cpu", weights_only=False)
    names = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
    assert content["model"].names == {0: "one", 1: "seven"} and content["model"].yaml["nc"] == 2
    assert content["tui_pruner"]["classes"] == [{"names": names, "kept": [1, 7]}]
    assert yaml.safe_load(plan.read_text())["steps"][0]["cuts"][0]["amount"] == "keep:seven,1"
    assert call("prove", demo_checkpoint, tmp_path / "two.pt", "--json").document["equal"]
    report = call("report", plan, "--model", demo_checkpoint, "-o", tmp_path / "report.md", "--json")
    assert report.status == 0, report.err
    assert report.document["classes"] == ["one", "seven"]
    assert "Of 10 classes 2 stay, in this order: one, seven." in (tmp_path / "report.md").read_text()


def test_plan_reaches_its_target_after_a_cut_of_classes(call: Call, demo_checkpoint: Path, tmp_path: Path) -> None:
    answer = call("plan", demo_checkpoint, "--keep-classes", "0,1", "--target", "flops=80%", "-o", tmp_path / "plan.yaml", "--json")
    first, second = answer.document["plan"]["steps"]
    assert [cut["layer"] for cut in first["cuts"]] == ["classes"] and len(second["cuts"]) > 5
    assert answer.document["reached"]["flops"] <= 0.8


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ("eleven", "no class 'eleven' in this model; there are zero, one, two, three, four, five and 4 more (numbers 0 to 9)"),
        ("0,1,2,3,4,5,6,7,8,9", "classes=0,1,2,3,4,5,6,7,8,9 keeps all 10 classes: name fewer, or leave it out"),
        (" , ", "which classes? name those to keep, by names or numbers: classes=person,car"),
    ],
)
def test_invalid_classes_are_refused_in_one_line_and_nothing_is_written(
    call: Call, demo_checkpoint: Path, tmp_path: Path, asked: str, said: str
) -> None:
    answer = call("prune", demo_checkpoint, "--keep-classes", asked, "-o", tmp_path / "out.pt")
    assert answer.status == 2 and answer.remarks == [f"tui-pruner: {said}"]
    assert not list(tmp_path.iterdir())
