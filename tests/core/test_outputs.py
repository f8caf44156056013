"""Outputs are found in any container, or the model is refused; a proof compares all of them."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from tests.core.independent import differences
from tests.core.odd_outputs import HOLDING, POSITIONS, REFUSED, Returning
from tui_pruner.core.model.analysis import trace_model
from tui_pruner.core.pruning.proof import Proof, prove
from tui_pruner.core.pruning.removal import Removal
from tui_pruner.core.pruning.surgery import cut
from tui_pruner.core.pruning.twin import Original
from tui_pruner.core.tracing.coupling_map import ChannelGroup, CouplingMap
from tui_pruner.core.tracing.size_check import smallest_removal
from tui_pruner.domain.errors import ProofError, TraceError


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


def image() -> Tensor:
    return torch.rand(2, 3, 32, 32)


def free(coupling: CouplingMap) -> dict[str, ChannelGroup]:
    return {group.producers[0].axis.module: group for group in coupling.groups if group.prunable}


def returned(coupling: CouplingMap) -> set[str]:
    groups = (group for group in coupling.groups if group.producers and group.reason.startswith("feeds the model's predictions"))
    return {member.axis.module for group in groups for member in group.producers}


def proved(net: nn.Module, coupling: CouplingMap, removal: Removal, pruned: nn.Module | None = None) -> Proof:
    return prove(net, pruned or cut(net, coupling, removal), coupling, removal, original=Original(net, images=image()))


@pytest.mark.parametrize("name", HOLDING)
def test_tensors_are_found_in_the_container(name):
    net = Returning(HOLDING[name]).eval()
    _, coupling = trace_model(net)
    assert (free(coupling), returned(coupling)) == ({}, {"stem", "out"})


@pytest.mark.parametrize("name", HOLDING)
def test_cut_is_proved_by_tensors_in_the_container(name):
    wrap = HOLDING[name]
    net = Returning(lambda scores, _: wrap(scores, scores)).eval()
    _, coupling = trace_model(net)
    assert returned(coupling) == {"out"}
    removal = smallest_removal(coupling, [free(coupling)["stem"]])
    pruned = cut(net, coupling, removal)
    proof = proved(net, coupling, removal, pruned)
    assert proof.equal
    assert proof.effect > 1e-3
    assert proof.elements >= 2 * 4 * 32 * 32
    pruned.stem.bias.data[0] += 0.1
    assert not proved(net, coupling, removal, pruned).equal


@pytest.mark.parametrize("name", REFUSED)
def test_model_with_unsearchable_outputs_is_refused(name):
    wrap, words = REFUSED[name]
    with pytest.raises(TraceError) as refused:
        trace_model(Returning(wrap).eval())
    assert words in str(refused.value)


@pytest.mark.parametrize("name", ["nothing", "an empty dict", "a set", "a reference"])
def test_proof_without_anything_to_compare_is_an_error(name):
    net = Returning(lambda scores, _: scores).eval()
    _, coupling = trace_model(net)
    net.wrap = REFUSED[name][0]
    with pytest.raises(ProofError, match="there is nothing to prove: "):
        proved(net, coupling, smallest_removal(coupling, [free(coupling)["stem"]]))


@pytest.mark.parametrize("name", POSITIONS)
def test_returned_channels_are_locked_whatever_module_is_last(name):
    make, may_go, must_stay = POSITIONS[name]
    net = make().eval()
    _, coupling = trace_model(net, (1, 3, 32, 32))
    assert (set(free(coupling)), returned(coupling)) == (may_go, must_stay)
    for layer, group in free(coupling).items():
        removal = smallest_removal(coupling, [group])
        pruned = cut(net, coupling, removal)
        proof = proved(net, coupling, removal, pruned)
        difference, effect = differences(net, pruned, removal.kept(coupling), image(), tensors_of_outputs)
        assert proof.equal, (layer, proof)
        assert difference < 1e-12 < effect
        assert proof.effect > 1e-3
        pruned.get_submodule(layer).bias.data[0] += 0.1
        assert not proved(net, coupling, removal, pruned).equal, layer


def tensors_of_outputs(output: object) -> list[Tensor]:
    """All tensors of these networks' outputs."""
    if isinstance(output, dict):
        return list(output.values())
    return list(output) if isinstance(output, tuple) else [output]


