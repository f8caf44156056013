"""Widths in attributes of a module: found by trial, rewritten with each cut, locked where the forward computes with them."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import tui_pruner as tp
from tests.coverage_any.ours import TwoProofs, all_at_once
from tui_pruner.core.pruning.coverage import removal_of_one
from tui_pruner.core.tracing.coupling_map import WidthName
from tui_pruner.core.tracing.width_search import put_widths


class Heads(nn.Module):
    """Attention as timm writes it: the forward names the width of a head and that of all heads."""

    def __init__(self, scaled: str = "attribute") -> None:
        super().__init__()
        self.num_heads, self.head_dim, self.attn_dim, self.scale, self.scaled = 4, 8, 32, 8**-0.5, scaled
        self.qkv, self.proj = nn.Linear(24, 96), nn.Linear(32, 24)

    def forward(self, x: Tensor) -> Tensor:
        batch, places, _ = x.shape
        q, k, v = self.qkv(x).reshape(batch, places, 3, self.num_heads, self.head_dim).permute(2, 0, 3, 1, 4).unbind(0)
        scale = self.scale if self.scaled == "attribute" else self.head_dim**-0.5
        attention = (q * scale @ k.transpose(-2, -1)).softmax(-1)
        return self.proj((attention @ v).transpose(1, 2).reshape(batch, places, self.attn_dim))


class Apart(nn.Module):
    """Queries and values with layers of their own, folded by one attribute: they stay equally wide."""

    def __init__(self) -> None:
        super().__init__()
        self.heads, self.width = 2, 6
        self.q, self.k, self.v, self.proj = nn.Linear(24, 12), nn.Linear(24, 12), nn.Linear(24, 12), nn.Linear(12, 24)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (layer(x).view(*x.shape[:2], self.heads, self.width).transpose(1, 2) for layer in (self.q, self.k, self.v))
        mixed = ((q @ k.transpose(-2, -1)) / 3).softmax(-1) @ v
        return self.proj(mixed.transpose(1, 2).flatten(2))


class Parts(nn.Module):
    """A split into widths that a tuple, or two attributes, name."""

    def __init__(self, named: Any = (6, 10, 8)) -> None:
        super().__init__()
        self.widths = named
        self.enter, self.leave = nn.Linear(24, 24), nn.Linear(24, 24)
        self.scale = nn.Linear(10, 10)

    def forward(self, x: Tensor) -> Tensor:
        a, b, c = self.enter(x).relu().split(list(self.widths), -1)
        return self.leave(torch.cat((a.tanh(), self.scale(b), c), -1))


class TwoWidths(nn.Module):
    """A split by one attribute and the rest of the whole width, as shvit has it."""

    def __init__(self) -> None:
        super().__init__()
        self.dim, self.part = 24, 7
        self.enter, self.inner, self.leave = nn.Linear(24, 24), nn.Linear(7, 7), nn.Linear(24, 24)

    def forward(self, x: Tensor) -> Tensor:
        a, b = self.enter(x).relu().split([self.part, self.dim - self.part], -1)
        return self.leave(torch.cat((self.inner(a), b), -1))


class Slices(nn.Module):
    """Complementary slices whose bound an attribute names, as rexnet has them."""

    def __init__(self) -> None:
        super().__init__()
        self.bound = 9
        self.enter, self.inner, self.leave = nn.Linear(24, 24), nn.Linear(9, 9), nn.Linear(24, 24)

    def forward(self, x: Tensor) -> Tensor:
        x = self.enter(x).relu()
        return self.leave(torch.cat((self.inner(x[..., : self.bound]), x[..., self.bound :]), -1))


class Thirds(nn.Module):
    """Slices whose bounds the forward computes from the whole width."""

    def __init__(self) -> None:
        super().__init__()
        self.enter, self.leave = nn.Linear(24, 24), nn.Linear(8, 24)

    def forward(self, x: Tensor) -> Tensor:
        x = self.enter(x)
        third = x.shape[-1] // 3
        return self.leave(x[..., :third].tanh() * x[..., third : 2 * third] + x[..., 2 * third :].relu())


class Halves(nn.Module):
    """A split by half of an attribute, as cspdarknet has it."""

    def __init__(self) -> None:
        super().__init__()
        self.expanded = 24
        self.enter, self.leave = nn.Linear(24, 24), nn.Linear(24, 24)

    def forward(self, x: Tensor) -> Tensor:
        a, b = self.enter(x).relu().split(self.expanded // 2, -1)
        return self.leave(torch.cat((a.tanh(), b), -1))


class OwnMethod(Parts):
    """One that keeps its forward in an attribute, as fasternet does."""

    def __init__(self) -> None:
        super().__init__()
        self.forward = self.by_parts  # type: ignore[method-assign]

    def by_parts(self, x: Tensor) -> Tensor:
        return Parts.forward(self, x)


class Constant(nn.Module):
    """A width that no attribute holds."""

    def __init__(self) -> None:
        super().__init__()
        self.enter, self.leave = nn.Linear(24, 24), nn.Linear(24, 24)

    def forward(self, x: Tensor) -> Tensor:
        a, b = self.enter(x).relu().split([10, 14], -1)
        return self.leave(torch.cat((a.tanh(), b), -1))


class ConstantSlice(Constant):
    """A bound that no attribute holds, and which nothing trips over."""

    def forward(self, x: Tensor) -> Tensor:
        x = self.enter(x).relu()
        return self.leave(torch.cat((x[..., :12].tanh(), x[..., 12:]), -1))


class Unequal(Constant):
    """A split by a quarter of the width: rounding makes it right for one channel less, and wrong for many."""

    def forward(self, x: Tensor) -> Tensor:
        x = self.enter(x).relu()
        quarter = x.shape[-1] // 4
        a, b = x.split([quarter, x.shape[-1] - quarter], -1)
        return self.leave(torch.cat((a.tanh(), b), -1))


class Image(nn.Module):
    """Rows of channels become an image of one channel for each row; attributes hold all its sides."""

    def __init__(self) -> None:
        super().__init__()
        self.wide, self.height, self.width = 6, 2, 4
        self.enter, self.inner = nn.Linear(24, 48), nn.Conv2d(6, 24, 1)

    def forward(self, x: Tensor) -> Tensor:
        image = self.enter(x).relu().view(-1, self.wide, self.height, self.width)
        return self.inner(image).sin().sum((2, 3)).view(*x.shape[:2], -1)


class Shuffled(nn.Module):
    """A pixel shuffle by hand, whose factor is an attribute."""

    def __init__(self) -> None:
        super().__init__()
        self.wide, self.factor = 6, 2
        self.enter, self.inner = nn.Conv1d(24, 12, 1), nn.Conv1d(6, 24, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = self.enter(x.transpose(1, 2))
        y = y.view(len(x), self.wide, self.factor, -1).transpose(2, 3).reshape(len(x), self.wide, -1)
        return self.inner(y).transpose(1, 2)[:, : x.shape[1]]


class WholeOfHeads(nn.Module):
    """Attention as timm once wrote it: one attribute holds the width of all heads, and a head's is computed from it."""

    def __init__(self) -> None:
        super().__init__()
        self.heads, self.dim = 4, 32
        self.qkv, self.proj = nn.Linear(24, 96), nn.Linear(32, 24)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(x).reshape(*x.shape[:2], 3, self.heads, self.dim // self.heads).permute(2, 0, 3, 1, 4)
        attention = (q @ k.transpose(-2, -1) / 3).softmax(-1)
        return self.proj((attention @ v).transpose(1, 2).reshape(*x.shape[:2], self.dim))


class Three(NamedTuple):
    """Three widths."""

    first: int
    second: int
    third: int


class Free(nn.Module):
    """An attribute that leaves a size to PyTorch."""

    def __init__(self) -> None:
        super().__init__()
        self.rest = -1
        self.enter, self.leave = nn.Linear(24, 24), nn.Linear(24, 24)

    def forward(self, x: Tensor) -> Tensor:
        return self.leave(self.enter(x).relu().view(*x.shape[:2], self.rest))


class Whole(nn.Module):
    """A slice that takes all, as an attribute says that also counts the channels of another layer."""

    def __init__(self) -> None:
        super().__init__()
        self.wide = 24
        self.enter, self.side, self.leave = nn.Linear(24, 24), nn.Linear(24, 24), nn.Linear(48, 24)

    def forward(self, x: Tensor) -> Tensor:
        sides = self.enter(x).relu()[:, :, : self.wide], self.side(x).view(*x.shape[:2], self.wide)
        return self.leave(torch.cat(sides, -1))


class Between(nn.Module):
    """Two layers with something between them."""

    def __init__(self, body: Callable[[Any, Tensor], Tensor], **attributes: Any) -> None:
        super().__init__()
        self.enter, self.leave, self.body = nn.Linear(24, 24), nn.Linear(24, 24), body
        self.weight = nn.Parameter(torch.rand(24, 1, 3))
        for name, value in attributes.items():
            setattr(self, name, value)

    def forward(self, x: Tensor) -> Tensor:
        return self.leave(self.body(self, self.enter(x).relu()))


def depthwise(net: Any, x: Tensor) -> Tensor:
    """Groups that are computed from attributes which no size needs."""
    return nn.functional.conv1d(x.transpose(1, 2), net.weight, padding=1, groups=net.heads * net.each).transpose(1, 2)


def caught(net: Any, x: Tensor) -> Tensor:
    """Goes on in another way where a reshape fails, as it does until one channel is gone."""
    try:
        return x.view(*x.shape[:2], net.wide)
    except RuntimeError:
        return x.sin()


def oddly_named(net: Any, x: Tensor) -> Tensor:
    return x.view(*x.shape[:2], getattr(net, "a.wide"))


def empty(net: Any, x: Tensor) -> Tensor:
    return torch.cat([x, x[:, :0].reshape(x.shape[0], 0, net.wide)], 1)


def scaled_rows(net: Any, x: Tensor) -> Tensor:
    """One weight for each place in a row, whose length an attribute holds."""
    return (x.view(*x.shape[:2], 4, net.each) * net.weight[:6, 0, 0]).flatten(2)


def sized(net: Any, x: Tensor) -> Tensor:
    """A width that an attribute holds."""
    return x.view(*x.shape[:2], net.wide)


def to_width(net: Any, x: Tensor) -> Tensor:
    """As many places as channels, which nothing trips over."""
    return nn.functional.interpolate(sized(net, x).transpose(1, 2), size=net.wide).transpose(1, 2)


CUT: dict[str, Callable[[], nn.Module]] = {
    "an image": Image,
    "a pixel shuffle": Shuffled,
    "the whole of heads": WholeOfHeads,
    "a named tuple": lambda: Parts(named=Three(6, 10, 8)),
    "a size that is left to PyTorch": Free,
    "all of a dimension": Whole,
    "heads": Heads,
    "heads apart": Apart,
    "a tuple": Parts,
    "a list": lambda: Parts([6, 10, 8]),
    "an attribute and the rest": TwoWidths,
    "slices": Slices,
    "computed thirds": Thirds,
    "halves of an attribute": Halves,
    "a method in an attribute": OwnMethod,
}
LOCKED: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "a computed scale": (functools.partial(Heads, "computed"), "computes with this width"),
    "a constant": (Constant, "is split into fixed widths [10, 14]"),
    "a constant bound": (ConstantSlice, "slice takes channels by their place"),
    "groups of a product": (lambda: Between(depthwise, heads=4, each=6), "cannot read 23 channels"),
    "a weight of all rows": (lambda: Between(scaled_rows, each=6), "applies a row of fixed length"),
    "a size of another dimension": (lambda: Between(to_width, wide=24), "uses the attribute wide for interpolate"),
    "a place in another dimension": (lambda: Between(lambda net, x: sized(net, x) * x[:, -7 : net.wide], wide=24), "wide for an index"),
    "a value": (lambda: Between(lambda net, x: sized(net, x).masked_fill(x > 0.2, net.wide), wide=24), "masked_fill is by"),
    "a caught failure": (lambda: Between(caught, wide=23), "view takes the place of sin"),
    "a name that no plan can hold": (lambda: Between(oddly_named, **{"a.wide": 24}), "the forward names this width"),
    "an empty reshape": (lambda: Between(empty, wide=24), "cannot join"),
    "a full tensor": (lambda: Between(lambda net, x: x * torch.full((2, 1, 1), x.shape[-1] ** 0.5)), "full is by"),
    "a quarter by rounding": (Unequal, "is split into fixed widths [6, 18]"),
}


