"""Every family on one mechanism: each group alone, all groups at once at random, proved; attention cut for real."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from ultralytics.nn.tasks import yaml_model_load

from tests.core.conftest import ask, proof_of
from tests.thoroughness import THOROUGH, some
from tui_pruner.core.model.analysis import Analysis, analyse
from tui_pruner.core.pruning.coverage import Coverage, garbage_collection_paused, random_removal
from tui_pruner.core.pruning.preview import Arithmetic
from tui_pruner.core.pruning.surgery import cut
from tui_pruner.frameworks.ultralytics import build_from_yaml

SMALL_DECODER = [64, 20, 4, 4, 2]
"""RTDETRDecoder's width, queries, points, heads and layers."""
FAMILIES = {  # by how much each is narrowed: attention needs 64 channels for a head
    "yolov3-tiny": 8, "yolov5n": 8, "yolov6n": 8, "yolov8n": 8, "yolov8n-ghost": 8, "yolov8n-seg": 8, "yolov8n-pose": 8, "yolov8n-obb": 8,
    "yolov8n-cls": 8, "yolov9t": 2, "yolov10n": 4, "yolo11n": 4, "yolo12n": 4, "yolo26n": 4, "yolo26n-sem": 4, "yolo26n-depth": 4,
    "rtdetr-l": 8, "yolov8n-rtdetr": 8, "yolov8n-world": 8, "yoloe-11n": 4,
}  # fmt: skip


GROUPS, PLANS = 4, 3 if THOROUGH else 1
"""How many groups are cut alone, and how often all at once."""


def opened(name: str) -> Analysis:
    return analyse(build_from_yaml(f"{name}.yaml", classes=None if "rtdetr" in name else 3), imgsz=64)


def narrowed(name: str, folder: Path) -> Analysis:
    """The same architecture, every width but its head's divided, as few repeats as possible: what is shown does not depend on them."""
    architecture = yaml_model_load(f"{name}.yaml")
    *blocks, head = architecture["backbone"] + architecture["head"]
    for block in blocks:
        block[3] = divided(block[3], FAMILIES[name])
    if head[2] == "RTDETRDecoder":
        head[3] += SMALL_DECODER
    file = folder / f"{name}.yaml"
    file.write_text(yaml.safe_dump({**architecture, "scales": {"n": [0.25, 1.0, 1024]}}))
    return analyse(build_from_yaml(str(file), classes=3), imgsz=64)


