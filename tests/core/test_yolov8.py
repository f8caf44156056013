"""YOLOv8 at every scale: what is locked, and that every other group can be cut and is proved."""

from __future__ import annotations

import pytest

from tests.core.conftest import ask, proof_of, removed
from tui_pruner.core.model.analysis import analyse, trace_model
from tui_pruner.core.model.flops import parameter_count
from tui_pruner.core.model.layers import sequence
from tui_pruner.core.pruning.coverage import coupling_report
from tui_pruner.core.pruning.removal import NOTHING, Demand, DemandSet, Removal, apply_links
from tui_pruner.core.pruning.resolve import choose
from tui_pruner.core.pruning.surgery import cut
from tui_pruner.core.tracing.labels import Axis
from tui_pruner.domain.cuts import Request
from tui_pruner.frameworks.ultralytics import build_from_yaml

PREDICTIONS = {f"model.22.cv{branch}.{level}.2" for branch in (2, 3) for level in range(3)}


def test_field_reports_model_has_its_parameters_and_convolutions(nano):
    assert parameter_count(nano.checkpoint.model) == 3_012_213
    assert coupling_report(nano)["convolutions"] == {"total": 64, "free": 43, "coupled": 6, "linked": 8, "locked": 7}


def test_only_predictions_and_dfl_are_locked(nano):
    locked = {name for name, layer in nano.layers.items() if not any(g.prunable for g in nano.coupling.output_groups(layer.path))}
    assert locked == PREDICTIONS | {"model.22.dfl"}
    assert not nano.coupling.unknown_operations


@pytest.mark.parametrize("scale", ["s", *(pytest.param(scale, marks=pytest.mark.thorough) for scale in "mlx")])
def test_every_scale_locks_the_same_layers_and_links_its_c2f_blocks(scale):
    skeleton, coupling = trace_model(build_from_yaml(f"yolov8{scale}.yaml", classes=3).model)
    locked = [group.producers[0].axis.module for group in coupling.groups if group.producers and not group.prunable]
    assert {module.removesuffix(".conv") for module in locked} <= PREDICTIONS | {"model.22.dfl"}
    assert len(coupling.links) == sum(type(block).__name__ == "C2f" for _, block in sequence(skeleton)) == 8


@pytest.mark.thorough
def test_every_group_cut_alone_by_a_quarter_is_proved(nano):
    proved = 0
    for group in nano.coupling.groups:
        if not group.prunable:
            continue
        demand_set = DemandSet()
        demand_set.add(group, Demand(round(group.channels / 4), "", Request("", "25%")))
        apply_links(nano.coupling, NOTHING, demand_set)
        chosen = {n: choose(nano, nano.coupling.groups[n], demands[0], NOTHING) for n, demands in demand_set.demands.items()}
        proof = proof_of(nano, Removal(chosen))
        assert proof.equal, (group.producers[0].axis, proof)
        proved += 1
    assert proved == 59


@pytest.mark.parametrize(
    ("cuts", "widths"),
    [
        (["model.7.conv=keep:205"], {"model.7.conv.weight": [205, 128], "model.8.cv1.conv.weight": [256, 205]}),
        (["model.8.m.0.cv1=keep:109"], {"model.8.m.0.cv1.conv.weight": [109, 128], "model.8.m.0.cv2.conv.weight": [128, 109]}),
        ([f"model.{b}.cv1=30%" for b in (2, 4, 6, 8, 12, 15, 18, 21)], {"model.8.cv1.conv.weight": [180, 256]}),
        (["*=50%"], {"model.5.conv.weight": [64, 32], "model.22.cv3.0.2.weight": [7, 32]}),
    ],
)
def test_cuts_of_the_field_reports_are_proved(nano, cuts, widths):
    found = ask(nano, *cuts)
    found.demand_clean()
    assert proof_of(nano, found.removal).equal
    parameters = dict(cut(nano.checkpoint.model, nano.coupling, found.removal).named_parameters())
    assert {name: list(parameters[name].shape[:2]) for name in widths} == widths


def test_block_five_of_yolov8s_keeps_118_channels():
    small = analyse(build_from_yaml("yolov8s.yaml", classes=7), imgsz=64)
    found = ask(small, "5=keep:118")
    assert proof_of(small, found.removal).equal
    touched = {member.axis.module for number in found.removal.places for member in small.coupling.groups[number].members}
    assert touched == {"model.5.conv", "model.5.bn", "model.6.cv1.conv"}  # and nothing of block 2, which the report blamed


def test_input_size_of_370_is_rounded_up_and_reported():
    analysis = analyse(build_from_yaml("yolov8n.yaml", classes=7), imgsz=370)
    assert analysis.imgsz == 384
    assert analysis.notes == ("imgsz 370 rounded up to 384: a multiple of the stride 32",)
    assert proof_of(analysis, ask(analysis, "*=30%").removal).equal


def test_sources_of_a_concat_are_read_at_their_offsets(nano):
    def readers(layer: str) -> dict[str, int]:
        (group,) = nano.coupling.output_groups(nano.layers[layer].path)
        return {m.axis.module: int(m.indices.min()) for m in group.members if m.role == "in"}

    assert readers("model.4.cv2") == {"model.5.conv": 0, "model.15.cv1.conv": 128}
    assert readers("model.6.cv2") == {"model.7.conv": 0, "model.12.cv1.conv": 256}
    assert readers("model.12.cv2") == {"model.15.cv1.conv": 0, "model.18.cv1.conv": 64}
    assert readers("model.16") == {"model.18.cv1.conv": 0}
    assert readers("model.19") == {"model.21.cv1.conv": 0}


def test_cut_in_a_c2f_chain_affects_the_chain_and_the_other_half(nano):
    found = ask(nano, "model.6.m.0.cv2=30%")
    assert removed(nano, found, ["model.6.m.0.cv2", "model.6.m.1.cv2", "model.6.cv1", "model.6.m.0.cv1"]) == [19, 19, 38, 0]


def test_width_attribute_of_c2f_is_correct_after_a_cut(nano):
    found = ask(nano, "model.6.cv1=keep:90")
    pruned = cut(nano.checkpoint.model, nano.coupling, found.removal)
    assert pruned.get_submodule("model.6").c == 45
    assert nano.checkpoint.model.get_submodule("model.6").c == 64


def test_cut_leaves_the_original_unchanged(nano):
    before = {name: tensor.clone() for name, tensor in nano.checkpoint.model.state_dict().items()}
    proof_of(nano, ask(nano, "*=40%").removal)
    after = nano.checkpoint.model.state_dict()
    assert all(before[name].equal(after[name]) for name in before)
    assert Axis("model.0.conv.weight", 0) in nano.coupling.sizes
