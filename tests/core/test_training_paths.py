"""Paths of training are proved by running them, or reported as not exercised, which is not a proof."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from tests.core.conftest import ask
from tests.core.independent import differences
from tests.core.odd_outputs import Auxiliary, Counted, by_chance, in_training_alone, only_with_labels, thrown_away, thrown_away_for_good
from tui_pruner.core.model.analysis import analyse, trace_model
from tui_pruner.core.pruning.proof import Proof, prove
from tui_pruner.core.pruning.removal import Removal
from tui_pruner.core.pruning.surgery import cut
from tui_pruner.core.pruning.twin import Original
from tui_pruner.core.tracing.coupling_map import ChannelGroup, CouplingMap
from tui_pruner.core.tracing.size_check import smallest_removal
from tui_pruner.frameworks.ultralytics import build_from_yaml


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


def image() -> Tensor:
    return torch.rand(2, 3, 32, 32)


def free(coupling: CouplingMap) -> dict[str, ChannelGroup]:
    return {group.producers[0].axis.module: group for group in coupling.groups if group.prunable}


def proved(net: nn.Module, coupling: CouplingMap, removal: Removal, pruned: nn.Module) -> Proof:
    return prove(net, pruned, coupling, removal, original=Original(net, images=image()))


def output_tensors(output: object) -> list[Tensor]:
    return list(output) if isinstance(output, tuple) else [output]


@pytest.mark.parametrize("how", [in_training_alone, thrown_away])
@pytest.mark.parametrize("layer", ["stem", "aux.0"])
def test_auxiliary_head_is_proved_on_the_training_paths(how, layer):
    net = Auxiliary(how).eval()
    _, coupling = trace_model(net)
    assert set(free(coupling)) == {"stem", "aux.0"}, "the auxiliary predictions are predictions"
    removal = smallest_removal(coupling, [free(coupling)[layer]])
    pruned = cut(net, coupling, removal)
    proof = proved(net, coupling, removal, pruned)
    difference, effect = differences(net, pruned, removal.kept(coupling), image(), output_tensors, training=True)
    assert (proof.equal, proof.not_exercised) == (True, ())
    assert proof.effect > 1e-3 and difference < 1e-12 < effect
    for damaged in ("aux.0", "aux.2"):
        wrong = copy.deepcopy(pruned)
        wrong.get_submodule(damaged).weight.data[0].mul_(1.5)
        assert proved(net, coupling, removal, wrong).verdict == "not equal", damaged
    wrong.aux = copy.deepcopy(net.aux)
    wrong.aux[0] = nn.Conv2d(5, 6, 3, padding=1)
    where = " in training" if how is in_training_alone else ""
    assert proved(net, coupling, removal, wrong).failure.startswith(f"the pruned model{where} does not run: Given groups=1")


@pytest.mark.parametrize("how", [thrown_away_for_good, only_with_labels])
def test_parameters_without_effect_on_any_prediction_are_locked(how):
    net = Auxiliary(how).eval()
    _, coupling = trace_model(net)
    reasons = {member.axis.module: group.reason for group in coupling.groups for member in group.producers}
    assert free(coupling) == {}
    assert reasons["stem"] == reasons["aux.0"] == reasons["aux.2"] == "is read by what no prediction depends on, so no proof could tell"


def test_random_training_paths_are_not_exercised_and_so_not_equal():
    net = Auxiliary(by_chance).eval()
    _, coupling = trace_model(net)
    removal = smallest_removal(coupling, [free(coupling)["aux.0"]])
    proof = proved(net, coupling, removal, cut(net, coupling, removal))
    assert (proof.equal, proof.verdict, proof.not_exercised) == (False, "not exercised", ("aux.0", "aux.2"))
    removal = smallest_removal(coupling, [free(coupling)["stem"]])
    proof = proved(net, coupling, removal, cut(net, coupling, removal))
    assert (proof.equal, proof.not_exercised) == (False, ("aux.0",)), "the stem's own reader is proved, the auxiliary one is not"
    assert proof.effect > 1e-3
    net.how = lambda net, scores, features: scores
    assert proved(net, coupling, removal, cut(net, coupling, removal)).not_exercised == ("aux.0",)


def test_running_mean_written_in_training_is_proved():
    net = Counted().eval()
    _, coupling = trace_model(net)
    removal = smallest_removal(coupling, [free(coupling)["stem"]])
    pruned = cut(net, coupling, removal)
    assert pruned.mean.shape == (7,)
    assert proved(net, coupling, removal, pruned).equal
    assert (net.calls.item(), net.mean.abs().max().item()) == (0, 0), "a proof changes nothing in the model"
    swapped = copy.deepcopy(pruned)
    swapped.mean[2] = 1.0
    assert proved(net, coupling, removal, swapped).verdict == "not equal"
    swapped.mean = net.mean.clone()
    assert proved(net, coupling, removal, swapped).failure.startswith("the pruned model in training does not run")


def test_channels_that_relu_always_zeroes_are_proved_with_random_weights():
    net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 4, 3)).eval()
    net[0].bias.data[:2] = -1e3
    _, coupling = trace_model(net)
    group = free(coupling)["0"]
    dead, alive = (Removal({group.number: torch.tensor(places).numpy()}) for places in ([0, 1], [2, 3]))
    proof = proved(net, coupling, dead, cut(net, coupling, dead))
    assert (proof.equal, proof.effect) == (True, 0.0)
    assert not proved(net, coupling, dead, cut(net, coupling, alive)).equal
    assert not proved(net, coupling, dead, net).equal, "an uncut model computes the same, and is not what was to be made"


def test_branch_before_a_zero_layer_is_proved_by_the_output_of_the_layer_before():
    net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Tanh(), nn.Conv2d(8, 6, 3), nn.Tanh(), nn.Conv2d(6, 4, 3)).eval()
    nn.init.zeros_(net[4].weight)
    _, coupling = trace_model(net)
    group = free(coupling)["0"]
    right, other = (Removal({group.number: torch.tensor(places).numpy()}) for places in ([0, 1], [2, 3]))
    proof = proved(net, coupling, right, cut(net, coupling, right))
    assert (proof.equal, proof.effect) == (True, 0.0)
    assert proved(net, coupling, right, cut(net, coupling, other)).verdict == "not exercised"


def test_training_branch_of_a_stock_model_is_exercised_and_a_wrong_cut_is_detected():
    analysis = analyse(build_from_yaml("yolo26n-sem.yaml", classes=3), imgsz=64)
    model, coupling = analysis.checkpoint.model, analysis.coupling
    removal = ask(analysis, "*=25%").removal
    pruned, original = cut(model, coupling, removal), Original(model)
    proof = prove(model, pruned, coupling, removal, original=original)
    assert (proof.equal, proof.not_exercised) == (True, ())
    pruned.get_submodule("model.17.aux_head").get_parameter("0.conv.weight").data[0].mul_(1.5)
    assert prove(model, pruned, coupling, removal, original=original).verdict == "not equal"
