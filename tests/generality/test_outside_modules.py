"""Constructs of other people's modules: what a module names by other ways than as its child, and inputs whose channels are last."""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import tui_pruner as tp
from tests.generality.modules import Between, Case, between, image
from tests.generality.test_any_module import EXACT, built, differences, opened
from tests.generality.test_every_construct import wrongly_equal


class Named(Between):
    """The middle layer is run by a name that `name` gives it."""

    def __init__(self, name: Callable[[Any], None]) -> None:
        super().__init__(lambda net, x: net.run(x), middle=nn.Conv2d(16, 16, 3, padding=1))
        name(self)

    def keep(self, module: nn.Module, given: Any, made: Tensor) -> None:
        self.kept = made

    def run(self, x: Tensor) -> Tensor:
        return self.middle(x) * 2  # type: ignore[no-any-return]


class Neighbour(nn.Module):
    """Reads the weight of a layer that another module owns."""

    def __init__(self, other: nn.Module) -> None:
        super().__init__()
        self.others, self.own = [other], nn.Conv2d(16, 16, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.own(x) + F.conv2d(x, self.others[0].weight, padding=1)  # type: ignore[no-any-return]


def doubled(module: Any, x: Tensor) -> Tensor:
    return module.stored(x) * 2  # type: ignore[no-any-return]


def in_list(net: Any) -> None:
    net.run = functools.partial(lambda layers, x: layers[1](layers[0](x)), [net.middle, torch.relu])


def in_dict(net: Any) -> None:
    net.stages = {"a": (net.middle, torch.tanh)}
    net.run = functools.partial(run_stages, net)


def run_stages(net: Any, x: Tensor) -> Tensor:
    for layer, activation in net.stages.values():
        x = activation(layer(x))
    return x


def wrapped(net: Any) -> None:
    net.middle.stored = net.middle.forward
    net.middle.forward = functools.partial(doubled, net.middle)


def wrapped_by_name(net: Any) -> None:
    called = functools.partial(lambda layer, x: layer.forward.__wrapped__(x) * 2, net.middle)
    net.middle.forward = functools.update_wrapper(called, net.middle.forward)


def in_keys(net: Any) -> None:
    net.scales = {net.middle: 2.0}
    net.run = functools.partial(lambda one, x: one.middle(x) * one.scales[one.middle], net)


def behind_a_number(net: Any) -> None:
    net.stage = (2, net.middle)
    net.run = functools.partial(lambda one, x: one.stage[1](x) * one.stage[0], net)


def hooked(net: Any) -> None:
    net.middle.register_forward_hook(net.keep)
    net.run = functools.partial(lambda one, x: one.middle(x) * one.kept.sigmoid(), net)


def beside(net: Any) -> None:
    net.middle.stored = nn.Sequential(Neighbour(net.middle), nn.ReLU())
    net.run = functools.partial(lambda one, x: one.middle.stored(x), net)


def compiled(net: Any) -> None:
    net.middle = torch.compile(net.middle, backend="eager")


NAMED = {
    "a stored method": lambda net: setattr(net, "run", net.middle.forward),
    "methods in a list": lambda net: setattr(net, "run", functools.partial(lambda runs, x: runs[0](x), [net.middle.__call__])),
    "modules in a list": in_list,
    "modules in a dict of tuples": in_dict,
    "a forward wrapped by a partial function": wrapped,
    "a forward that calls what it wraps": wrapped_by_name,
    "a module as a key": in_keys,
    "a module behind a number": behind_a_number,
    "a hook that is a method of the parent": hooked,
    "a neighbour in a list": beside,
    "a compiled layer": compiled,
}


@pytest.mark.parametrize("name", NAMED)
def test_layer_that_is_named_in_another_way_can_be_cut(name):
    case = Case(lambda: Named(NAMED[name]), between(lambda net, x: x).args)
    net = built(case)
    session = opened(case, net)
    middle = next(layer for layer in session.layers() if layer.startswith("middle") and "own" not in layer)
    session.apply([f"{middle}=30%", "first=30%"])
    assert session.prove().equal
    difference, effect = differences(session, net, case, double=True)
    assert difference < EXACT and effect > 1e-3


def test_compiled_layer_stays_compiled_and_is_loaded(tmp_path):
    case = Case(lambda: Named(compiled), between(lambda net, x: x).args)
    session = opened(case, built(case))
    session.apply(["middle=30%"])
    session.save(tmp_path / "small.tp")
    loaded = tp.load(tmp_path / "small.tp", built(case))
    assert type(loaded.middle) is type(session.model().middle) is type(built(case).middle)
    assert torch.allclose(loaded(*case.args), session.model()(*case.args), atol=1e-6)


class Points(nn.Module):
    """Reads points [batch, points, coordinates], twice."""

    def __init__(self, join: Callable[..., Tensor], read: int) -> None:
        super().__init__()
        self.first, self.second, self.last, self.join = nn.Linear(10, 16), nn.Linear(read, 16), nn.Linear(16, 4), join

    def forward(self, x: Tensor, *more: Tensor) -> Tensor:
        return self.last(self.second(self.join(self.first(x).relu(), x, *more)).relu())  # type: ignore[no-any-return]


POINTS = {
    "points beside what is made of them": Case(lambda: Points(lambda y, x: torch.cat([y, x], -1), 26), (torch.rand(2, 6, 10),)),
    "a matrix of neighbours": Case(lambda: Points(lambda y, x, near: near @ y, 16), (torch.rand(2, 6, 10), torch.rand(2, 6, 6))),
    "a matrix of neighbours on both sides": Case(
        lambda: Points(lambda y, x, near: near.mT @ (near @ y), 16), (torch.rand(2, 6, 10), torch.rand(2, 6, 6))
    ),
    "a product of two inputs": Case(
        lambda: Points(lambda y, x, near: near @ (near @ x) @ x.mT @ y, 16), (torch.rand(2, 6, 10), torch.rand(2, 6, 6))
    ),
}


@pytest.mark.parametrize("name", POINTS)
def test_inputs_whose_channels_are_last_hold_no_features(name):
    case = POINTS[name]
    net = built(case)
    session = opened(case, net)
    assert {"first", "second"} <= {layer for group in session.groups() if group.prunable for layer in group.layers}
    assert list(wrongly_equal(case, net, session, EXACT)) == []
    session.apply(["first=50%", "second=50%"])
    assert session.size.flops == tp.open(session.model(), example_inputs=case.args).size.flops


@pytest.mark.parametrize("reshape", [lambda y, x: y.view_as(x), lambda y, x: y.reshape_as(other=x)], ids=["view_as", "reshape_as"])
def test_reshape_to_another_width_holds_it(reshape):
    case = between(lambda net, x: reshape(torch.fft.fft2(net.middle(x).flatten(2).mT).real.mT, x), middle=lambda: nn.Conv2d(16, 16, 1))
    session = opened(case, built(case))
    reasons = {group.reason for group in session.groups() if {"first", "middle"} & {*group.layers}}
    assert all(reasons) and any("computes with this width" in reason for reason in reasons)


PAIRS = {
    "a literal": lambda x, before: x.view(len(x), 8, 2, *x.shape[2:]),
    "the width of another layer": lambda x, before: x.view(len(x), before.shape[1] // 2, 2, *x.shape[2:]),
}


@pytest.mark.parametrize("pairs", PAIRS)
def test_width_that_no_cut_could_follow_is_held_with_the_reason(pairs):
    case = between(lambda net, x: PAIRS[pairs](net.middle(x), x).amax(2), read=8, middle=lambda: nn.Conv2d(16, 16, 1))
    net = built(case)
    session = opened(case, net)
    group = next(group for group in session.groups() if "middle" in group.layers)
    assert not group.prunable and "width" in group.reason
    assert list(wrongly_equal(case, net, session, EXACT)) == []


BATCHES: list[tuple[Any, dict[str, Any], str]] = [
    ([torch.rand(0, 3, 12, 20)], {}, "a batch is empty"),
    (list(image()), {"images": 0}, "images is 0"),
    (list(image()), {"images": "all"}, "images is 'all'"),
]


@pytest.mark.parametrize(("data", "options", "message"), BATCHES)
def test_batches_that_cannot_be_used_are_refused(data: Any, options: dict[str, Any], message: str):
    session = opened(case := between(lambda net, x: x), built(case))
    with pytest.raises(tp.RequestError, match=message):
        session.target("flops=70%", data=data, **options)
    assert session.steps == []


def test_call_that_is_refused_leaves_a_refit_as_it_is():
    case = between(lambda net, x: x)
    session = opened(case, built(case))
    with pytest.raises(tp.RequestError, match="the classes of this model cannot be cut"):
        session.apply(["classes=1"])
    session.apply(["first=30%"])
    session.reconstruct([*case.args, *case.args])
    refitted = session.model()(*case.args)
    for refused in (lambda: session.apply(["nothing=30%"]), session.redo, lambda: session.load({})):
        with pytest.raises(tp.PrunerError):
            refused()
        assert torch.equal(session.model()(*case.args), refitted)


def test_outputs_without_a_finite_number_are_the_reason():
    case = between(lambda net, x: x)
    net = built(case)
    net.last.bias.data.fill_(torch.nan)
    session = opened(case, net)
    session.apply(["first=30%"])
    assert session.prove().reason == "not exercised, since no output has a finite number to compare: check the weights and the inputs"


def test_module_of_one_layer_has_no_other_to_name():
    session = tp.open(nn.Conv2d(3, 4, 1), example_inputs=image())
    with pytest.raises(tp.RequestError, match=r"no layer 'first' in this model; there are none but the model itself, see layers\(\)"):
        session.apply(["first=30%"])


def test_target_on_images_that_do_not_vary_is_reached():
    case = between(lambda net, x: net.middle(x).relu(), middle=lambda: nn.Conv2d(16, 16, 1))
    session = opened(case, built(case))
    for layer in (session.module.model.first, session.module.model.middle):
        layer.bias.data.fill_(1000.0)
    session.target("flops=70%", data=[torch.full((2, 3, 12, 20), 1 / 3)] * 4)
    assert session.prove().equal


def test_compiled_layer_is_planned_for_on_batches():
    case = Case(lambda: Named(compiled), image())
    session = opened(case, built(case))
    session.target("flops=70%", data=[*case.args, *case.args])
    session.reconstruct([*case.args, *case.args])
    assert session.prove().equal and type(session.model().middle) is type(built(case).middle)


@pytest.mark.parametrize("layer", [nn.Conv2d(16, 48, 3, groups=16), nn.ConvTranspose2d(16, 48, 3, groups=16)], ids=["", "transposed"])
def test_depthwise_layer_with_several_outputs_of_each_input_loses_them_together(layer):
    case = between(lambda net, x: net.middle(x), read=48, middle=lambda: copy.deepcopy(layer))
    net = built(case)
    session = opened(case, net)
    session.apply(["first=50%"])
    assert session.prove().equal and differences(session, net, case, double=True)[0] < EXACT
    model = session.model()
    assert session.size.parameters == sum(parameter.numel() for parameter in model.parameters())
    widths = {name: (one.in_channels, one.out_channels) for name, one in session.layers().items()}
    assert widths["middle"] == (8, 24) == (model.middle.in_channels, model.middle.out_channels) and widths["last"][0] == 24


class Inferring(Between):
    """Runs in PyTorch's inference mode, whoever calls it."""

    @torch.inference_mode()
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x)


def test_forward_in_inference_mode_is_followed_and_refitted():
    case = Case(lambda: Inferring(lambda net, x: net.middle(x).relu(), middle=nn.Conv2d(16, 16, 3, padding=1)), image())
    net = built(case)
    session = opened(case, net)
    assert session.notes == ()
    session.apply(["first=30%", "middle=30%"])
    assert session.prove().equal and differences(session, net, case, double=True)[0] < EXACT
    refit = session.reconstruct([torch.rand(4, 3, 12, 20) for _ in range(3)])
    assert refit.kept == "refitted" and refit.distance["refitted"] < refit.distance["cut"]


@pytest.mark.parametrize("data", [None, [*image(), *image()]], ids=["by importance", "on batches"])
def test_target_that_is_reached_already_is_no_step(data):
    case = between(lambda net, x: x)
    session = opened(case, built(case))
    session.target("flops=50%")
    with pytest.raises(tp.RequestError, match="the target is reached already"):
        session.target("flops=80%", data=data)
    assert len(session.steps) == 1
