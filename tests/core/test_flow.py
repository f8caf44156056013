"""Channels follow the model's own operations: what couples, splits and locks them."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tui_pruner.core.model.analysis import trace_model
from tui_pruner.core.pruning.proof import prove
from tui_pruner.core.pruning.removal import Removal
from tui_pruner.core.pruning.surgery import cut
from tui_pruner.core.tracing.coupling_map import CouplingMap
from tui_pruner.core.tracing.labels import Axis
from tui_pruner.core.tracing.size_check import smallest_removal
from tui_pruner.domain.errors import PlanError


class Net(nn.Module):
    """Two convolutions, something between them, and a last one whose output is the prediction."""

    def __init__(self, middle: nn.Module, wide: int = 8, last: int = 8) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 8, 3, padding=1)
        self.second = nn.Conv2d(8, wide, 3, padding=1)
        self.middle = middle
        self.last = nn.Conv2d(last, 4, 1)

    def forward(self, image: Tensor) -> Tensor:
        a = self.first(image)
        return self.last(self.middle(a, self.second(torch.relu(a))))


class Apply(nn.Module):
    """A function of two feature maps as a module."""

    def __init__(self, function, **children: nn.Module) -> None:
        super().__init__()
        self.function = function
        for name, child in children.items():
            self.add_module(name, child)

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        return self.function(self, a, b)


def couple(middle, *, wide: int = 8, last: int = 8, **children: nn.Module) -> tuple[Net, CouplingMap]:
    torch.manual_seed(0)
    net = Net(Apply(middle, **children), wide, last).eval()
    return net, trace_model(net)[1]


def modules_touched_by_each_group(coupling: CouplingMap, layer: str) -> list[set[str]]:
    """For each group of a layer's outputs: the modules that it touches."""
    return [{member.axis.module for member in group.members} for group in coupling.output_groups(layer)]


def cut_every_group(net: nn.Module, coupling: CouplingMap, channels: int = 2) -> int:
    """Cut the first channels of every free group alone, with what is linked to it, and demand that the twin agrees."""
    done = 0
    for group in coupling.groups:
        if group.prunable:
            numbers = [group.number, *(other.number for other in coupling.linked_groups(group))]
            places = {n: torch.arange(min(channels, coupling.groups[n].channels - 1)).numpy() for n in numbers}
            removal = Removal(places)
            assert prove(net, cut(net, coupling, removal), coupling, removal).equal
            done += 1
    return done


def test_addition_ties_its_two_sources():
    net, coupling = couple(lambda _, a, b: a + b)
    assert modules_touched_by_each_group(coupling, "first") == [{"first", "second", "last"}]
    assert modules_touched_by_each_group(coupling, "first") == modules_touched_by_each_group(coupling, "second")
    assert cut_every_group(net, coupling) == 1


def test_concat_shifts_the_channels_of_the_reader():
    net, coupling = couple(lambda _, a, b: torch.cat((a, b), 1), last=16)
    (group,) = coupling.output_groups("second")
    reads = next(member for member in group.members if member.axis.module == "last")
    assert reads.indices.reshape(-1).tolist() == list(range(8, 16))
    assert cut_every_group(net, coupling) == 2


def test_chunk_links_its_halves_which_may_lose_different_channels():
    net, coupling = couple(lambda _, a, b: b.chunk(2, 1)[0] * 2 + b.chunk(2, 1)[1].relu(), wide=16)
    groups = coupling.output_groups("second")
    assert [group.channels for group in groups] == [8]  # the addition ties the halves channel by channel
    net, coupling = couple(lambda _, a, b: torch.cat((b.chunk(2, 1)[1], b.chunk(2, 1)[0].relu()), 1), wide=16, last=16)
    first, second = coupling.output_groups("second")
    assert [other.number for other in coupling.linked_groups(first)] == [second.number]
    removal = Removal({first.number: torch.tensor([0, 3]).numpy(), second.number: torch.tensor([5, 6]).numpy()})
    assert prove(net, cut(net, coupling, removal), coupling, removal).equal


def test_depthwise_convolution_is_coupled_one_to_one():
    net, coupling = couple(lambda m, a, b: m.deep(b), deep=nn.Conv2d(8, 8, 3, padding=1, groups=8))
    assert modules_touched_by_each_group(coupling, "second") == [{"second", "middle.deep", "last"}]
    assert coupling.output_groups("middle.deep") == coupling.output_groups("second")
    assert cut_every_group(net, coupling) == 2
    group = coupling.output_groups("second")[0]
    pruned = cut(net, coupling, Removal({group.number: torch.tensor([1]).numpy()}))
    deep = pruned.get_submodule("middle.deep")
    assert (deep.in_channels, deep.out_channels, deep.groups) == (7, 7, 7)


def test_transposed_convolution_has_its_dimensions_swapped():
    net, coupling = couple(lambda m, a, b: m.up(b), up=nn.ConvTranspose2d(8, 8, 2, 2))
    (group,) = coupling.output_groups("second")
    assert {(m.axis.parameter, m.axis.dim) for m in group.members} == {("second.weight", 0), ("second.bias", 0), ("middle.up.weight", 0)}
    assert cut_every_group(net, coupling) == 3


