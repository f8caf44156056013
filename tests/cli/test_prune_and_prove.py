"""`prune` and `prove`: the written file is what was reported, and a modified file is detected."""

from __future__ import annotations

import dataclasses
import hashlib
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from tests.cli.conftest import FIELD_MODEL, Call, Pruned
from tui_pruner.cli.commands.prune import verdict
from tui_pruner.core.pruning.proof import Proof

PROOF_KEYS = {"equal", "max_abs_difference", "relative_difference", "approximate"}


def raw(path: Path) -> dict[str, Any]:
    return torch.load(path, map_location="cpu", weights_only=False)


def weights(path: Path) -> dict[str, torch.Tensor]:
    return raw(path)["model"].state_dict()


def test_prune_reports_what_it_wrote(pruned: Pruned):
    document = pruned.answer.document
    content = pruned.file.read_bytes()
    assert (document["output"], document["sha256"]) == (str(pruned.file), hashlib.sha256(content).hexdigest())
    assert document["bytes"] == len(content)
    assert document["before"]["parameters"] == 3_012_798
    assert document["after"]["parameters"] == sum(parameter.numel() for parameter in raw(pruned.file)["model"].parameters())
    assert document["after"]["flops"] < document["before"]["flops"]
    assert document["proof"].keys() >= PROOF_KEYS
    assert document["proof"]["equal"] is True
    assert document["proof"]["relative_difference"] < 1e-4 < document["proof"]["effect"]
    assert document["proof"]["approximate"] == []
    assert document["reload"]["ok"] is True
    assert len(document["reload"]["checks"]) == 7
    assert pruned.answer.remarks == ["serialising", "writing 6.0 MB", "verifying in a clean process", "done"]


def test_kept_lists_the_original_indices_of_every_cut_parameter_and_buffer(pruned: Pruned, demo_checkpoint: Path):
    kept = pruned.answer.document["kept"]
    original, written = weights(demo_checkpoint), weights(pruned.file)
    assert original.keys() == written.keys()
    assert kept.keys() == {name for name, tensor in original.items() if tensor.shape != written[name].shape}
    assert {"model.6.m.0.cv1.conv.weight", "model.6.cv1.bn.running_mean"} <= kept.keys()
    for name, tensor in original.items():
        for dim, indices in kept.get(name, {}).items():
            assert indices == sorted(set(indices))
            tensor = tensor.index_select(int(dim), torch.tensor(indices))
        assert torch.equal(tensor, written[name]), name
    assert (len(kept["model.6.m.0.cv1.conv.weight"]["0"]), len(kept["model.6.cv1.conv.weight"]["0"])) == (45, 96)
    assert len(kept["model.12.cv2.conv.weight"]["0"]) == 102


def test_prove_reports_equal_for_the_file_that_prune_wrote(call: Call, pruned: Pruned, demo_checkpoint: Path):
    answer = call("prove", demo_checkpoint, pruned.file, "--json")
    assert answer.status == 0
    assert answer.document.keys() >= PROOF_KEYS
    assert answer.document["equal"] is True
    assert answer.document["relative_difference"] < 1e-4
    spoken = call("prove", demo_checkpoint, pruned.file)
    assert spoken.status == 0
    assert spoken.out.startswith("proved     equal to the masked twin: relative difference")


def exchange_two_kept_channels(model: Any) -> None:
    weight = model.get_submodule("model.12.cv2.conv").weight
    weight[[0, 1]] = weight[[1, 0]]


def scale_one_kept_slice(model: Any) -> None:
    model.get_submodule("model.6.m.0.cv1.conv").weight[3].mul_(1.1)


def break_a_weight(model: Any) -> None:
    model.get_submodule("model.6.m.0.cv1.conv").weight[3, 0, 0, 0] = float("nan")


@pytest.mark.parametrize(
    ("tamper", "figure"), [(exchange_two_kept_channels, float), (scale_one_kept_slice, float), (break_a_weight, type(None))]
)
def test_prove_exits_with_1_for_modified_weights(call: Call, pruned: Pruned, demo_checkpoint: Path, tmp_path: Path, tamper, figure):
    content = raw(pruned.file)
    with torch.no_grad():
        tamper(content["model"])
    torch.save(content, tmp_path / "tampered.pt")
    answer = call("prove", demo_checkpoint, tmp_path / "tampered.pt", "--json")
    assert answer.status == 1
    assert answer.document["equal"] is False
    assert type(answer.document["relative_difference"]) is figure
    assert call("prove", demo_checkpoint, tmp_path / "tampered.pt").out.startswith("NOT EQUAL")


