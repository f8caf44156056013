"""LAYER=drop on the command line, and the written file in stock Ultralytics."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from torch import nn
from ultralytics import YOLO
from ultralytics.cfg import get_cfg

from tests.cli.conftest import Call

BLOCKS = [[-1, 1, "Conv", [64, 3, 2]], [-1, 2, "C2f", [128, True]], [-1, 1, "Conv", [128, 3, 2]]]
HEAD = [[[2], 1, "Detect", ["nc"]]]


@pytest.fixture
def model(tmp_path: Path) -> Path:
    file = tmp_path / "two-repeats.yaml"
    file.write_text(yaml.safe_dump({"nc": 3, "scales": {"n": [1.0, 0.125, 1024]}, "backbone": BLOCKS, "head": HEAD}))
    return file


@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")
def test_file_without_a_block_is_proved_and_works_in_stock_ultralytics(call: Call, model: Path, tmp_path: Path):
    file = tmp_path / "pruned.pt"
    cuts = ("--cut", "model.1.m.1=drop", "--cut", "model.1.*=25%")
    answer = call("prune", model, *cuts, "-o", file, "--imgsz", 64, "--json")
    assert answer.status == 0, answer.err
    assert answer.document["dropped"] == ["model.1.m.1"] and answer.document["proof"]["equal"]
    assert not any(name.startswith("model.1.m.1.") for name in answer.document["kept"])
    content = torch.load(file, weights_only=False)
    assert content["tui_pruner"]["dropped"] == ["model.1.m.1"]
    assert content["tui_pruner"]["plan"]["steps"][0]["cuts"][0]["drops"] == ["model.1.m.1"]
    assert answer.document["after"]["parameters"] == sum(p.numel() for p in content["model"].parameters())
    assert call("prove", model, file, "--json").document["equal"]

    stock = YOLO(file)
    assert isinstance(stock.model.model[1].m[1], nn.Identity)
    assert len(stock.predict(np.full((64, 64, 3), 114, np.uint8), imgsz=64, verbose=False)) == 1
    assert Path(stock.export(format="torchscript", imgsz=64)).is_file()
    training = YOLO(file).model.float().train()
    for parameter in training.parameters():
        parameter.requires_grad_(True)
    training.args = get_cfg()
    batch = {
        "img": torch.rand(1, 3, 64, 64),
        "batch_idx": torch.zeros(1),
        "cls": torch.zeros(1, 1),
        "bboxes": torch.tensor([[0.5, 0.5, 0.4, 0.4]]),
    }
    loss, _ = training(batch)
    loss.sum().backward()
    assert all(p.grad is not None for name, p in training.named_parameters() if "dfl" not in name)


def test_drop_of_the_only_path_is_refused_in_one_line_and_nothing_is_written(call: Call, model: Path, tmp_path: Path):
    for layer, said in (
        ("model.2", "it is the only path; this model can do without model.1.m.0, model.1.m.1"),
        ("model.1.cv1", "only path"),
    ):
        answer = call("prune", model, "--cut", f"{layer}=drop", "-o", tmp_path / "none.pt", "--imgsz", 64)
        assert answer.status == 2 and len(answer.remarks) == 1
        assert f"{layer} cannot be dropped" in answer.err and said in answer.err
    assert [path.name for path in tmp_path.iterdir()] == ["two-repeats.yaml"]


def test_inspect_and_groups_list_the_droppable_blocks(call: Call, model: Path):
    blocks = call("inspect", model, "--imgsz", 64, "--json").document["blocks"]
    assert [block["droppable"] for block in blocks] == [[], ["model.1.m.0", "model.1.m.1"], [], []]
    assert "can drop m.0, m.1" in call("inspect", model, "--imgsz", 64).out
    found = call("groups", model, "--imgsz", 64, "--json").document["droppable"]
    assert found[1] == {"block": "model.1.m.1", "type": "Bottleneck", "adds_to_its_input": True}