def divided(arguments: list[Any], divisor: int) -> list[Any]:
    """A block's arguments with everything that can only be a width divided; a multiple of 8 stays one."""
    return [
        divided(value, divisor)
        if isinstance(value, list)
        else max(8, value // divisor // 8 * 8)
        if type(value) is int and value >= 32
        else value
        for value in arguments
    ]


LIKE_ANOTHER = ("yolov5n", "yolov6n", "yolov8n-pose", "yolov8n-obb", "yolov8n-cls", "yolo11n", "yolo26n", "yolo26n-depth", "yolov8n-rtdetr")
"""Families whose blocks and head others here have, too, or tests of their own."""


@pytest.mark.parametrize("family", [pytest.param(name, marks=pytest.mark.thorough if name in LIKE_ANOTHER else ()) for name in FAMILIES])
def test_every_group_alone_and_random_plans_are_proved(family, tmp_path):
    analysis = narrowed(family, tmp_path)
    assert not analysis.coupling.unknown_operations
    coverage = Coverage(analysis)
    produced = [group for group in analysis.coupling.groups if group.producers]
    free = [group for group in produced if group.prunable]
    with garbage_collection_paused():
        tried = {group.producers[0].axis.module: coverage.alone(group) for group in some(free, GROUPS)}
        plans = list(coverage.plans(PLANS))
    assert {module: found.detail for module, found in tried.items() if found.outcome != "equal"} == {}
    assert len(free) >= (0.5 if "rtdetr" in family else 0.8) * len(produced) > 12
    assert [(plan.outcome, plan.cut, plan.whole) for plan in plans] == PLANS * [("equal", len(free), 0)]


@pytest.mark.parametrize("family", ["yolov9t", "yolo12n", "yolo26n-pose"])
def test_size_of_a_random_plan_is_predicted_exactly(family):
    analysis = opened(family)
    removal = random_removal(analysis.coupling, seed=3)
    pruned = cut(analysis.checkpoint.model, analysis.coupling, removal)
    size = Arithmetic(analysis).widths(removal).size
    assert size.parameters == sum(parameter.numel() for parameter in pruned.parameters())
    assert size.parameters < 0.7 * sum(parameter.numel() for parameter in analysis.checkpoint.model.parameters())


@pytest.mark.parametrize(("family", "block"), [("yolov10n", "model.10"), ("yolo11n", "model.10"), ("yolo12n", "model.8")])
def test_every_group_of_an_attention_block_is_proved_alone(family, block):
    analysis = opened(family)
    groups = [group for group in analysis.coupling.groups if group.producers and group.producers[0].axis.module.startswith(block)]
    assert len(groups) >= 5
    for group in some(groups, 4):
        trial = Coverage(analysis).alone(group)
        assert trial.outcome == "equal", (group.producers[0].axis, trial.detail)


def test_keys_are_cut_alone_and_keep_their_trained_scale():
    analysis = opened("yolo11n")
    name = "model.10.m.0.attn"
    keys = analysis.coupling.output_groups(f"{name}.qkv.conv")[0]
    (member,) = keys.producers
    assert member.indices.shape == (32, 2)  # the same index of the query and of the key
    before = analysis.checkpoint.model.get_submodule(name)
    pruned = cut(analysis.checkpoint.model, analysis.coupling, removal_like(analysis, keys)).get_submodule(name)
    assert (before.key_dim, pruned.key_dim, pruned.head_dim) == (32, 24, before.head_dim)
    assert pruned.scale == before.scale


def test_values_are_cut_with_the_width_of_the_block_equally_in_every_head():
    analysis = opened("yolo11n")
    found = ask(analysis, "model.10.cv1=25%")
    attention = cut(analysis.checkpoint.model, analysis.coupling, found.removal).get_submodule("model.10.m.0.attn")
    assert attention.head_dim == 48
    assert attention.qkv.conv.in_channels == attention.proj.conv.in_channels == attention.num_heads * 48 == 96


def test_width_that_heads_cannot_share_is_rounded_with_a_note():
    analysis = opened("yolo11n")
    found = ask(analysis, "model.10.cv1=1%")  # 1.28 of each half's 128 channels; two heads share 2
    assert found.notes == ("model.10.cv1: removes 2 instead of 1 channels, which 2 equal parts of another layer share",)
    assert proof_of(analysis, found.removal).equal


def test_query_scale_of_area_attention_is_cut_too():
    analysis = opened("yolo12n")
    found = ask(analysis, "model.8.m.0.0.attn.qkv=25%")
    pruned = cut(analysis.checkpoint.model, analysis.coupling, found.removal).get_submodule("model.8.m.0.0.attn")
    assert (pruned.head_dim, pruned.all_head_dim) == (24, 24 * pruned.num_heads)
    assert proof_of(analysis, found.removal).equal


def test_split_widths_of_the_second_backbone_follow_the_cut():
    analysis = opened("yolov9e")
    found = ask(analysis, "model.12=25%")
    pruned = cut(analysis.checkpoint.model, analysis.coupling, found.removal).get_submodule("model.12")
    assert pruned.c2s == [48, 96, 192]
    assert sum(pruned.c2s) == pruned.conv.out_channels


def test_coverage_lists_locked_groups_with_their_reasons(nano):
    trials = [trial for trial in Coverage(nano).trials() if trial.outcome == "locked"]
    assert {trial.detail for trial in trials} == {"feeds the model's predictions"}
    assert len(trials) == 3  # DFL itself, the bins that the three levels share with it, and the classes that they share with each other


def removal_like(analysis: Analysis, group):
    from tui_pruner.core.pruning.removal import Removal

    numbers = [group.number, *(n for n in analysis.coupling.bundle_of(group) if n != group.number)]
    return Removal({number: np.arange(8) for number in numbers})