def test_unexercised_cut_is_reported_in_words():
    unproved = Proof(False, 0.0, 0.0, 0.0, "float64", (), 0.1, not_exercised=("model.17.aux_head.0.conv",), elements=12)
    assert verdict(unproved) == "NOT EXERCISED  not exercised, since nothing that could be compared depends on it: model.17.aux_head.0.conv"
    assert unproved.plain()["not_exercised"] == ["model.17.aux_head.0.conv"]
    many = dataclasses.replace(unproved, not_exercised=tuple(f"model.{n}" for n in range(9)))
    assert many.reason.endswith("depends on it: model.0, model.1, model.2, model.3 and 5 more")


def test_prove_needs_a_plan_in_the_file_and_its_original(call: Call, pruned: Pruned, demo_checkpoint: Path):
    without = call("prove", demo_checkpoint, demo_checkpoint)
    assert (without.status, len(without.remarks)) == (2, 1)
    assert "was not written by this program: it has no plan to prove" in without.err
    other = call("prove", pruned.file, pruned.file)
    assert (other.status, len(other.remarks)) == (2, 1)
    assert "the plan was made for digits.pt (44ccea2f7277), not for this checkpoint" in other.err


def test_saved_plan_is_replayed_to_the_same_weights(call: Call, pruned: Pruned, demo_checkpoint: Path, tmp_path: Path):
    plan = yaml.safe_load(pruned.plan.read_text())
    assert plan["sha256"] == hashlib.sha256(demo_checkpoint.read_bytes()).hexdigest()
    assert [cut["layer"] for cut in plan["steps"][0]["cuts"]] == ["model.6.m.*.cv1", "6.cv1", "model.12.cv2"]
    again = call("prune", demo_checkpoint, "--plan", pruned.plan, "-o", tmp_path / "again.pt", "--json")
    assert again.status == 0
    assert again.document["kept"] == pruned.answer.document["kept"]
    first, second = weights(pruned.file), weights(tmp_path / "again.pt")
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_cuts_are_added_to_a_plan(call: Call, pruned: Pruned, demo_checkpoint: Path):
    answer = call("preview", demo_checkpoint, "--plan", pruned.plan, "--cut", "model.5=keep:100", "--json")
    assert answer.status == 0
    widths = {name: width["out_after"] for name, width in answer.document["layers"].items()}
    assert (widths["model.5"], widths["model.12.cv2"]) == (100, 102)
    assert answer.document["before"]["parameters"] == 3_012_798


def test_model_from_a_yaml_is_pruned_and_proved(call: Call, tmp_path: Path):
    answer = call("prune", *FIELD_MODEL, "--cut", "model.8.m.0.cv1=keep:109", "-o", tmp_path / "out.pt")
    assert answer.status == 0
    assert "proved     equal to the masked twin" in answer.out
    assert weights(tmp_path / "out.pt")["model.8.m.0.cv1.conv.weight"].shape[0] == 109
    assert call("prove", *FIELD_MODEL, tmp_path / "out.pt").status == 0
    assert call("prove", "yolov8n.yaml", tmp_path / "out.pt").status == 2


def test_contradictory_cuts_are_refused(call: Call, demo_checkpoint: Path, tmp_path: Path):
    answer = call("prune", demo_checkpoint, "--cut", "model.5=30%", "--cut", "model.5.conv=40%", "-o", tmp_path / "out.pt", "--json")
    assert (answer.status, answer.out, len(answer.remarks)) == (1, "", 1)
    assert "model.5" in answer.err
    assert list(tmp_path.iterdir()) == []


def test_pruned_file_is_pruned_further(call: Call, pruned: Pruned, tmp_path: Path):
    answer = call("prune", pruned.file, "--cut", "model.12.cv2=keep:90", "-o", tmp_path / "second.pt", "--json")
    assert answer.status == 0
    assert len(answer.document["kept"]["model.12.cv2.conv.weight"]["0"]) == 90
    assert answer.document["before"]["parameters"] == pruned.answer.document["after"]["parameters"]
    assert call("prove", pruned.file, tmp_path / "second.pt").status == 0
