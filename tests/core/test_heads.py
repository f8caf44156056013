"""Whole attention heads as a cut of its own."""

from __future__ import annotations

import numpy as np
import pytest

from tests.core.conftest import ask, proof_of
from tests.core.test_families import narrowed
from tui_pruner.core.model.analysis import Analysis
from tui_pruner.core.pruning.plan import Plan, replay
from tui_pruner.core.pruning.removal import Removal
from tui_pruner.core.pruning.session import PruningSession
from tui_pruner.core.pruning.surgery import cut
from tui_pruner.domain.errors import PlanError, RequestError

LAYERS = {
    "yolov10n": "model.10.attn.qkv",
    "yolo11n": "model.10.m.0.attn.qkv",
    "yolo12n": "model.8.m.0.0.attn.qkv",
    "yolo26n": "model.10.m.0.attn.qkv",
}


@pytest.fixture(scope="module", params=LAYERS)
def attentive(request, tmp_path_factory) -> tuple[Analysis, str]:
    """A narrow model with attention, and the layer that writes its heads."""
    return narrowed(request.param, tmp_path_factory.mktemp("yaml")), LAYERS[request.param]


def attention_of(analysis: Analysis, layer: str, removal: Removal):
    return cut(analysis.checkpoint.model, analysis.coupling, removal).get_submodule(layer.removesuffix(".qkv"))


def test_head_is_removed_as_a_whole_and_proved(attentive):
    analysis, layer = attentive
    before = analysis.checkpoint.model.get_submodule(layer.removesuffix(".qkv"))
    found = ask(analysis, f"{layer}=heads:1")
    found.demand_clean()
    after = attention_of(analysis, layer, found.removal)
    assert after.num_heads == before.num_heads - 1 >= 1
    assert after.head_dim == before.head_dim
    assert after.qkv.conv.out_channels * before.num_heads == before.qkv.conv.out_channels * after.num_heads
    assert proof_of(analysis, found.removal).equal


def test_remaining_heads_can_be_narrowed_further(attentive):
    analysis, layer = attentive
    first = ask(analysis, f"{layer}=heads:1")
    second = ask(analysis, f"{layer}=25%", base=first.removal)
    second.demand_clean()
    both = first.removal.together(second.removal)
    after = attention_of(analysis, layer, both)
    assert after.head_dim < analysis.checkpoint.model.get_submodule(layer.removesuffix(".qkv")).head_dim
    assert proof_of(analysis, both).equal


def test_plan_that_removes_a_head_is_replayed(attentive):
    analysis, layer = attentive
    found = ask(analysis, f"{layer}=heads:1")
    plan = Plan.model_validate({**plan_of(analysis).model_dump(), "steps": [found.step.model_dump()]})
    again = replay(plan, analysis.coupling, analysis.checkpoint.sha256)
    assert again.kept(analysis.coupling) == found.removal.kept(analysis.coupling)


def plan_of(analysis: Analysis) -> Plan:
    return PruningSession(analysis).plan


@pytest.fixture(scope="module")
def eleven(tmp_path_factory) -> Analysis:
    """YOLO11 with two heads."""
    return narrowed("yolo11n", tmp_path_factory.mktemp("yaml"))


@pytest.mark.parametrize(
    ("cut_text", "words"),
    [
        ("model.10.m.0.attn.qkv=heads:2", "heads: heads:2 would leave none"),
        ("model.10.m.0.attn.qkv=heads:0", "would remove no head: remove at least 1"),
        ("model.10.m.0.attn.qkv=heads:many", "is not a number of channels"),
        ("model.2.cv1=heads:1", "has no attention that could lose heads"),
    ],
)
def test_impossible_cut_of_heads_is_refused_with_a_hint(eleven, cut_text, words):
    with pytest.raises(RequestError, match=words):
        ask(eleven, cut_text).demand_clean()


def test_plan_that_removes_only_the_keys_of_a_head_is_refused(eleven):
    """All keys of one head without its values would leave nothing to look with."""
    keys = eleven.coupling.output_groups("model.10.m.0.attn.qkv.conv")[0]
    with pytest.raises(PlanError, match="leave at least one"):
        Removal({keys.number: np.arange(keys.channels)}).check(eleven.coupling)