def test_grouped_transposed_convolution_has_correct_attributes_after_a_cut():
    net, coupling = couple(lambda m, a, b: m.up(b), last=16, up=nn.ConvTranspose2d(8, 16, 2, 2, groups=2))
    reads = coupling.output_groups("second")[0]
    pruned = cut(net, coupling, smallest_removal(coupling, [reads, coupling.output_groups("middle.up")[0]]))
    up = pruned.get_submodule("middle.up")
    assert (up.in_channels, up.out_channels, up.groups, tuple(up.weight.shape[:2])) == (6, 14, 2, (6, 7))


def test_cut_keeps_parameters_as_parameters_and_buffers_as_buffers():
    net, coupling = couple(lambda m, a, b: m.norm(b), norm=nn.BatchNorm2d(8))
    (group,) = coupling.output_groups("second")
    pruned = cut(net, coupling, smallest_removal(coupling, [group]))
    assert dict(pruned.named_parameters()).keys() == dict(net.named_parameters()).keys()
    assert dict(pruned.named_buffers()).keys() == dict(net.named_buffers()).keys()
    assert pruned.get_buffer("middle.norm.running_mean").shape == (7,)


def test_cut_of_a_locked_layer_is_refused():
    net, coupling = couple(lambda _, a, b: b)
    (locked,) = coupling.output_groups("last")
    with pytest.raises(PlanError, match="the plan cuts last, which is locked: feeds the model's predictions"):
        cut(net, coupling, Removal({locked.number: torch.tensor([0]).numpy()}))


def test_squeeze_and_excite_scales_by_channel():
    def squeeze(m: nn.Module, a: Tensor, b: Tensor) -> Tensor:
        return b * m.back(torch.relu(m.narrow(b.mean((2, 3), keepdim=True)))).sigmoid()

    net, coupling = couple(squeeze, narrow=nn.Conv2d(8, 2, 1), back=nn.Conv2d(2, 8, 1))
    assert modules_touched_by_each_group(coupling, "second") == [{"second", "middle.narrow", "middle.back", "last"}]
    assert cut_every_group(net, coupling, channels=1) == 3


def test_flatten_before_a_linear_layer_repeats_each_channel():
    class Classifier(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = nn.Conv2d(3, 6, 3, stride=2, padding=1)
            self.pool = nn.AdaptiveAvgPool2d(2)
            self.last = nn.Linear(24, 5)

        def forward(self, image: Tensor) -> Tensor:
            return self.last(self.pool(self.first(image)).flatten(1))

    net = Classifier().eval()
    _, coupling = trace_model(net)
    (group,) = coupling.output_groups("first")
    reads = next(member for member in group.members if member.axis.module == "last")
    assert reads.indices.tolist() == [[4 * c, 4 * c + 1, 4 * c + 2, 4 * c + 3] for c in range(6)]
    assert cut_every_group(net, coupling) == 1


def test_weight_that_is_used_twice_is_cut_once():
    net, coupling = couple(lambda m, a, b: m.twice(m.twice(b)), twice=nn.Conv2d(8, 8, 1))
    assert modules_touched_by_each_group(coupling, "second") == [{"second", "middle.twice", "last"}]
    assert cut_every_group(net, coupling) == 2


def test_constant_of_fixed_size_locks_the_channels_that_it_is_added_to():
    constant = torch.linspace(1, 2, 8).reshape(1, 8, 1, 1)
    _, coupling = couple(lambda _, a, b: b + constant.to(b.device))
    (group,) = coupling.output_groups("second")
    assert not group.prunable
    assert "constant of fixed extent" in group.reason


def test_constant_added_to_the_outputs_of_a_layer_locks_them():
    adding = {
        "convolution": lambda m, a, b: F.conv2d(b, m.layer.weight, torch.ones(8, device=b.device))[..., :1, :1],
        "new_zeros": lambda m, a, b: torch.addmm(b.new_zeros(8), b.mean((2, 3)), m.full.weight.t())[..., None, None],
    }
    for name, middle in adding.items():
        _, coupling = couple(middle, layer=nn.Conv2d(8, 8, 1, bias=False), full=nn.Linear(8, 8, bias=False))
        (held,) = (group for group in coupling.groups if any(member.axis == Axis("last.weight", 1) for member in group.members))
        assert held.lock is not None
        assert held.lock.operation == name


def test_channel_added_to_padding_is_locked_and_its_neighbours_are_free():
    net, coupling = couple(lambda m, a, b: F.pad(b, (0, 0, 0, 0, 2, 1)) + m.layer(a), last=11, layer=nn.Conv2d(8, 11, 1))
    held = [group for group in coupling.output_groups("middle.layer") if group.lock]
    assert [(group.channels, group.members[0].indices.reshape(-1).tolist()) for group in held] == [(3, [0, 1, 10])]
    assert cut_every_group(net, coupling) == 2


def test_softmax_over_channels_locks_them():
    _, coupling = couple(lambda _, a, b: b.softmax(1))
    assert "softmax mixes channels" in coupling.output_groups("second")[0].reason


def test_operation_without_a_rule_locks_its_inputs_and_is_listed():
    _, coupling = couple(lambda _, a, b: torch.special.i0(b))
    (group,) = coupling.output_groups("second")
    assert not group.prunable
    assert group.reason == "no rule for the operation i0 (i0 in middle)"
    assert coupling.unknown_operations == {"i0": 1}


def test_image_and_prediction_channels_are_locked_with_their_reasons():
    _, coupling = couple(lambda _, a, b: b)
    assert coupling.output_groups("last")[0].reason.startswith("feeds the model's predictions")
    image = next(group for group in coupling.groups if group.members[0].axis == coupling.input_axes["first"])
    assert image.reason == "reads the image"
