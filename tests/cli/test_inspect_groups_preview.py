"""`inspect`, `groups` and `preview`: the keys that scripts rely on, with the field report's figures."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from tests.cli.conftest import FIELD_MODEL, Call
from tests.faults.archives import write_pickle
from tui_pruner.cli.output import Output

MODEL_KEYS = {"path", "sha256", "family", "task", "classes", "stride", "parameters", "flops", "imgsz", "names"}
BLOCK_KEYS = {
    "index", "name", "type", "from", "section", "in_channels", "out_channels", "parameters", "flops", "output_shape", "layers",
}  # fmt: skip
LAYER_KEYS = {"name", "type", "in_channels", "out_channels", "status", "reason"}
GROUP_KEYS = {"id", "channels", "prunable", "reason", "linked", "members"}
STATUSES = {"free": 43, "coupled": 6, "linked": 8, "locked": 7}
WARNING = "random weights from yolov8n.yaml: fine for trying cuts, not for accuracy"


def test_inspect_reports_the_model_and_its_blocks(call: Call):
    answer = call("inspect", *FIELD_MODEL, "--json")
    assert (answer.status, answer.remarks) == (0, [WARNING])
    model, blocks = answer.document["model"], answer.document["blocks"]
    assert model.keys() >= MODEL_KEYS
    assert (model["parameters"], model["classes"], model["stride"], model["imgsz"]) == (3_012_213, 7, 32, 640)
    assert (model["family"], model["task"]) == ("YOLOv8n", "detect")
    assert model["flops"] == sum(block["flops"] for block in blocks)
    assert model["parameters"] == sum(block["parameters"] for block in blocks)
    assert [block["index"] for block in blocks] == list(range(23))
    assert all(block.keys() >= BLOCK_KEYS for block in blocks)
    assert [block["index"] for block in blocks if block["section"] == "head"] == [22]
    assert (blocks[0]["type"], blocks[0]["from"], blocks[0]["output_shape"]) == ("Conv", [-1], [16, 320, 320])
    assert (blocks[20]["type"], blocks[20]["from"], blocks[20]["output_shape"]) == ("Concat", [19, 9], [384, 20, 20])


def test_inspect_reports_a_status_and_a_reason_for_every_convolution(call: Call):
    blocks = call("inspect", *FIELD_MODEL, "--json").document["blocks"]
    layers = [layer for block in blocks for layer in block["layers"]]
    assert len(layers) == 64
    assert all(layer.keys() >= LAYER_KEYS for layer in layers)
    assert {status: sum(layer["status"] == status for layer in layers) for status in STATUSES} == STATUSES
    assert all(bool(layer["reason"]) == (layer["status"] != "free") for layer in layers)
    by_name = {layer["name"]: layer for layer in layers}
    assert by_name["model.22.dfl"]["status"] == "locked"
    assert by_name["model.6.cv1"]["status"] == "linked"
    assert by_name["model.6.m.0.cv2"]["status"] == "coupled"


def test_inspect_prints_every_layer_for_people(call: Call):
    answer = call("inspect", *FIELD_MODEL)
    assert "3,012,213 parameters" in answer.out
    assert "coupled: with model.6.cv1, model.6.m.1.cv2: added in model.6.m.0" in answer.out
    assert (answer.out.count("Conv 3x3"), answer.out.count("Conv 1x1")) == (39, 25)
    assert "\x1b" not in answer.out
    assert "…" not in answer.out


def test_table_is_not_truncated_without_a_terminal():
    stream = io.StringIO()
    Output(stream, as_json=False).table(["layer", "status"], [["model.4", "x" * 500]])
    assert "x" * 500 in stream.getvalue()


def test_values_that_json_lacks_become_null():
    stream = io.StringIO()
    Output(stream, as_json=True).document({"difference": float("inf"), "rows": [float("nan"), 1.5], "ok": True})
    assert stream.getvalue() == '{"difference": null, "rows": [null, 1.5], "ok": true}\n'


def test_groups_cover_the_model_and_name_their_members(call: Call):
    report = call("groups", *FIELD_MODEL, "--json").document
    groups = report["groups"]
    assert report["convolutions"] == {"total": 64, **STATUSES}
    assert 0 < report["seconds"] < 30
    assert [group["id"] for group in groups] == list(range(len(groups)))
    assert all(group.keys() >= GROUP_KEYS for group in groups)
    assert all(bool(group["reason"]) != group["prunable"] for group in groups)
    assert sum(group["prunable"] for group in groups) == 59
    for group in groups:
        for member in group["members"]:
            assert member.keys() >= {"layer", "parameter", "dim", "role", "channels"}
            assert len(member["channels"]) % group["channels"] == 0


def test_members_of_a_group_are_the_channels_that_are_removed_together(call: Call):
    groups = call("groups", *FIELD_MODEL, "--json").document["groups"]
    (group,) = (g for g in groups if any(m["parameter"] == "model.7.conv.weight" and m["dim"] == 0 for m in g["members"]))
    assert (group["channels"], group["prunable"], group["linked"]) == (256, True, [])
    reached = {(member["parameter"], member["dim"]): member for member in group["members"]}
    assert {parameter for parameter, _ in reached} == {
        "model.7.conv.weight", "model.7.bn.weight", "model.7.bn.bias", "model.7.bn.running_mean", "model.7.bn.running_var",
        "model.8.cv1.conv.weight",
    }  # fmt: skip
    assert (reached["model.8.cv1.conv.weight", 1]["role"], reached["model.8.cv1.conv.weight", 1]["layer"]) == ("in", "model.8.cv1")
    assert reached["model.8.cv1.conv.weight", 1]["channels"] == list(range(256))


def test_halves_of_a_c2f_are_linked_to_each_other(call: Call):
    groups = call("groups", *FIELD_MODEL, "--json").document["groups"]
    halves = [g for g in groups if any(m["parameter"] == "model.6.cv1.conv.weight" and m["dim"] == 0 for m in g["members"])]
    assert [half["channels"] for half in halves] == [64, 64]
    assert [half["linked"] for half in halves] == [[halves[1]["id"]], [halves[0]["id"]]]
    channels = [m["channels"] for half in halves for m in half["members"] if m["parameter"] == "model.6.cv1.conv.weight"]
    assert sorted(channels) == [list(range(64)), list(range(64, 128))]


def test_groups_prints_the_writers_and_readers(call: Call):
    answer = call("groups", *FIELD_MODEL)
    assert "written by model.7\n    read by model.8.cv1\n" in answer.out
    assert "43 free, 6 coupled, 8 linked, 7 locked of 64 convolutions" in answer.out


def test_preview_reports_sizes_shapes_and_the_dry_run(call: Call):
    answer = call("preview", *FIELD_MODEL, "--cut", "model.7.conv=keep:205", "--json")
    assert (answer.status, answer.remarks) == (0, [WARNING])
    view = answer.document
    # 51 of 256 output channels with 128 inputs of 3x3 and two norm parameters, and 51 inputs of model.8.cv1's 256 outputs
    assert (view["before"]["parameters"], view["after"]["parameters"]) == (3_012_213, 3_012_213 - 51 * (128 * 9 + 2) - 51 * 256)
    assert all({"parameters", "flops", "bytes"} <= view[side].keys() for side in ("before", "after"))
    assert view["after"]["flops"] < view["before"]["flops"]
    assert view["after"]["bytes"] < view["before"]["bytes"]
    changed = {block["index"]: (block["before"], block["after"]) for block in view["blocks"] if block["before"] != block["after"]}
    assert changed == {7: ([256, 20, 20], [205, 20, 20])}
    assert len(view["blocks"]) == 23
    assert len(view["groups"]) == 1
    assert view["conflicts"] == []
    assert view["dry_run"]["ok"] is True
    assert view["dry_run"]["error"] == ""
    assert 0 < view["dry_run"]["seconds"] < 60


def test_preview_exits_with_1_if_cuts_contradict_each_other(call: Call):
    answer = call("preview", *FIELD_MODEL, "--cut", "model.5=30%", "--cut", "model.5.conv=40%", "--json")
    assert answer.status == 1
    (conflict,) = answer.document["conflicts"]
    assert "model.5" in conflict["message"]
    assert answer.document["after"] == answer.document["before"]


def test_preview_prints_requested_and_also_affected_layers(call: Call):
    answer = call("preview", *FIELD_MODEL, "--cut", "7=keep:205")
    assert answer.status == 0
    lines = [line.split() for line in answer.out.splitlines()]
    assert ["model.7", "128", "256", "->", "205", "asked"] in lines
    assert ["model.8.cv1", "256", "->", "205", "256", "also", "affected"] in lines
    assert "dry run ok" in answer.out


def test_layers_skipped_by_a_glob_are_named_on_stderr(call: Call):
    answer = call("preview", *FIELD_MODEL, "--cut", "model.22.cv3.*=25%", "--json")
    assert answer.status == 0
    assert answer.remarks[1] == "model.22.cv3.*: skipped the locked model.22.cv3.0.2, model.22.cv3.1.2, model.22.cv3.2.2"


def test_rounded_width_is_reported(call: Call):
    answer = call("preview", *FIELD_MODEL, "--cut", "model.5=30%", "--round-to", "16", "--json")
    assert answer.document["layers"]["model.5"]["out_after"] == 96
    assert "model.5: keeps 96 instead of 90 of 128 (multiple of 16)" in answer.remarks


@pytest.mark.parametrize("command", [["inspect"], ["preview", "--cut", "5=30%"]])
def test_image_size_that_is_not_a_multiple_of_the_stride_is_rounded_up_and_reported(call: Call, command: list[str]):
    answer = call(command[0], *FIELD_MODEL, *command[1:], "--imgsz", "370", "--json")
    assert answer.status == 0
    assert "imgsz 370 rounded up to 384: a multiple of the stride 32" in answer.remarks
    first = answer.document["blocks"][0]
    assert (first.get("output_shape") or first["before"]) == [16, 192, 192]


def test_contents_lists_the_names_in_a_file_without_loading_it(call: Call, tmp_path: Path, demo_checkpoint: Path):
    found = call("contents", demo_checkpoint, "--json")
    assert found.status == 0 and found.document["refusal"] is None and "ultralytics.nn.modules.head.Detect" in found.document["names"]
    assert found.document["numbers"]["torch.HalfStorage"] == 3_025_469
    write_pickle(tmp_path / "evil.pt", b"}X\x01\0\0\0acos\nsystem\n)Rs")
    refused = call("contents", tmp_path / "evil.pt")
    assert refused.status == 1 and "  os.system" in refused.out and "evil.pt calls os.system, so it was not loaded" in refused.out