def around(inner: nn.Module) -> nn.Module:
    """A network with a module in its middle, whose signal is alive."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(5, 24), inner, nn.ReLU(), nn.Linear(24, 3)).eval()


def opened(inner: Callable[[], nn.Module]) -> tuple[nn.Module, Tensor, tp.ModuleSession]:
    torch.manual_seed(0)
    net, given = around(inner()), torch.rand(2, 7, 5)
    return net, given, tp.open(net, example_inputs=(given,))


@pytest.mark.parametrize("name", CUT)
def test_named_width_is_cut_and_a_float64_twin_agrees(name):
    net, given, session = opened(CUT[name])
    analysis = session._steps.analysis
    written = [group for group in analysis.coupling.groups if group.producers and "predictions" not in group.reason]
    assert all(group.prunable for group in written), [group.reason for group in written]
    proofs = TwoProofs(net, given, analysis)
    for removal in [all_at_once(analysis), *(removal_of_one(analysis, group) for group in written)]:
        found = proofs.of(removal)
        assert (found["ours"], found["twin"]) == ("equal", "equal"), found


@pytest.mark.parametrize("name", LOCKED)
def test_width_without_an_attribute_or_used_in_arithmetic_is_locked(name):
    build, why = LOCKED[name]
    _, _, session = opened(build)
    inner = [group for group in session.groups() if any(layer.startswith("1.") and layer != "1.proj" for layer in group.layers)]
    assert any(why in group.reason for group in inner), [group.reason for group in session.groups()]
    for group in session.groups():
        if group.prunable:
            session.apply([f"{group.layers[0]}=25%"])
    if session.steps:
        assert session.prove().equal


def test_saved_module_has_its_widths_and_loads_into_a_new_module(tmp_path):
    net, given, session = opened(Heads)
    session.apply(["1.qkv=25%"])
    session.save(tmp_path / "small.tp")
    assert session.plan()["widths"] == {"1.head_dim": 6, "1.attn_dim": 24}
    again = tp.load(tmp_path / "small.tp", around(Heads()))
    assert again[1].head_dim == 6 and net[1].head_dim == 8
    with torch.no_grad():
        assert torch.equal(again(given), session.model()(given))
    assert tp.apply_plan(around(Heads()), tmp_path / "small.tp")[1].attn_dim == 24


def test_plan_with_widths_that_the_module_lacks_is_refused(tmp_path):
    _, _, session = opened(Parts)
    session.apply(["1.enter=25%"])
    plan = session.plan()
    assert all(name.startswith("1.widths[") for name in plan["widths"])
    for widths in ({"1.depth": 3}, {"1.widths[7]": 3}, {"1.widths[0]": 60}, {"elsewhere.widths[0]": 1}):
        with pytest.raises(tp.PlanError, match="which this module has as"):
            tp.apply_plan(around(Parts()), {**plan, "widths": widths})


class Frozen(Free):
    """One that lets nobody change its attributes."""

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.rest, self.error = 24, error

    def __setattr__(self, name: str, value: Any) -> None:
        if value == 18:
            raise self.error
        super().__setattr__(name, value)


@pytest.mark.parametrize("error, said", [(RuntimeError("frozen"), "frozen"), (AssertionError(), "AssertionError")])
def test_class_that_refuses_a_width_is_told_of_in_a_sentence(error, said):
    _, _, session = opened(functools.partial(Frozen, error))
    session.apply(["1.enter=25%"])
    with pytest.raises(tp.PlanError, match=rf"1\.rest cannot be set to the width 18: {said}$"):
        session.model()


def test_width_names_are_parsed_as_written():
    for name in (WidthName("", "width"), WidthName("a.0", "width"), WidthName("a.0", "widths", 2)):
        assert WidthName.parsed(str(name)) == name
    net = Parts((1, 2))
    put_widths(net, {"widths[1]": 1})
    assert net.widths == (1, 1) and np.array_equal(net.widths, [1, 1])
