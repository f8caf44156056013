"""The masked twin agrees with a correct cut and detects every wrong one."""

from __future__ import annotations

import numpy as np
import pytest

from tests.core.conftest import ask
from tui_pruner.core.model.analysis import analyse
from tui_pruner.core.model.predictions import TOLERANCE
from tui_pruner.core.pruning.proof import prove
from tui_pruner.core.pruning.removal import Removal
from tui_pruner.core.pruning.surgery import cut
from tui_pruner.core.pruning.twin import masked_twin
from tui_pruner.frameworks.ultralytics import build_from_yaml


def removal_of(nano, layer: str, places: list[int], which: int = 0) -> Removal:
    groups = nano.coupling.output_groups(nano.layers[layer].path)
    return Removal({groups[which].number: np.array(places)})


def test_correct_cut_differs_far_less_than_the_tolerance(nano):
    removal = ask(nano, "*=30%").removal
    model = nano.checkpoint.model
    proof = prove(model, cut(model, nano.coupling, removal), nano.coupling, removal)
    assert proof.equal
    assert 0 < proof.relative_difference < TOLERANCE / 10


@pytest.mark.parametrize(
    "layer", ["model.0", "model.5", "model.6.m.0.cv1", "model.12.cv2", "model.19", "model.22.cv2.0.0", "model.22.cv3.2.1"]
)
def test_one_wrong_channel_is_detected(nano, layer):
    model = nano.checkpoint.model
    right, wrong = removal_of(nano, layer, [3, 5]), removal_of(nano, layer, [3, 6])
    pruned = cut(model, nano.coupling, wrong)
    assert prove(model, pruned, nano.coupling, wrong).equal
    proof = prove(model, pruned, nano.coupling, right)
    assert not proof.equal
    assert proof.relative_difference > TOLERANCE


def test_exchanged_halves_are_detected_though_all_shapes_fit(nano):
    model = nano.checkpoint.model
    first, second = nano.coupling.output_groups(nano.layers["model.6.cv1"].path)
    right = Removal({first.number: np.array([1, 2]), second.number: np.array([7, 9])})
    mirrored = Removal({first.number: np.array([7, 9]), second.number: np.array([1, 2])})
    assert not prove(model, cut(model, nano.coupling, mirrored), nano.coupling, right).equal


def test_uncut_model_is_detected_by_its_values(nano):
    removal = removal_of(nano, "model.5", [0, 1, 2])
    assert not prove(nano.checkpoint.model, nano.checkpoint.model, nano.coupling, removal).equal


def test_model_of_other_shapes_has_an_infinite_difference(nano):
    removal = removal_of(nano, "model.5", [0])
    other = build_from_yaml("yolov8n.yaml", classes=3).model
    proof = prove(nano.checkpoint.model, other, nano.coupling, removal)
    assert not proof.equal
    assert proof.max_abs_difference == np.inf


def test_float64_decides_if_float32_cannot_separate_the_cut_from_rounding():
    faint = analyse(build_from_yaml("yolov8n.yaml", classes=7), imgsz=64)
    model = faint.checkpoint.model
    for reader in ("model.6.cv1.conv",):
        model.get_submodule(reader).weight.data.mul_(1e-7)
    right, wrong = removal_of(faint, "model.5", [3, 5]), removal_of(faint, "model.5", [3, 6])
    pruned = cut(model, faint.coupling, wrong)
    agreed, caught = prove(model, pruned, faint.coupling, wrong), prove(model, pruned, faint.coupling, right)
    assert caught.effect < 1e-4
    assert caught.relative_difference < TOLERANCE
    assert (agreed.equal, caught.equal) == (True, False)


def test_twin_keeps_all_shapes_and_zeroes_only_the_removed_slices(nano):
    removal = removal_of(nano, "model.5", [4])
    twin = dict(masked_twin(nano.checkpoint.model, nano.coupling, removal).named_parameters())
    for name, parameter in nano.checkpoint.model.named_parameters():
        changed = (twin[name] != parameter).nonzero()
        assert twin[name].shape == parameter.shape
        if name == "model.5.conv.weight":
            assert set(changed[:, 0].tolist()) == {4}
        elif name == "model.6.cv1.conv.weight":
            assert set(changed[:, 1].tolist()) == {4}
        elif name in ("model.5.bn.weight", "model.5.bn.bias"):
            assert changed.tolist() == [[4]]
        else:
            assert not len(changed)


def test_model_that_fails_to_run_is_not_equal_and_the_error_is_reported(nano):
    removal = removal_of(nano, "model.5", [0])
    broken = cut(nano.checkpoint.model, nano.coupling, removal)
    broken.get_submodule("model.6.cv1.conv").weight = nano.checkpoint.model.get_submodule("model.6.cv1.conv").weight
    proof = prove(nano.checkpoint.model, broken, nano.coupling, removal)
    assert not proof.equal
    assert "127 channels" in proof.failure
