"""PyTorch's MultiheadAttention: its heads are narrowed independently of its input, and an uncut one keeps its class."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import tui_pruner as tp
from tests.coverage_any.ours import TwoProofs, all_at_once, removal_of_one, widths


class Attending(nn.Module):
    """A layer, attention, and a layer."""

    def __init__(self, weights: bool = False, mask: str = "", across: bool = False, **options: Any) -> None:
        super().__init__()
        self.weights, self.masked, self.across = weights, mask, across
        self.first, self.attention, self.last = nn.Linear(6, 16), nn.MultiheadAttention(16, 4, **options), nn.Linear(16, 3)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        x = torch.relu(self.first(x))
        places = x.shape[1 if self.attention.batch_first and x.dim() == 3 else 0]
        batch = x.shape[0 if self.attention.batch_first else 1]
        masks: dict[str, Any] = {
            "": {},
            "places": {"attn_mask": torch.triu(torch.ones(places, places, dtype=torch.bool), 1)},
            "heads": {"attn_mask": torch.linspace(0, 1, batch * 4 * places * places).reshape(batch * 4, places, places)},
            "both": {
                "attn_mask": torch.triu(torch.ones(places, places, dtype=torch.bool), 1),
                "key_padding_mask": (torch.arange(places) == 1).expand(batch, places),
            },
        }
        other = x.flip(0) if self.across else x
        y, weights = self.attention(
            x, other, other, need_weights=self.weights, **{k: m.to(x.device) for k, m in masks[self.masked].items()}
        )
        return (self.last(y), weights) if self.weights else (self.last(y),)


class Stack(nn.Module):
    """PyTorch's fused layers over attention."""

    def __init__(self) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(16, 4, 32, batch_first=True)
        self.first, self.encoder, self.last = nn.Linear(6, 16), nn.TransformerEncoder(layer, 2), nn.Linear(16, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.encoder(self.first(x)))


FORMS: dict[str, Any] = {
    "batch first": lambda: Attending(batch_first=True),
    "weights": lambda: Attending(weights=True),
    "a mask of places": lambda: Attending(mask="places", batch_first=True, bias=False),
    "a mask of heads": lambda: Attending(mask="heads", batch_first=True),
    "both masks": lambda: Attending(weights=True, mask="both", batch_first=True),
    "keys of another input": lambda: Attending(across=True, batch_first=True),
    "keys of another input, and a mask": lambda: Attending(across=True, weights=True, mask="both", bias=False),
    "fused layers": Stack,
}


def built(form: str) -> nn.Module:
    torch.manual_seed(0)
    net = FORMS[form]().eval()
    with torch.no_grad():
        for parameter in net.parameters():
            if parameter.ndim == 1:
                parameter.add_(0.3 * torch.rand_like(parameter))
    return net


@pytest.mark.parametrize("form", FORMS)
def test_heads_are_narrowed_and_two_proofs_agree(form):
    net, given = built(form), torch.rand(2, 5, 6)
    session = tp.open(net, example_inputs=(given,))
    analysis = session._steps.analysis
    found = widths(analysis.coupling.groups)
    assert set(found["locked"]) <= {"layer_norm normalises across channels"}
    proofs = TwoProofs(net, given, analysis)
    heads = next(g for g in analysis.coupling.groups if any("in_proj_weight" in m.axis.parameter and m.axis.dim == 0 for m in g.members))
    for removal in (removal_of_one(analysis, heads), all_at_once(analysis)):
        said = proofs.of(removal)
        assert (said["ours"], said["twin"]) == ("equal", "equal"), said


def test_attention_is_cut_by_its_name():
    net = built("fused layers")
    session = tp.open(net, example_inputs=(torch.rand(2, 5, 6),))
    name = "encoder.layers.1.self_attn"
    assert session.layers()[name].out_channels == 48
    session.apply([f"{name}=25%"])
    small = session.model().encoder.layers[1].self_attn
    assert session.layers()[name].out_channels == 36 == small.out_channels and small.value_width == small.key_width == 3
    assert session.layers()[f"{name}.out_proj"].in_channels == 12 and session.prove().equal


def test_narrowed_attention_is_saved_and_loaded(tmp_path):
    net, given = built("fused layers"), torch.rand(2, 5, 6)
    session = tp.open(net, example_inputs=(given,))
    session.target("params=70%")
    assert session.prove().equal
    small = session.model()
    session.save(tmp_path / "small.tp")
    again = tp.load(tmp_path / "small.tp", built("fused layers"))
    with torch.no_grad():
        assert torch.equal(small(given), again(given))
    assert {type(module) for module in net.modules() if "Attention" in type(module).__name__} == {nn.MultiheadAttention}


def test_uncut_attention_stays_pytorchs_class():
    net = built("batch first")
    session = tp.open(net, example_inputs=(torch.rand(2, 5, 6),))
    session.apply(["attention.out_proj=50%"])
    assert type(session.model().attention) is not nn.MultiheadAttention  # its output has another width than its input
    whole = built("fused layers")
    session = tp.open(whole, example_inputs=(torch.rand(2, 5, 6),))
    session.apply(["encoder.layers.0.linear1=50%"])
    assert type(session.model().encoder.layers[0].self_attn) is nn.MultiheadAttention


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"add_bias_kv": True}, "MultiheadAttention keeps its widths in attributes"),
        ({"add_zero_attn": True}, "MultiheadAttention keeps its widths in attributes"),
    ],
)
def test_unsupported_attentions_are_locked_with_a_reason(options, reason):
    session = tp.open(Attending(**options).eval(), example_inputs=(torch.rand(2, 5, 6),))
    groups = [group for group in session.groups() if group.layers == ("attention",)]
    assert groups and all(not group.prunable and reason in group.reason for group in groups)
