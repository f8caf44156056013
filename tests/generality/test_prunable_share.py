"""How much of public networks can be cut must not fall: the share of the channels that layers write, predictions left out."""

from __future__ import annotations

import pytest
import torch

import tui_pruner as tp
from tests.coverage_any.networks import PublicNetwork, made
from tests.coverage_any.ours import widths
from tests.thoroughness import THOROUGH

LEAST = {
    "resnet18": 1.0,
    "mobilenet_v3_small": 1.0,
    "shufflenet_v2_x0_5": 0.97,
    "squeezenet1_1": 1.0,
    "regnet_y_400mf": 1.0,
    "mnasnet0_5": 1.0,
    "efficientnet_b0": 1.0,
    "vgg11": 1.0,
    "densenet121": 1.0,
    "convnext_tiny": 0.6,
    "vit_b_32": 0.95,
    "swin_t": 0.4,
    "googlenet": 1.0,
    "mobilenet_v2": 1.0,
    "mobilenet_v3_large": 1.0,
    "squeezenet1_0": 1.0,
    "mnasnet1_0": 1.0,
    "regnet_x_400mf": 1.0,
    "shufflenet_v2_x1_0": 0.96,
    "resnet34": 1.0,
}
SLOW = ("densenet121", "vgg11", "vit_b_32", "swin_t", *list(LEAST)[-8:])
"""Seconds each, or much like another: make thorough."""


@pytest.mark.parametrize("name", [name for name in LEAST if THOROUGH or name not in SLOW])
def test_share_of_channels_that_can_be_cut_does_not_fall(name):
    model, side = made(PublicNetwork("classification", name))
    session = tp.open(model.eval(), example_inputs=(torch.rand(1, 3, side, side),))
    found = widths(session._steps.analysis.coupling.groups)
    assert session._steps.analysis.coupling.unknown_operations == {}
    assert found["free_channels"] / found["channels"] >= LEAST[name], found["locked"]
