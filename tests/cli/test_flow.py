"""`flow`: widths that seem to contradict each other are explained by where the channels come from."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.cli.conftest import Call
from tui_pruner.core.model.analysis import analyse
from tui_pruner.core.model.block_flow import block_flows
from tui_pruner.frameworks.ultralytics import open_model

REPORTED = {3: (32, 64), 5: (64, 128), 12: (3, 768), 15: (3, 384), 18: (3, 384), 21: (3, 768)}
"""A field report on YOLOv8s: by block, what a walk over the listed convolutions took for the width before it, and what the block reads."""
CONCATS = {11: (10, 6), 14: (13, 4), 17: (16, 12), 20: (19, 9)}
"""What the four Concat blocks join; the report guessed 6 + 8, 4 + 6, 3 + 15 and 4 + 19."""


@pytest.fixture(scope="module")
def small() -> list[dict[str, Any]]:
    return [dataclasses.asdict(block) for block in block_flows(analyse(open_model("yolov8s.yaml")))]


@pytest.mark.parametrize("block", REPORTED)
def test_every_reported_mismatch_is_explained(small: list[dict[str, Any]], block: int):
    guessed, reads = REPORTED[block]
    found = small[block]
    assert found["reads"] == reads == found["previous"] != guessed
    if block in (3, 5):
        inner = f"model.{block - 1}.m.{(block - 3) // 2}.cv2"
        whole = f"reads {reads} channels, all that block {block - 1} writes with model.{block - 1}.cv2"
        assert found["mismatch"] == f"{whole}; {inner}, the last convolution listed in it, writes {guessed} that stay inside the block"
    else:
        first, second = CONCATS[block - 1]
        at = small[first]["writes"]
        joined = f"a Concat of block {first} at offset 0 ({at}) and block {second} at offset {at} ({reads - at})"
        assert found["mismatch"].startswith(f"reads {reads} channels: block {block - 1} is {joined} and has no convolution of its own")


@pytest.mark.parametrize("block", CONCATS)
def test_sources_of_a_concat_are_in_order_with_their_offsets(small: list[dict[str, Any]], block: int):
    first, second = CONCATS[block]
    widths = [small[index]["writes"] for index in (first, second)]
    assert small[block]["sources"] == (
        {"index": first, "channels": widths[0], "offset": 0},
        {"index": second, "channels": widths[1], "offset": widths[0]},
    )
    assert small[block]["mismatch"] == (
        f"reads {sum(widths)} channels: a Concat of block {first} at offset 0 ({widths[0]}) and block {second} at offset {widths[0]} "
        f"({widths[1]}); block {block - 1} alone writes {small[block - 1]['writes']}"
    )
    assert small[block + 1]["sources"] == ({"index": block, "channels": sum(widths), "offset": 0},)
    assert small[block + 1]["origins"] == small[block]["origins"]


def test_channels_are_traced_through_upsampling_and_concatenation_to_their_layers(small: list[dict[str, Any]]):
    assert small[15]["origins"] == (
        {"index": 12, "layers": ("model.12.cv2",), "channels": 256, "offset": 0},
        {"index": 4, "layers": ("model.4.cv2",), "channels": 128, "offset": 256},
    )
    head = small[22]
    assert [(one["index"], one["channels"], one["offset"]) for one in head["sources"]] == [(15, 128, 0), (18, 256, 0), (21, 512, 0)]
    assert head["mismatch"].startswith("reads 896 channels: 3 inputs apart, block 15 (128), block 18 (256) and block 21 (512)")
    assert small[0] == {
        "index": 0, "name": "model.0", "type": "Conv", "reads": 3, "writes": 32, "sources": ({"index": -1, "channels": 3, "offset": 0},),
        "origins": ({"index": -1, "layers": (), "channels": 3, "offset": 0},), "previous": 3, "mismatch": None,
    }  # fmt: skip


@pytest.mark.parametrize(
    "name",
    [
        pytest.param("yolov9e.yaml", marks=pytest.mark.thorough),
        "yolo11n-seg.yaml",
        pytest.param("rtdetr-l.yaml", marks=pytest.mark.thorough),
        "yolov8s-world.yaml",
        "yolov8n-cls.yaml",
    ],
)
def test_offsets_are_contiguous_and_widths_equal_those_of_the_weights(name: str):
    analysis = analyse(open_model(name))
    flows = block_flows(analysis)
    assert len(flows) == len(analysis.blocks)
    for found in flows:
        block = analysis.skeleton.get_submodule(found.name)
        assert found.reads == sum(source.channels for source in found.sources) > 0
        assert found.previous == (flows[found.index - 1].writes if found.index else 3)
        assert (found.mismatch is None) <= (found.reads == found.previous)
        assert sum(origin.channels for origin in found.origins) == found.reads
        if found.type == "Concat":
            offsets = [source.offset for source in found.sources]
            assert offsets == [sum(one.channels for one in found.sources[:n]) for n in range(len(offsets))]
            assert tuple(source.index for source in found.sources) == analysis.blocks[found.index].sources
        if found.type == "Conv":
            assert (block.conv.in_channels, block.conv.out_channels) == (found.reads, found.writes)


def test_offsets_hold_for_the_values_of_a_real_forward():
    """What a block writes stands at the offset that is named: shown on the numbers of a real forward."""
    model = open_model("yolov8n.yaml").model
    outputs: dict[int, torch.Tensor] = {}
    for index, block in enumerate(model.model):
        block.register_forward_hook(lambda module, args, output, index=index: outputs.__setitem__(index, output))
    with torch.no_grad():
        model(torch.rand(1, 3, 64, 64))
    for found in block_flows(analyse(open_model("yolov8n.yaml"))):
        if found.type == "Concat":
            for source in found.sources:
                assert torch.equal(outputs[found.index][:, source.offset :][:, : source.channels], outputs[source.index])


def test_flow_under_a_cut_has_the_remaining_widths(call: Call, demo_checkpoint: Path):
    answer = call("flow", demo_checkpoint, "--cut", "6=25%", "--cut", "model.9.cv2=keep:200", "--json")
    assert answer.status == 0, answer.err
    blocks = answer.document["blocks"]
    assert blocks[11]["sources"] == [{"index": 10, "channels": 200, "offset": 0}, {"index": 6, "channels": 96, "offset": 200}]
    assert blocks[11]["before"] == {"reads": 384, "writes": 384}
    assert "block 6 at offset 200 (96); block 10 alone writes 200" in blocks[11]["mismatch"]


def test_flow_prints_a_table_and_a_sentence_for_each_difference(call: Call, demo_checkpoint: Path):
    answer = call("flow", demo_checkpoint)
    assert (answer.status, answer.err) == (0, "")
    lines = answer.out.splitlines()
    assert lines[0].split() == ["block", "reads", "written", "by", "block", "before", "writes", "writes"]
    assert lines[12].split("  ")[0] == "11 Concat" and "0..255 9 (model.9.cv2), 256..383 6 (model.6.cv2)" in lines[12]
    assert lines[25] == "no mismatch, though the widths in a row differ:" and lines[26].startswith("  block 3 reads 32 channels")
    assert call("flow", demo_checkpoint, "--json").document["blocks"][3]["before"] is None


def test_invalid_input_is_refused_in_one_line(call: Call, demo_checkpoint: Path, tmp_path: Path):
    for options in ([tmp_path / "nope.pt"], [demo_checkpoint, "--cut", "99=30%"], [demo_checkpoint, "--plan", tmp_path / "nope.yaml"]):
        answer = call("flow", *options)
        assert (answer.status, answer.out, len(answer.remarks)) == (2, "", 1), answer