def smaller(net: Returning, coupling: CouplingMap) -> tuple[Removal, nn.Module]:
    removal = smallest_removal(coupling, [free(coupling)["stem"]])
    return removal, cut(net, coupling, removal)


def test_proof_is_not_equal_if_no_values_are_left_to_compare():
    net = Returning(lambda scores, _: scores).eval()
    _, coupling = trace_model(net)
    removal, pruned = smaller(net, coupling)
    for shared in (lambda scores, _: scores[:0], lambda scores, _: scores * float("nan")):
        net.wrap = pruned.wrap = shared
        proof = proved(net, coupling, removal, pruned)
        assert (proof.equal, proof.verdict, proof.elements) == (False, "not exercised", 0)
        assert proof.not_exercised == ("stem", "out")
        assert proof.reason == "not exercised, since no output has a finite number to compare: check the weights and the inputs"


def divided(scores: Tensor, _: Tensor) -> Tensor:
    """0/0 at every other place."""
    mask = (torch.arange(scores.shape[-1]) % 2).to(scores)
    return scores * mask / mask


def test_equal_nan_in_all_three_models_is_neither_a_difference_nor_an_effect():
    net = Returning(lambda scores, _: scores).eval()
    _, coupling = trace_model(net)
    removal, pruned = smaller(net, coupling)
    net.wrap = pruned.wrap = divided
    proof = proved(net, coupling, removal, pruned)
    assert (proof.equal, proof.elements) == (True, 2 * 4 * 32 * 16)
    pruned.stem.bias.data[0] += 0.1
    assert proved(net, coupling, removal, pruned).verdict == "not equal"
    removal, pruned = smaller(net, coupling)
    pruned.wrap = lambda scores, _: scores
    assert not proved(net, coupling, removal, pruned).equal, "numbers where the twin has none"
    net.wrap, pruned.wrap = pruned.wrap, divided
    assert not proved(net, coupling, removal, pruned).equal, "no numbers where the twin has some"


class Renormed(Returning):
    """Every channel is divided by its own norm, which is zero for one that is masked."""

    def forward(self, image: Tensor) -> Tensor:
        y = self.stem(image)
        return self.out(y / y.flatten(2).norm(dim=-1)[..., None, None])


def test_channel_divided_by_its_own_norm_is_proved_with_a_mask_of_almost_zero():
    net = Renormed(lambda scores, _: scores).eval()
    _, coupling = trace_model(net)
    removal, pruned = smaller(net, coupling)
    proof = proved(net, coupling, removal, pruned)
    assert (proof.equal, proof.precision) == (True, "float64")
    assert proof.effect > 1e-3 > 1e-7 > proof.relative_difference > 0
    pruned.stem.bias.data[0] += 0.1
    assert proved(net, coupling, removal, pruned).verdict == "not equal"


def test_integers_are_compared_and_constants_changed_by_a_cut_are_reported():
    net = Returning(lambda scores, _: scores).eval()
    _, coupling = trace_model(net)
    group = free(coupling)["stem"]
    removal, other = (Removal({group.number: places}) for places in (torch.arange(4).numpy(), torch.arange(4, 8).numpy()))
    pruned, wrong = cut(net, coupling, removal), cut(net, coupling, other)
    net.wrap = pruned.wrap = wrong.wrap = lambda scores, _: scores.argmax(1)
    proof = proved(net, coupling, removal, pruned)
    assert (proof.equal, proof.precision) == (True, "float64")
    assert not proved(net, coupling, removal, wrong).equal
    net.wrap = pruned.wrap = lambda scores, features: (scores, features.shape[1])
    proof = proved(net, coupling, removal, pruned)
    assert (proof.equal, proof.failure) == (False, "output[1] is 4 in place of 8")
    pruned.wrap = lambda scores, features: {"scores": scores}
    assert "is in the output of the" in proved(net, coupling, removal, pruned).failure
    pruned.wrap = lambda scores, features: (scores[:1], 8)
    assert proved(net, coupling, removal, pruned).failure == "output[0] has the shape [1, 4, 32, 32] in place of [2, 4, 32, 32]"
