"""Modules that Ultralytics does not ship get a correct answer, or a lock with its reason; never a wrong cut."""

from __future__ import annotations

import time

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from tests.core.odd_models import LOCKED, PROVED, Odd, convolution, proved_groups, reasons, traced
from tests.deadlines import time_left
from tui_pruner.core.model.analysis import trace_model
from tui_pruner.core.pruning.importance import FROM_WEIGHTS, Ranking
from tui_pruner.core.pruning.removal import Removal
from tui_pruner.core.pruning.surgery import cut
from tui_pruner.core.tracing.size_check import smallest_removal
from tui_pruner.domain.errors import TraceError


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


@pytest.mark.parametrize("name", PROVED)
def test_groups_that_can_be_cut_are_cut_and_proved(name):
    make, groups = PROVED[name]
    net, coupling = traced(make().eval())
    assert not coupling.unknown_operations
    assert proved_groups(net, coupling) == groups


@pytest.mark.parametrize("name", PROVED)
def test_groups_that_can_be_cut_are_ranked_by_every_criterion(name):
    net, coupling = traced(PROVED[name][0]().eval())
    ranking = Ranking(net)
    for group in (group for group in coupling.groups if group.prunable):
        for criterion in (*FROM_WEIGHTS, "random"):
            assert ranking.scores(group, criterion).shape == (group.channels,)
            assert np.isfinite(ranking.scores(group, criterion)).all()


@pytest.mark.parametrize("name", LOCKED)
def test_locked_groups_have_a_reason_and_the_others_are_proved(name):
    make, reason = LOCKED[name]
    net, coupling = traced(make().eval())
    assert any(reason in said for said in reasons(coupling)), reasons(coupling)
    stem = coupling.output_groups("stem")
    assert not any(group.prunable for group in stem) or reason.startswith(("the forward names", "is convolved"))
    proved_groups(net, coupling)


def test_operation_without_a_rule_is_listed_by_name():
    assert traced(LOCKED["an operation that no rule knows"][0]().eval())[1].unknown_operations == {"special_i1": 1}


def tied_to_the_first(net: Odd) -> Odd:
    net.b.weight = net.a.weight
    return net


def test_weight_with_two_owners_is_cut_once_and_stays_shared():
    net, coupling = traced(
        tied_to_the_first(Odd(lambda net, x: net.b(torch.relu(net.a(x))), a=convolution(8, 8), b=convolution(8, 8))).eval()
    )
    assert proved_groups(net, coupling) == 1
    pruned = cut(net, coupling, smallest_removal(coupling, [group for group in coupling.groups if group.prunable]))
    assert pruned.a.weight is pruned.b.weight and pruned.a.weight.shape == (7, 7, 3, 3)
    assert (pruned.b.in_channels, pruned.b.out_channels, len(pruned.b.bias)) == (7, 7, 7)
    assert net.a.weight is net.b.weight and net.a.weight.shape == (8, 8, 3, 3)


def test_decoder_that_uses_the_encoders_transposed_weight_is_cut_with_it():
    net, coupling = traced(
        Odd(lambda net, x: F.conv_transpose2d(torch.relu(net.a(x)), net.a.weight, padding=1), a=convolution(8, 16)).eval()
    )
    assert proved_groups(net, coupling) == 2


def test_convolution_groups_lose_the_same_positions_and_depthwise_ones_whole_groups():
    net, coupling = traced(Odd(lambda net, x: net.g(x), last=16, g=convolution(8, 16, groups=4)).eval())
    (read,) = coupling.output_groups("stem")
    assert read.channels == 2  # the same one of each group's two inputs
    pruned = cut(net, coupling, Removal({read.number: torch.tensor([1]).numpy()}))
    assert (pruned.g.in_channels, pruned.g.groups, tuple(pruned.g.weight.shape)) == (4, 4, (16, 1, 3, 3))
    net, coupling = traced(Odd(lambda net, x: net.g(x), last=16, g=convolution(8, 16, groups=8)).eval())
    (whole,) = coupling.output_groups("g")
    pruned = cut(net, coupling, Removal({whole.number: torch.tensor([1, 5]).numpy()}))
    assert (pruned.g.in_channels, pruned.g.out_channels, pruned.g.groups) == (6, 12, 6)


class Scaled(nn.LayerNorm):
    """Only scales, and normalises nothing."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.weight[:, None, None] + self.bias[:, None, None]


def test_subclass_of_layer_norm_that_only_scales_has_the_width_of_its_weight_after_a_cut():
    net, coupling = traced(Odd(lambda net, x: net.scale(x), scale=Scaled(8)).eval())
    assert proved_groups(net, coupling) == 1
    assert cut(net, coupling, smallest_removal(coupling, coupling.output_groups("stem"))).scale.normalized_shape == (7,)


def test_forward_that_branches_on_values_is_refused_with_its_location():
    net = Odd(lambda net, x: net.a(x) if x.mean() > 0 else x, a=convolution(8, 8)).eval()
    with pytest.raises(TraceError, match=r"Odd decides by a computed value, which a trace of the shapes does not have"):
        trace_model(net)


def test_failed_forward_is_reported_with_the_layer_where_it_stopped():
    with pytest.raises(TraceError, match=r"the forward stopped in out: a weight of shape \[4, 7, 1, 1\] cannot read 8 channels"):
        trace_model(Odd(lambda net, x: x, last=7).eval())


def spinning(net: nn.Module, x: torch.Tensor) -> torch.Tensor:
    while True:
        pass


@pytest.mark.parametrize("busy", [spinning, lambda net, x: net.loop(x)], ids=["without operations", "with operations"])
def test_endless_forward_is_stopped_and_its_layer_named(busy, monkeypatch):
    monkeypatch.setattr("tui_pruner.core.tracing.tracer.LONGEST_RUN", 0.5)
    started = time.monotonic()
    with pytest.raises(TraceError, match=r"the forward of .* had not ended after 0.5 seconds, in loop"):
        trace_model(Odd(lambda net, x: net.loop(x), loop=Endless(busy)).eval())
    assert time_left(started) > 0


class Endless(nn.Module):
    """Goes on for ever."""

    def __init__(self, busy) -> None:
        super().__init__()
        self.busy = busy

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.busy is spinning:
            return spinning(self, x)
        while True:
            x = torch.relu(x)
