"""Attention: PyTorch's module is narrowed independently of its input; without a scale of its own, queries are scaled on request."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import tui_pruner as tp
from tests.core.independent import zero_removed_slices
from tests.coverage_any.ours import TwoProofs, all_at_once, removal_of_one, widths
from tui_pruner.cli.commands.prune import verdict


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


class WithoutScale(nn.Module):
    """Attention that divides by the root of the width of its heads, with a body of its own."""

    def __init__(self, attend: Any, bias: bool = True) -> None:
        super().__init__()
        self.attend, self.heads, self.width = attend, 2, 8
        self.first, self.qkv = nn.Linear(6, 12), nn.Linear(12, 48, bias=bias)
        self.query, self.key, self.value = (nn.Linear(12, 16, bias=bias) for _ in range(3))
        self.norm, self.flat, self.last = nn.LayerNorm(16), nn.Conv1d(12, 16, 1), nn.Linear(16, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.attend(self, torch.relu(self.first(x))))

    def split(self, x: Tensor) -> Tensor:
        return x.view(len(x), -1, self.heads, self.width).transpose(1, 2)


def joined(x: Tensor) -> Tensor:
    return x.transpose(1, 2).flatten(2)


def fused(net: Any, x: Tensor) -> Tensor:
    query, key, value = net.qkv(x).view(len(x), -1, 3, net.heads, net.width).permute(2, 0, 3, 1, 4).unbind(0)
    return joined(F.scaled_dot_product_attention(query, key, value))


def apart(net: Any, x: Tensor) -> Tensor:
    return joined(F.scaled_dot_product_attention(net.split(net.query(x)), net.split(net.key(x)), net.split(net.value(x))))


def masked(net: Any, x: Tensor) -> Tensor:
    mask = torch.ones(x.shape[1], x.shape[1], dtype=torch.bool).tril()
    parts = (net.split(layer(x)) for layer in (net.query, net.key, net.value))
    return joined(F.scaled_dot_product_attention(*parts, mask, 0.0, False, scale=None))


def beside_a_root(net: Any, x: Tensor) -> Tensor:
    return apart(net, x) / x.shape[-1] ** 0.5


def of_itself(net: Any, x: Tensor) -> Tensor:
    query = net.query(x)
    return F.scaled_dot_product_attention(query, query, net.value(x))


def turned(net: Any, x: Tensor) -> Tensor:
    query = net.query(x)
    return F.scaled_dot_product_attention(query * 0.8 + query.flip(1) * 0.6, net.key(x), net.value(x))


def normalised(net: Any, x: Tensor) -> Tensor:
    return F.scaled_dot_product_attention(net.norm(net.query(x)), net.key(x), net.value(x))


def added(net: Any, x: Tensor) -> Tensor:
    query = net.query(x)
    return query + F.scaled_dot_product_attention(query, net.key(x), net.value(x))


def added_to_part(net: Any, x: Tensor) -> Tensor:
    query = net.split(net.query(x))
    return joined(query + F.scaled_dot_product_attention(query, net.split(net.key(x)), net.split(net.value(x))))


def twice(net: Any, x: Tensor) -> Tensor:
    return F.scaled_dot_product_attention(net.query(x), net.key(x), net.query(x.flip(1)))


def written_into(net: Any, x: Tensor) -> Tensor:
    query = net.query(x)
    query.mul_(1.5).add_(0.1)
    return F.scaled_dot_product_attention(query, net.key(x), net.value(x))


def convolved(net: Any, x: Tensor) -> Tensor:
    return F.scaled_dot_product_attention(net.flat(x.mT).mT, net.key(x), net.value(x))


def by_names(net: Any, x: Tensor) -> Tensor:
    mask = torch.linspace(0, 1, 25).view(5, 5)
    return F.scaled_dot_product_attention(attn_mask=mask, value=net.value(x), key=net.key(x), query=net.query(x))


def crossed(net: Any, x: Tensor) -> Tensor:
    query, key, value = net.query(x), net.key(x), net.value(x)
    return F.scaled_dot_product_attention(query, key, value) + F.scaled_dot_product_attention(key, query, value)


def read_as_value(net: Any, x: Tensor) -> Tensor:
    query, key, value = net.query(x), net.key(x), net.value(x)
    return F.scaled_dot_product_attention(query, key, value) + F.scaled_dot_product_attention(net.value(x.flip(1)), key, query)


def of_two(net: Any, x: Tensor) -> Tensor:
    query = net.query(x)
    return sum(F.scaled_dot_product_attention(query, net.key(y), net.value(y)) for y in (x, x.flip(1)))  # type: ignore[return-value]


SCALED = {"fused": fused, "apart": apart, "a mask": masked, "another root": beside_a_root, "two attentions": of_two, "by names": by_names}
LOCKED = {
    "its own key": of_itself,
    "turned": turned,
    "normalised": normalised,
    "added": added,
    "a part added": added_to_part,
    "a layer run twice": twice,
    "written into": written_into,
    "a convolution": convolved,
    "two attentions crossed": crossed,
    "the value of another": read_as_value,
}


def opened_without_scale(attend: Any, bias: bool, approximate: bool) -> tuple[nn.Module, Tensor, Any]:
    torch.manual_seed(0)
    net, given = WithoutScale(attend, bias).eval(), torch.rand(2, 5, 6)
    for layer in (net.qkv, net.query, net.key):
        layer.weight.data *= 6  # so that attention chooses, and its scale matters
    return net, given, tp.open(net, example_inputs=(given,), approximate=approximate)


@pytest.mark.parametrize("bias", [True, False], ids=["bias", "no bias"])
@pytest.mark.parametrize("name", SCALED)
def test_queries_are_scaled_on_request_where_attention_divides_by_the_root_of_a_width(name, bias):
    layer = "qkv" if name == "fused" else "query"
    _, _, session = opened_without_scale(SCALED[name], bias, approximate=False)
    with pytest.raises(tp.RequestError, match="root of this width"):
        session.apply([f"{layer}=50%"])
    net, given, session = opened_without_scale(SCALED[name], bias, approximate=True)
    assert any("scaled" in note for note in session.notes)
    session.apply([f"{layer}=25%"])
    proof, small = session.prove(), session.model()
    assert proof.verdict == "approximate" and proof.approximate == proof.scaled == (layer,)
    assert proof.reason.startswith("1 layer with a scaled query; ") and "normalisation" not in proof.reason
    wanted = zero_removed_slices(net, session._steps.removal.kept(session._steps.analysis.coupling))
    with torch.no_grad():
        mine, twin, before = small.double()(given.double()), wanted(given.double()), net.double()(given.double())
    assert torch.allclose(mine, twin, rtol=1e-6, atol=1e-6) and float((twin - before).abs().max()) > 1e-3


def test_a_normalisation_and_a_scaled_query_are_told_apart():
    net = WithoutScale(apart).eval()
    body = nn.Sequential(net, nn.Linear(3, 12), nn.LayerNorm(12), nn.Linear(12, 4))
    session = tp.open(body, example_inputs=(torch.rand(2, 5, 6),), approximate=True)
    session.apply(["0.query=50%", "1=50%"])
    proof = session.prove()
    assert (proof.approximate, proof.scaled, proof.plain()["scaled"]) == (("2", "0.query"), ("0.query",), ["0.query"])
    assert proof.reason.startswith("1 layer with a normalisation over what is left and 1 layer with a scaled query; ")
    assert "from a masked twin with such normalisations" in verdict(proof)


def test_a_scaled_query_alone_is_checked_against_the_masked_twin_itself():
    _, _, session = opened_without_scale(apart, True, approximate=True)
    session.apply(["query=50%"])
    assert verdict(session.prove()).startswith("checked    APPROXIMATE: 1 layer with a scaled query; ")
    assert verdict(session.prove()).endswith(" from the masked twin)")


def test_a_cut_without_the_scale_is_not_equal(monkeypatch):
    monkeypatch.setattr("tui_pruner.core.pruning.surgery.scale_rows", lambda *_: None)
    _, _, session = opened_without_scale(apart, True, approximate=True)
    session.apply(["query=50%"])
    assert session.prove().verdict == "not equal"


@pytest.mark.parametrize("name", LOCKED)
def test_a_query_that_something_else_reads_is_not_scaled(name):
    _, _, session = opened_without_scale(LOCKED[name], True, approximate=True)
    assert not session._steps.analysis.coupling.scaled
    with pytest.raises(tp.RequestError, match=r"root of this width|another part, which is locked|layer_norm|forward computes"):
        session.apply(["flat=50%" if name == "a convolution" else "query=50%"])


def test_a_scaled_query_is_saved_with_the_plan(tmp_path):
    net, given, session = opened_without_scale(fused, True, approximate=True)
    session.apply(["qkv=50%"])
    session.save(tmp_path / "small.tp")
    again = tp.load(tmp_path / "small.tp", WithoutScale(fused))
    applied = [tp.apply_plan(net, plan) for plan in (session.plan(), tmp_path / "small.tp" / "plan.yaml")]
    with torch.no_grad():
        for other in (again, *applied):
            assert torch.equal(session.model()(given), other(given))
    unscaled = session.plan()
    del unscaled["scaled"]
    with torch.no_grad():
        assert not torch.allclose(session.model()(given), tp.apply_plan(net, unscaled)(given), atol=1e-4)


@pytest.mark.parametrize(
    ("scaled", "words"),
    [({"nothing": {"0": 0.5}}, "does not have"), ({"qkv.weight": {"99": 0.5}}, "row 99"), ({"qkv.weight": {"x": 0.5}}, "not an ascending")],
)
def test_a_plan_that_scales_what_is_not_there_is_refused(scaled, words):
    net, _, session = opened_without_scale(fused, True, approximate=True)
    session.apply(["qkv=50%"])
    with pytest.raises(tp.PlanError, match=words):
        tp.apply_plan(net, {**session.plan(), "scaled": scaled})


def test_a_refit_keeps_the_scale_of_a_query():
    net, _, session = opened_without_scale(apart, True, approximate=True)
    session.apply(["query=50%"])
    cut = session.model().query.weight.clone()
    session.reconstruct([torch.rand(4, 5, 6) for _ in range(6)])
    small = session.model()
    assert torch.equal(small.query.weight, cut) and not torch.equal(small.last.weight, net.last.weight)
