"""One share for many layers: where only rounding to whole channels makes them differ, they agree with a note."""

from __future__ import annotations

import pytest

from tests.core.conftest import ask, proof_of
from tests.core.test_families import narrowed
from tui_pruner.core.model.analysis import Analysis
from tui_pruner.core.pruning.explain import status_of


@pytest.fixture(scope="module")
def attentive(tmp_path_factory) -> Analysis:
    """A narrow YOLO11 whose attention has two heads of 32 channels beside a half of 64."""
    return narrowed("yolo11n", tmp_path_factory.mktemp("yaml"))


def free_layers(analysis: Analysis) -> list[str]:
    return [layer.name for layer in analysis.layers.values() if status_of(analysis.coupling, layer, {}).status != "locked"]


@pytest.mark.parametrize("percent", [10, 30])
def test_equal_share_of_every_layer_does_not_contradict_and_is_proved(attentive, percent):
    found = ask(attentive, *(f"{name}={percent}%" for name in free_layers(attentive)))
    assert found.contradictions == () and not [refusal for refusal in found.refusals if "less than one" not in refusal.message]
    assert proof_of(attentive, found.removal).equal


def test_share_raised_to_agree_is_noted(attentive):
    first, second = "model.10.cv1", "model.10.m.0.attn.qkv"
    noted = {p: [note for note in ask(attentive, f"{first}={p}%", f"{second}={p}%").notes if "instead of" in note] for p in range(5, 60)}
    assert any("as many as what is linked to it" in note for notes in noted.values() for note in notes)


def test_different_shares_contradict(attentive):
    found = ask(attentive, "model.10.cv1=10%", "model.10.m.0.attn.qkv=40%")
    assert set(found.contradictions[0].amounts) == {"10%", "40%"}
