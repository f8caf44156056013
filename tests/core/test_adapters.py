"""Attributes of modules are correct after a cut: the widths that they split into, their heads, their scale."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
import yaml
from torch import nn
from torch.nn.utils import parametrize
from ultralytics.nn.modules import block
from ultralytics.nn.modules.block import AAttn, Attention

from tests.core.conftest import ask, proof_of
from tests.core.odd_models import Odd, proved_groups, traced
from tui_pruner.core.model.analysis import Analysis, analyse, trace_model
from tui_pruner.core.pruning.surgery import cut
from tui_pruner.core.tracing.adapters import ADAPTERS, EQUAL_WIDTHS, is_adapted, nearest_base
from tui_pruner.core.tracing.labels import Axis
from tui_pruner.frameworks.ultralytics import build_from_yaml

BLOCKS: dict[str, tuple[list[Any], str, dict[str, Any]]] = {
    "C2": ([-1, 1, "C2", [32]], "model.2", {"c": 12}),
    "C2f": ([-1, 2, "C2f", [32]], "model.2", {"c": 12}),
    "C2PSA": ([-1, 1, "C2PSA", [64]], "model.2", {"c": 24}),
    "PSA": ([-1, 1, "PSA", [64]], "model.2", {"c": 24}),
    "RepNCSPELAN4": ([-1, 1, "RepNCSPELAN4", [32, 32, 16, 1]], "model.2", {"c": 12}),
    "ELAN1": ([-1, 1, "ELAN1", [32, 32, 16]], "model.2", {"c": 12}),
    "Attention": ([-1, 1, "PSA", [128, 1.0]], "model.2.attn", {"num_heads": 2, "head_dim": 48, "key_dim": 24, "scale": 32**-0.5}),
    "AAttn": ([-1, 1, "A2C2f", [128, True, 1]], "model.2.m.0.0.attn", {"num_heads": 2, "head_dim": 24, "all_head_dim": 48}),
    "CBLinear": ([-1, 1, "CBLinear", [[64, 32]]], "model.2", {"c2s": [48, 24]}),
    "MSDeformAttn": ([[0, 1], 1, "RTDETRDecoder", ["nc", 16, 4, 2, 2, 1, 24]], "model.2.decoder.layers.0.cross_attn", {"d_model": 12}),
}
"""A block by its row, the module in it, and what its attributes are after a cut of everything by a quarter."""


@pytest.fixture
def opened(tmp_path):
    """Builds a model of two convolutions, a block of 64 or 128 channels in, and a head."""

    def build(row: list[Any]) -> Analysis:
        residual = row[2] == "A2C2f" and True in row[3][3:4]
        wide = row[3][0] if row[2] in ("PSA", "C2PSA") or residual else 64
        rows = [[-1, 1, "Conv", [16, 3, 2]], [-1, 1, "Conv", [wide, 3, 2]], row]
        if row[2] == "CBLinear":
            rows.append([[2, 1], 1, "CBFuse", [[0]]])
        if row[2] != "RTDETRDecoder":
            rows.append([-1, 1, "Classify", ["nc"]])
        path = tmp_path / "block.yaml"
        path.write_text(yaml.safe_dump({"nc": 3, "reg_max": 4, "backbone": rows[:-1], "head": rows[-1:]}))
        return analyse(build_from_yaml(str(path)), imgsz=64)

    return build


def pruned_by_a_quarter(analysis: Analysis) -> nn.Module:
    found = ask(analysis, "*=25%")
    found.demand_clean()
    assert proof_of(analysis, found.removal).equal
    return cut(analysis.checkpoint.model, analysis.coupling, found.removal)


@pytest.mark.parametrize("name", BLOCKS)
def test_width_attributes_of_a_module_equal_its_weights_after_a_cut(opened, name):
    row, path, expected = BLOCKS[name]
    analysis = opened(row)
    original = analysis.checkpoint.model.get_submodule(path)
    before = {attribute: getattr(original, attribute) for attribute in expected}
    module = pruned_by_a_quarter(analysis).get_submodule(path)
    assert {attribute: getattr(module, attribute) for attribute in expected} == expected
    assert {attribute: getattr(original, attribute) for attribute in expected} == before


@pytest.mark.parametrize("name", ["C2f", "RepNCSPELAN4", "ELAN1"])
def test_export_forward_equals_the_forward_after_a_cut(opened, name):
    module = pruned_by_a_quarter(opened(BLOCKS[name][0])).get_submodule("model.2")
    image = torch.rand(1, 48, 8, 8)
    with torch.no_grad():
        assert torch.equal(module.forward_split(image), module(image))


def test_every_class_with_an_export_forward_has_an_adapter():
    kinds = [kind for kind in vars(block).values() if isinstance(kind, type) and "forward_split" in vars(kind)]
    assert kinds and {kind.__name__ for kind in kinds} <= set(ADAPTERS)


def test_open_vocabulary_block_has_correct_widths_after_a_cut():
    analysis = analyse(build_from_yaml("yolov8n-world.yaml"), imgsz=64)
    found = ask(analysis, "model.12.cv1=25%")
    found.demand_clean()
    module = cut(analysis.checkpoint.model, analysis.coupling, found.removal).get_submodule("model.12")
    image, guide = torch.rand(1, 384, 4, 4), torch.rand(1, 5, 512)
    with torch.no_grad():
        assert torch.equal(module.forward_split(image, guide), module(image, guide))


def test_query_scale_is_folded_into_the_norm_of_the_query_only(opened):
    analysis = opened(BLOCKS["AAttn"][0])
    (group,) = [
        g for g in analysis.coupling.output_groups("model.2.m.0.0.attn.qkv.conv") if g.member(g.producers[0].axis).indices[0, 0] == 0
    ]
    found = ask(analysis, "model.2.m.0.0.attn.qkv=25%")
    module = cut(analysis.checkpoint.model, analysis.coupling, found.removal).get_submodule("model.2.m.0.0.attn")
    original = analysis.checkpoint.model.get_submodule("model.2.m.0.0.attn")
    assert group.channels == 32
    for name in ("weight", "bias"):
        kept = getattr(module.qkv.bn, name).reshape(2, 3, 24)
        rows = getattr(original.qkv.bn, name).reshape(2, 3, 32)
        for head in range(2):
            for part, factor in enumerate((0.75**0.5, 1.0, 1.0)):
                scaled = rows[head, part] * factor
                assert all(torch.isclose(scaled, value).any() for value in kept[head, part])
    assert torch.isfinite(module.qkv.bn.running_var).all()


def test_number_of_heads_follows_the_width_of_the_block(opened):
    analysis = opened(BLOCKS["Attention"][0])
    found = ask(analysis, "model.2.cv1=25%")
    assert proof_of(analysis, found.removal).equal
    attention = cut(analysis.checkpoint.model, analysis.coupling, found.removal).get_submodule("model.2.attn")
    assert attention.qkv.conv.in_channels == attention.proj.conv.in_channels == 2 * attention.head_dim == 96
    assert attention.key_dim == 32


def test_heads_of_aattn_are_counted_from_the_kept_channels():
    """Of four heads with three times 32 channels each, the two in the middle."""
    attention = AAttn(64, num_heads=2)
    attention.num_heads = 4
    ADAPTERS["AAttn"](attention, lambda layer: range(96, 288))
    assert (attention.num_heads, attention.head_dim, attention.all_head_dim) == (2, 32, 64)


def test_heads_of_attention_with_narrow_keys_are_counted_from_the_kept_channels():
    """Of four heads with 16 channels of queries, 16 of keys and 32 of values each, the two in the middle."""
    attention = Attention(64, num_heads=2)
    attention.num_heads = 4
    ADAPTERS["Attention"](attention, lambda layer: range(64, 192))
    assert (attention.num_heads, attention.head_dim, attention.key_dim) == (2, 32, 16)


class Named(nn.Module):
    """Attention as timm writes it, under the name that one of Ultralytics' classes has."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv, self.proj = nn.Linear(16, 48), nn.Linear(16, 16)

    def forward(self, x):
        q, k, v = self.qkv(F.max_pool2d(x, 8).flatten(2).transpose(1, 2)).chunk(3, -1)
        return self.proj((q @ k.transpose(1, 2)).softmax(-1) @ v).transpose(1, 2)[..., None]


