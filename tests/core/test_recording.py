"""Blocks that a cut cannot affect are not computed again; all others are."""

from __future__ import annotations

import pytest
import torch

from tests.core.conftest import ask
from tui_pruner.core.model.copies import in_float64, sharing_weights, with_own
from tui_pruner.core.model.recorded_forward import predictions_of, unchanged_blocks
from tui_pruner.core.pruning.surgery import cut
from tui_pruner.core.pruning.twin import Original, masked_twin


@pytest.fixture(scope="module")
def original(nano) -> Original:
    return Original(nano.checkpoint.model)


@pytest.mark.parametrize(("layer", "first"), [("model.0", 0), ("model.6.m.0.cv1", 6), ("model.5", 5), ("model.22.cv3.1.0", 22)])
def test_only_blocks_before_the_first_changed_one_are_recorded(nano, original, layer, first):
    removal = ask(nano, f"{layer}=25%").removal
    for network in (cut(nano.checkpoint.model, nano.coupling, removal), masked_twin(original.model, nano.coupling, removal)):
        assert unchanged_blocks(network, original.model, original.recording(torch.float32)) == [
            f"model.{number}" for number in range(first)
        ]


@pytest.mark.parametrize("precision", [torch.float32, torch.float64])
def test_resumed_forward_equals_the_whole_forward_bit_by_bit(nano, original, precision):
    pruned = cut(nano.checkpoint.model, nano.coupling, ask(nano, "model.12.cv2=30%").removal)
    whole = sharing_weights(pruned) if precision == torch.float32 else in_float64(pruned, {})
    expected = predictions_of(whole, original.inputs.to(precision))
    actual = original.predictions_of(pruned, precision)
    assert actual.keys() == expected.keys() == {"output[0]", "output[1]['boxes']", "output[1]['scores']"}
    assert all(torch.equal(actual[place], expected[place]) for place in expected)
    assert all(leaf.dtype == precision for leaf in actual.values())


def test_attribute_changed_by_a_cut_invalidates_the_recording(nano, original):
    pruned = cut(nano.checkpoint.model, nano.coupling, ask(nano, "model.12.cv2=30%").removal)
    pruned.get_submodule("model.4").c += 1
    assert unchanged_blocks(pruned, original.model, original.recording(torch.float32)) == ["model.0", "model.1", "model.2", "model.3"]


def test_recorded_run_leaves_the_network_unchanged(nano, original):
    pruned = cut(nano.checkpoint.model, nano.coupling, ask(nano, "model.12.cv2=30%").removal)
    before = {path: dict(vars(module)) for path, module in pruned.named_modules()}
    original.predictions_of(pruned, torch.float32)
    assert {path: dict(vars(module)) for path, module in pruned.named_modules()} == before


def test_copy_owns_the_named_modules_and_shares_the_rest(nano):
    model = nano.checkpoint.model
    copy = with_own(model, ["model.6.cv1.conv", "model.6.cv2"])
    shared = dict(model.named_modules())
    own = {path for path, module in copy.named_modules() if module is not shared[path]}
    assert own == {"", "model", "model.6", "model.6.cv1", "model.6.cv1.conv", "model.6.cv2"}
    copy.get_submodule("model.6.cv1.conv").weight = None
    assert model.get_submodule("model.6.cv1.conv").weight is not None
