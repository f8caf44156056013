"""Soft pruning: the masked file has all shapes, zeros where the plan cuts, and the outputs of the cut model; it can be cut later."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.cli.conftest import Answer, Call, Pruned, spawn

MAP = "metrics/mAP50-95(B)"
MASKED = ("--cut", "model.6.m.*.cv1=30%", "--cut", "6.cv1=25%", "--cut", "model.12.cv2=20%")
"""The cuts of the pruned file that the other tests have."""


def raw(path: Path) -> dict[str, Any]:
    return torch.load(path, map_location="cpu", weights_only=False)


def weights(path: Path) -> dict[str, torch.Tensor]:
    return raw(path)["model"].state_dict()


@dataclass(frozen=True)
class Masked:
    """The bundled checkpoint with the channels of a plan at zero."""

    file: Path
    answer: Answer


@pytest.fixture(scope="session")
def masked(demo_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Masked:
    file = tmp_path_factory.mktemp("masked") / "digits-masked.pt"
    answer = spawn("prune", demo_checkpoint, *MASKED, "--mask", "-o", file, "--json")
    assert answer.status == 0, answer.err
    return Masked(file, answer)


def test_only_the_named_slices_are_zero_and_nothing_else_has_changed(masked: Masked, demo_checkpoint: Path):
    original, found, slices = weights(demo_checkpoint), weights(masked.file), masked.answer.document["masked"]
    assert original.keys() == found.keys()
    for name, tensor in original.items():
        expected = tensor.clone()
        for dim, indices in slices.get(name, {}).items():
            assert indices == sorted(set(indices)) and indices
            expected.index_fill_(int(dim), torch.tensor(indices), 0)
        assert torch.equal(expected, found[name]), name
    assert (len(slices["model.12.cv2.conv.weight"]["0"]), len(slices["model.15.cv1.conv.weight"]["1"])) == (26, 26)
    document = masked.answer.document
    assert document["before"] == document["after"] and document["structural"]["parameters"] < document["after"]["parameters"]
    assert document["proof"]["equal"] is True and document["reload"]["ok"] is True and "kept" not in document


def test_masked_slices_equal_those_that_the_cut_removes(masked: Masked, pruned: Pruned, demo_checkpoint: Path):
    original, kept, slices = weights(demo_checkpoint), pruned.answer.document["kept"], masked.answer.document["masked"]
    parameters = {name for name, _ in raw(demo_checkpoint)["model"].named_parameters()}
    assert slices.keys() == kept.keys() & parameters
    for name, by_dim in slices.items():
        for dim, indices in by_dim.items():
            assert sorted({*indices, *kept[name][dim]}) == list(range(original[name].shape[int(dim)]))


def test_file_is_marked_as_masked_and_stock_ultralytics_rebuilds_it(masked: Masked, call: Call):
    content = raw(masked.file)
    record = content["tui_pruner"]
    assert record["stages"][-1]["kind"] == "mask" and record["masked"] == masked.answer.document["masked"]
    assert [cut["layer"] for cut in record["plan"]["steps"][0]["cuts"]] == ["model.6.m.*.cv1", "6.cv1", "model.12.cv2"]
    from ultralytics.nn.tasks import DetectionModel

    again = DetectionModel(content["model"].yaml, verbose=False)  # as train() does
    assert {name: tensor.shape for name, tensor in again.state_dict().items()} == {n: t.shape for n, t in weights(masked.file).items()}
    told = call("inspect", masked.file, "--json")
    assert told.document["model"]["masked"] == {"holds": True, "channels": 128, "layers": 6, "source": "digits.pt"}
    assert any(line.startswith("masked: 128 output channels of 6 layers are zero") for line in told.remarks)
    spoken = call("inspect", masked.file)
    assert "masked: 128 output channels of 6 layers are zero, all shapes are those of digits.pt" in spoken.out and not spoken.err


def test_masked_and_cut_model_have_the_same_metric(masked: Masked, pruned: Pruned, demo_data: Path, call: Call):
    options = ["--data", demo_data, "--images", 16, "--json"]
    soft, hard = (call("validate", file, *options).document["metrics"] for file in (masked.file, pruned.file))
    assert soft.keys() == hard.keys()
    assert {name: soft[name] for name in soft} == pytest.approx(hard, abs=1e-4)
    assert 0.5 < soft[MAP] < 0.95


def test_plan_is_measured_as_a_mask_without_a_file(demo_checkpoint: Path, demo_data: Path, tmp_path: Path, call: Call):
    plan = tmp_path / "plan.yaml"
    assert call("steps", demo_checkpoint, *MASKED, "--save-plan", plan).status == 0
    options = [demo_checkpoint, "--plan", plan, "--data", demo_data, "--images", 8, "--json"]
    soft, hard = (call("validate", *options, *how).document for how in (["--mask"], []))
    assert not soft["cached"] and not hard["cached"]
    assert soft["metrics"] == pytest.approx(hard["metrics"], abs=1e-4)


def test_masked_file_is_proved_and_a_modified_one_is_not(masked: Masked, demo_checkpoint: Path, tmp_path: Path, call: Call):
    answer = call("prove", demo_checkpoint, masked.file, "--json")
    assert (answer.status, answer.document["equal"]) == (0, True) and answer.document["relative_difference"] < 1e-4
    content = raw(masked.file)
    with torch.no_grad():
        content["model"].get_submodule("model.0.conv").weight[0] *= 1.01
    torch.save(content, tmp_path / "tampered.pt")
    refused = call("prove", demo_checkpoint, tmp_path / "tampered.pt", "--json")
    assert (refused.status, refused.document["equal"]) == (1, False)
    assert refused.document["reason"] == "these are not the masked twin's: model.0.conv.weight"


def test_pruning_the_masked_file_without_cuts_gives_the_cut_file_bit_by_bit(
    masked: Masked, pruned: Pruned, demo_checkpoint: Path, tmp_path: Path, call: Call
):
    answer = call("prune", masked.file, "-o", tmp_path / "cut.pt", "--json")
    assert answer.status == 0, answer.err
    assert answer.document["kept"] == pruned.answer.document["kept"]
    assert answer.document["proof"]["equal"] is True
    soft, hard = weights(tmp_path / "cut.pt"), weights(pruned.file)
    assert soft.keys() == hard.keys() and all(torch.equal(soft[name], hard[name]) for name in soft)
    assert [stage["kind"] for stage in raw(tmp_path / "cut.pt")["tui_pruner"]["stages"]] == ["mask", "prune"]
    for original in (masked.file, demo_checkpoint):
        assert call("prove", original, tmp_path / "cut.pt").status == 0
    assert call("inspect", tmp_path / "cut.pt", "--json").document["model"]["masked"] is None


def test_further_cuts_are_added_to_those_of_the_mask(masked: Masked, demo_checkpoint: Path, tmp_path: Path, call: Call):
    seen = call("preview", masked.file, "--cut", "model.5=keep:100", "--json").document
    assert {name: seen["layers"][name]["out_after"] for name in ("model.5", "model.12.cv2")} == {"model.5": 100, "model.12.cv2": 102}
    more = call("prune", masked.file, "--cut", "model.5=keep:100", "--mask", "-o", tmp_path / "more.pt", "--json")
    assert more.status == 0, more.err
    assert len(more.document["masked"]["model.5.conv.weight"]["0"]) == 28
    assert len(more.document["masked"]["model.12.cv2.conv.weight"]["0"]) == 26
    assert call("prove", demo_checkpoint, tmp_path / "more.pt").status == 0


def zeros_survive_training_steps(file: Path) -> bool:
    """Whether the masked slices are still zero after five steps of training on noise."""
    from ultralytics.cfg import get_cfg

    from tui_pruner.core.pruning.masks import all_zero
    from tui_pruner.frameworks.ultralytics import read_checkpoint

    checkpoint = read_checkpoint(file)
    model: Any = checkpoint.model.train()
    model.args = get_cfg(overrides=model.args)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(".dfl" not in name)
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9, weight_decay=5e-4)
    torch.manual_seed(0)
    for _ in range(5):
        boxes = {"cls": torch.randint(0, 10, (8, 1)).float(), "bboxes": torch.rand(8, 4) * 0.4 + 0.2, "batch_idx": torch.arange(8) // 2}
        loss, _ = model({"img": torch.rand(4, 3, 64, 64), **boxes})
        optimizer.zero_grad()
        loss.sum().backward()
        optimizer.step()
    assert sum(not torch.equal(before[name], parameter) for name, parameter in model.named_parameters()) > 180
    return all_zero(model, checkpoint.provenance["masked"])


def test_training_keeps_masked_channels_at_zero_but_not_a_dropped_block(masked: Masked, demo_checkpoint: Path, tmp_path: Path, call: Call):
    """Neither written nor read, a channel has no gradient; the last norm of a dropped block has one, since its convolutions stay."""
    assert zeros_survive_training_steps(masked.file)
    assert call("prune", demo_checkpoint, "--cut", "model.4.m.0=drop", "--mask", "-o", tmp_path / "dropped.pt").status == 0
    assert not zeros_survive_training_steps(tmp_path / "dropped.pt")


def trained(file: Path, output: Path) -> Path:
    """A masked file whose zeros a training moved."""
    content = raw(file)
    with torch.no_grad():
        content["model"].get_submodule("model.12.cv2.conv").weight += 0.01
    record = content["tui_pruner"]
    record["stages"] = [*record["stages"], {"kind": "finetune", "source": {"name": file.name, "sha256": "0" * 64}}]
    torch.save(content, output)
    return output


def test_masked_slices_that_training_changed_are_reported_and_not_removed(masked: Masked, tmp_path: Path, call: Call):
    file = trained(masked.file, tmp_path / "tuned.pt")
    told = call("inspect", file, "--json")
    assert told.document["model"]["masked"]["holds"] is False
    assert any("did not stay zero (finetune)" in line for line in told.remarks)
    refused = call("prune", file, "-o", tmp_path / "out.pt")
    assert (refused.status, refused.out, len(refused.remarks)) == (2, "", 1)
    assert "the channels did not stay zero (finetune)" in refused.err and not (tmp_path / "out.pt").exists()
    assert call("preview", file, "--cut", "model.5=30%").status == 0


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--keep-classes", "0,1"], "a mask keeps all shapes, and so all classes"),
        (["--cut", "model.6=nope"], "is not a number"),
    ],
)
def test_cuts_that_a_mask_cannot_represent_are_refused(
    options: list[str], expected: str, demo_checkpoint: Path, tmp_path: Path, call: Call
):
    refused = call("prune", demo_checkpoint, *options, "--mask", "-o", tmp_path / "out.pt")
    assert (refused.status, refused.out, len(refused.remarks)) == (2, "", 1)
    assert expected in refused.err and list(tmp_path.iterdir()) == []


def test_dropped_block_is_masked_only_where_zeros_silence_it(demo_checkpoint: Path, tmp_path: Path, call: Call):
    silenced = call("prune", demo_checkpoint, "--cut", "model.4.m.0=drop", "--mask", "-o", tmp_path / "out.pt", "--json")
    assert silenced.status == 0, silenced.err
    assert silenced.document["masked"]["model.4.m.0.cv2.bn.weight"] == {"0": list(range(32))}
    refused = call("prune", demo_checkpoint, "--cut", "model.12.m.0=drop", "--mask", "-o", tmp_path / "other.pt")
    assert (refused.status, refused.out) == (2, "")
    assert refused.remarks[-1].startswith("tui-pruner: no zeros make model.12.m.0 return its input: prune without --mask")


def test_file_with_an_invalid_mask_record_is_read_as_unmasked(masked: Masked, tmp_path: Path, call: Call):
    content = raw(masked.file)
    content["tui_pruner"]["masked"] = {"model.99.weight": {"zero": "many"}}
    torch.save(content, tmp_path / "odd.pt")
    assert call("inspect", tmp_path / "odd.pt", "--json").document["model"]["masked"] is None
    refused = call("prune", tmp_path / "odd.pt", "-o", tmp_path / "out.pt")
    assert (refused.status, len(refused.remarks)) == (2, 1) and "nothing to cut" in refused.err


def test_masked_file_is_recalibrated_but_not_refitted(masked: Masked, demo_data: Path, tmp_path: Path, call: Call):
    calm = call("recalibrate", masked.file, "--data", demo_data, "--images", 4, "-o", tmp_path / "calm.pt", "--json")
    assert calm.status == 0, calm.err
    assert call("inspect", tmp_path / "calm.pt", "--json").document["model"]["masked"]["holds"] is True
    assert call("prune", tmp_path / "calm.pt", "-o", tmp_path / "cut.pt", "--json").document["proof"]["equal"] is True
    refused = call("reconstruct", masked.file, "--data", demo_data, "-o", tmp_path / "refit.pt")
    assert refused.status == 2 and "is masked, and all its shapes are there: prune it without --cut first" in refused.err
