"""Where torch-pruning's own tracer finishes, its groups and ours are the same channels; where they differ, the masked twin decides.

Its tracer runs in a process of its own, with a deadline and limited memory.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest

from tests.coverage.limits import limited
from tests.coverage.networks import NAMES, PUBLIC, SMALL, STOCK, network, small
from tests.thoroughness import THOROUGH
from tui_pruner.core.model.analysis import trace_model
from tui_pruner.core.pruning.coverage import random_removal
from tui_pruner.core.pruning.proof import prove
from tui_pruner.core.pruning.surgery import cut
from tui_pruner.core.tracing.coupling_map import ChannelGroup, CouplingMap

pytestmark = pytest.mark.skipif(not THOROUGH, reason="another program's word on nine networks: make thorough")
GIB = 1 << 30
Slice = tuple[str, int, int]
Channel = frozenset[Slice]
"""Everything that goes with one channel: parameter, dimension, index."""
PREDICTIONS, LAYER_NORM = "feeds the model's predictions", "layer_norm normalises across channels"
SAME_GROUPS = {
    "yolov3-tiny": 19, "yolov5n": 62, "yolov6n": 55, "resnet50": 38, "vgg16_bn": 16, "mobilenet_v2": 26, "densenet121": 121,
    "efficientnet_b0": 41, "convnext_tiny": 19,
}  # fmt: skip


@pytest.fixture(scope="module")
def theirs() -> dict[str, Any]:
    """Their groups by network."""
    ended = limited("tests.coverage.their_channels", [], 6 * GIB)
    assert ended.how == "done", ended.words
    return {name: content for document in ended.documents for name, content in document.items()}


def their_channels(group: dict[str, Any]) -> list[Channel]:
    """The channels of one of their groups."""
    channels: dict[int, set[Slice]] = {}
    for share in group["shares"]:
        for index, root in zip(share["indices"], share["roots"], strict=True):
            channels.setdefault(root, set()).add((share["parameter"], share["dim"], index))
    return [frozenset(channel) for channel in channels.values()]


def our_channels(coupling: CouplingMap, parameters: set[str]) -> dict[Channel, ChannelGroup]:
    """All channels of ours and their groups, in the parameters that torch-pruning counts by: biases and statistics follow the weights."""
    found = {}
    for group in coupling.groups:
        members = [member for member in group.members if member.axis.parameter in parameters]
        for place in range(group.channels):
            channel = frozenset((m.axis.parameter, m.axis.dim, int(index)) for m in members for index in m.indices[place])
            found[channel] = group
    return found


def parameters_of(groups: Iterable[dict[str, Any]]) -> set[str]:
    return {share["parameter"] for group in groups for share in group["shares"]}


def owners(channels: list[Channel], ours: dict[Channel, ChannelGroup]) -> list[ChannelGroup]:
    """Our groups that hold any part of these channels."""
    slices = frozenset().union(*channels)
    return [group for channel, group in ours.items() if channel & slices]


@pytest.mark.parametrize("name", NAMES)
def test_coupled_layers_and_indices_agree_with_torch_prunings_tracer(name, theirs):
    groups = theirs[name]
    coupling = trace_model(network(name))[1]
    ours = our_channels(coupling, parameters_of(groups))
    differing = [channels for channels in map(their_channels, groups) if not all(channel in ours for channel in channels)]
    assert len(groups) - len(differing) == SAME_GROUPS[name]
    named = {LAYER_NORM} if name == "convnext_tiny" else {PREDICTIONS}
    assert {group.lock and group.lock.reason for channels in differing for group in owners(channels, ours)} <= named
    assert bool(differing) == (name in STOCK or name == "convnext_tiny")


@pytest.mark.parametrize("name", NAMES)
def test_torch_pruning_knows_every_channel_that_can_be_cut(name, theirs):
    known = {channel for group in theirs[name] for channel in their_channels(group)}
    ours = our_channels(trace_model(network(name))[1], parameters_of(theirs[name]))
    free = {channel for channel, group in ours.items() if group.prunable}
    assert free <= known
    assert len(free) > (0.5 if name == "convnext_tiny" else 0.8) * len(known)


def test_prediction_layers_cannot_be_cut_as_torch_pruning_couples_them(theirs):
    outcomes = theirs["outcomes"]["yolov3-tiny"]
    broken = {root for root, outcome in outcomes.items() if outcome != "right"}
    assert {root[: len("model.20.cv2")] for root in broken} == {"model.20.cv2", "model.20.cv3"}
    assert len(outcomes) - len(broken) == SAME_GROUPS["yolov3-tiny"]


def test_widths_under_a_layer_norm_are_cut_wrong_by_torch_pruning_and_locked_here(theirs):
    outcomes = theirs["outcomes"]["ConvNeXt"]
    coupling = trace_model(small("ConvNeXt"))[1]
    for root, outcome in outcomes.items():
        (group,) = coupling.output_groups(root)
        assert (outcome == "right") == group.prunable, (root, group.reason)
    assert sorted(outcomes.values()) == [
        "right",
        "right",
        "wrong",
        "wrong",
        "wrong",
    ]  # the last is the classifier, whose width is the answer's


@pytest.mark.parametrize("name", SMALL)
def test_plan_for_a_network_outside_ultralytics_is_proved(name):
    model = small(name)
    coupling = trace_model(model)[1]
    assert not coupling.unknown_operations
    removal = random_removal(coupling, seed=0)
    assert len(removal.places) >= (2 if name == "ConvNeXt" else 10)
    assert prove(model, cut(model, coupling, removal), coupling, removal).equal


def test_every_public_network_has_a_small_version_that_is_proved():
    assert len(SMALL) == len(PUBLIC) - 1  # VGG-16 has 100 million weights behind its features, no matter what their width