def test_class_of_the_same_name_outside_ultralytics_has_no_adapter():
    for name in ADAPTERS:
        stranger = type(name, (Named,), {"__module__": "timm.models.vision_transformer"})().eval()
        assert nearest_base(stranger, ADAPTERS) is nearest_base(stranger, EQUAL_WIDTHS) is None
        assert not is_adapted(stranger)
    net, coupling = traced(Odd(lambda net, x: net.attention(x), wide=16, last=16, attention=stranger).eval())
    assert proved_groups(net, coupling) == 4


class Linear(Attention):
    """An heir that makes queries, keys and values in another way."""

    def __init__(self) -> None:
        super().__init__(16, 2)
        self.qkv = nn.Sequential(nn.Conv2d(16, 32, 1), nn.ReLU(), nn.Conv2d(32, 48, 1))

    def forward(self, x):
        q, k, v = self.qkv(x).chunk(3, 1)
        return self.proj(q * k.sigmoid() + v)


def test_subclass_without_the_adapters_attributes_is_cut_by_its_operations():
    net, coupling = traced(Odd(lambda net, x: net.attention(x), wide=16, last=16, attention=Linear().eval()).eval())
    assert nearest_base(net.attention, ADAPTERS) is None and nearest_base(Attention(16, 2), ADAPTERS) == "Attention"
    assert proved_groups(net, coupling) == 4


def test_assumed_equal_width_locks_the_layer_if_the_other_width_is_unknown(opened):
    model = opened(BLOCKS["Attention"][0]).checkpoint.model
    attention = model.get_submodule("model.2.attn")
    parametrize.register_parametrization(attention.qkv.conv, "weight", Turned())
    _, coupling = trace_model(model)
    (reads,) = (group for group in coupling.groups if any(m.axis == Axis("model.2.attn.proj.conv.weight", 1) for m in group.members))
    assert not reads.prunable


class Turned(nn.Module):
    """A parametrization that no rule follows."""

    def forward(self, weight):
        return weight * weight.flatten(1).tril().view_as(weight)


def test_every_adapted_class_has_a_test():
    assert set(ADAPTERS) == {*BLOCKS, "C2fAttn"}  # which reads a guide: below
    assert set(EQUAL_WIDTHS) == {"Attention"}


def test_residual_scale_of_area_attention_blocks_is_cut_too(opened):
    analysis = opened([-1, 1, "A2C2f", [128, True, 1, True, 1.2]])
    assert analysis.checkpoint.model.get_submodule("model.2").gamma.shape == (128,)
    assert pruned_by_a_quarter(analysis).get_submodule("model.2").gamma.shape == (96,)
