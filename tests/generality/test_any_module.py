"""Any module: cuts are checked with an independent twin, the rest is locked with a reason, and the given module does not change."""

from __future__ import annotations

import copy
import dataclasses
import random
import sys
from collections.abc import Callable, Iterator, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import tui_pruner as tp
from tests.core.independent import zero_removed_slices
from tests.generality.modules import CASES, Between, Case, Training, image
from tui_pruner.core.tracing import adapters, cache

EXACT = 1e-9
HALF = 1e-3
"""Where a forward rounds to half precision on its way, in no matter what precision it runs."""


def built(case: Case) -> nn.Module:
    torch.manual_seed(0)
    return case.build().eval()


def opened(case: Case, net: nn.Module, **more: Any) -> tp.ModuleSession:
    return tp.open(net, example_inputs=case.args, kwargs=case.kwargs, **more)


def output_tensors(output: Any) -> Iterator[Tensor]:
    """The tensors that a test's own modules return, found by hand."""
    if isinstance(output, Tensor):
        yield output
    elif isinstance(output, Mapping):
        for part in output.values():
            yield from output_tensors(part)
    elif dataclasses.is_dataclass(output):
        for one in dataclasses.fields(output):
            yield from output_tensors(getattr(output, one.name))
    elif callable(output):
        yield from output_tensors(output())
    elif hasattr(output, "__slots__") and not isinstance(output, tuple):
        for name in output.__slots__:
            yield from output_tensors(getattr(output, name))
    elif output is not None and not isinstance(output, (str, int)):
        for part in output:
            yield from output_tensors(part)


def doubled(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.double() if value.is_floating_point() else value
    if isinstance(value, dict):
        return {key: doubled(part) for key, part in value.items()}
    return type(value)(doubled(part) for part in value) if isinstance(value, (tuple, list)) else value


def outputs(net: nn.Module, case: Case, double: bool) -> list[Tensor]:
    args, kwargs = (doubled(case.args), doubled(case.kwargs)) if double else (case.args, case.kwargs)
    with torch.no_grad():
        return [tensor.double() for tensor in output_tensors(net(*args, **kwargs))]


def differences(session: tp.Session, net: nn.Module, case: Case, double: bool) -> tuple[float, float]:
    """How far what a session hands out is from a twin of the test's own, and the twin from the original."""
    pruned, twin = session.model(), zero_removed_slices(net, session.kept())
    pruned, twin, whole = (one.double() if double else one.float() for one in (pruned, twin, copy.deepcopy(net)))
    mine, wanted, before = (outputs(one, case, double) for one in (pruned, twin, whole))
    assert [one.shape for one in mine] == [one.shape for one in wanted]
    size = max(float(one.abs().max()) for one in wanted)
    return tuple(max(float((a - b).abs().max()) for a, b in zip(pair, wanted)) / size for pair in (mine, before))


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case.cut])
def test_cut_module_equals_the_twin_with_zeros(name):
    case = CASES[name]
    net, double = built(case), "half precision" not in name
    session = opened(case, net)
    for layer in case.cut:
        before = session.layers()[layer].out_channels
        session.apply([f"{layer}=30%"])
        assert 0 < session.layers()[layer].out_channels < before
    proof = session.prove()
    assert proof.equal and proof.effect > 0
    difference, effect = differences(session, net, case, double)
    assert difference < (EXACT if double else HALF) and effect > 1e-3


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case.held])
def test_locked_layer_has_a_reason_and_is_not_cut(name):
    case = CASES[name]
    session = opened(case, built(case))
    group = next(group for group in session.groups() if "first" in group.layers)
    if not group.prunable:
        assert case.held in group.reason
        with pytest.raises(tp.RequestError, match="locked"):
            session.apply(["first=30%"])
    else:
        assert any(case.held in other.reason for other in session.groups())


def test_given_module_is_never_changed():
    net, given = Training().train(), image()
    net.last.eval()
    calls: list[int] = []
    net.first.register_forward_hook(lambda module, args, output: calls.append(1))
    net(*given).mean().backward()
    state = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    gradients = {name: tensor.grad.clone() for name, tensor in net.named_parameters() if tensor.grad is not None}
    flags = [module.training for module in net.modules()]
    chance, inputs = torch.get_rng_state(), given[0].clone()
    session = tp.open(net, example_inputs=given)
    session.apply(["first=40%"])
    session.reconstruct([given])
    small = session.model()
    with torch.no_grad():
        small.first.weight.zero_()
    assert session.prove().equal and bool(session.model().first.weight.any())
    assert all(torch.equal(state[name], tensor) for name, tensor in net.state_dict().items())
    assert gradients and all(torch.equal(gradients[n], p.grad) for n, p in net.named_parameters() if p.grad is not None)
    assert [module.training for module in net.modules()] == flags
    assert len(net.first._forward_hooks) == 1 and not small.training
    assert torch.equal(chance, torch.get_rng_state()) and torch.equal(inputs, given[0])
    assert "training mode" in session.notes[0]


def test_side_effects_of_a_forward_stay_in_a_copy():
    seen: dict[str, Any] = {"calls": []}
    net = Between(lambda net, x: (net.seen["calls"].append(1), net.seen.update(last=x), x)[-1], seen=seen).eval()
    session = tp.open(net, example_inputs=image())
    session.apply(["first=30%"])
    assert session.prove().equal and seen == {"calls": []}


def test_random_forward_is_not_called_equal_by_chance():
    net = Between(lambda net, x: x + torch.rand(1)).eval()
    session = tp.open(net, example_inputs=image())
    session.apply(["first=30%"])
    assert session.prove().equal  # the same draw for all
    noisy = Between(lambda net, x: x * torch.rand_like(x)).eval()
    session = tp.open(noisy, example_inputs=image())
    if any(group.prunable for group in session.groups()):
        session.apply(["first=30%"])
        assert not session.prove().equal


class Coin(nn.Module):
    """Skips a layer by chance, of PyTorch's or of Python's."""

    def __init__(self, toss: Any) -> None:
        super().__init__()
        self.first, self.second, self.last, self.toss = nn.Linear(4, 8), nn.Linear(8, 8), nn.Linear(8, 3), toss

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.first(x))
        return self.last(self.second(x) if self.toss() < 0.5 else x)


@pytest.mark.parametrize("toss", [lambda: torch.rand(1), lambda: float(torch.rand(())), random.random, lambda: np.random.rand()])
def test_random_path_in_a_forward_is_refused(toss):
    with pytest.raises(tp.TraceError, match="takes another path from run to run"):
        tp.open(Coin(toss), example_inputs=(torch.rand(2, 4),))


class Counting(nn.Module):
    """Does something else from the second call on, and has a layer for another method."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last, self.other, self.calls = nn.Linear(4, 8), nn.Linear(8, 3), nn.Linear(8, 2), 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        x = self.first(x)
        return self.last(torch.relu(x) if self.calls == 1 else x)


def test_forward_that_changes_between_calls_is_reported_in_a_note():
    net = Counting().eval()
    session = tp.open(net, example_inputs=(torch.rand(2, 4),))
    assert session.notes[0].startswith("the forward does something else when it is called again")
    assert session.notes[1].startswith("the forward never reads other with these inputs")
    assert net.calls == 0


def test_steps_previews_and_explanations_work_like_those_of_checkpoints():
    net = built(CASES["a Sequential called model"])
    session = opened(CASES["a Sequential called model"], net)
    assert list(session.layers()) == ["model.0", "model.1", "head"]
    preview = session.preview(["model.1=keep:7"])
    assert preview.layers["model.1"] == ((3, 12), (3, 7)) and preview.layers["model.0"] == ((12, 8), (7, 8))
    assert session.explain("model.1", "model.0").coupled and not session.explain("model.1", "head").path
    session.apply(["model.1=keep:7"], round_to=1)
    assert session.size == preview.after and len(session.kept()["model.1.weight"]["0"]) == 7
    with pytest.raises(tp.ConflictError):
        session.apply(["model.0=keep:4", "model.*=keep:3"])
    with pytest.raises(tp.RequestError, match="no layer"):
        session.apply(["nowhere=30%"])
    session.undo()
    assert session.steps == [] and session.kept() == {}
    session.redo()
    assert len(session.steps) == 1
    assert "<td>" in session.groups()._repr_html_() and "equal" in session.prove()._repr_html_()


@pytest.mark.parametrize("kind", [torch.float64, torch.float16, torch.bfloat16])
def test_module_is_returned_in_its_own_precision(kind):
    net = Between(lambda net, x: x).to(kind).eval()
    session = tp.open(net, example_inputs=tuple(one.to(kind) for one in image()))
    session.apply(["first=30%"])
    assert session.prove().equal
    small = session.model()
    assert {tensor.dtype for tensor in small.state_dict().values()} == {kind}
    assert torch.equal(small.first.weight, net.first.weight[session.kept()["first.weight"]["0"]])


def test_example_inputs_without_a_signal_are_replaced_by_random_ones():
    net = Between(lambda net, x: x * x.mean((2, 3), keepdim=True)).eval()
    with torch.no_grad():
        net.first.bias.zero_()
    session = tp.open(net, example_inputs=(torch.zeros(1, 3, 12, 12),))
    session.apply(["first=30%"])
    assert session.prove().equal and session.prove().effect > 1e-3


def test_adapter_sets_a_named_width():
    class Split(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.width, self.both, self.last = {"left": 10}, nn.Linear(6, 20), nn.Linear(10, 4)

        def forward(self, x: Tensor) -> Tensor:
            left, right = self.both(x).split([self.width["left"], self.width["left"]], -1)
            return self.last(torch.relu(left) * right)

    def narrow(module: nn.Module, kept: Any) -> None:
        module.width = {"left": module.both.out_features // 2}

    given = (torch.rand(3, 6),)
    assert not any(group.prunable for group in tp.open(Split(), example_inputs=given).groups())
    session = tp.open(Split().eval(), example_inputs=given, adapters={Split: narrow})
    session.apply(["both=40%"])
    assert session.prove().equal and session.model().width == {"left": 6}


PACKAGE = """
import torch
import tui_pruner as tp
from torch import nn

class Split(nn.Module):
    def __init__(self):
        super().__init__()
        self.width, self.both, self.last = {"left": 10}, nn.Linear(6, 20), nn.Linear(10, 4)

    def forward(self, x):
        left, right = self.both(x).split([self.width["left"], self.width["left"]], -1)
        return self.last(torch.relu(left) * right)
"""
ADAPTERS = """
import tui_pruner as tp
from splitting import Split

@tp.adapter(Split)
def narrow(module, kept):
    module.width = {"left": len(kept("both")) // 2}
"""


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], Any]]:
    """A function that installs a package with a module `Split` and with these adapters, and returns the class."""
    about = tmp_path / "splitting-1.2.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: splitting\nVersion: 1.2\n")
    (about / "entry_points.txt").write_text("[tui_pruner.adapters]\nsplitting = splitting_adapters\n")
    (tmp_path / "splitting.py").write_text(PACKAGE)
    monkeypatch.syspath_prepend(tmp_path)
    own = dict(adapters.OWN)

    def install(content: str) -> Any:
        (tmp_path / "splitting_adapters.py").write_text(content)
        adapters.installed_adapters.cache_clear()
        return import_module("splitting").Split

    yield install
    adapters.installed_adapters.cache_clear()
    adapters.OWN.clear()
    adapters.OWN.update(own)
    for name in ("splitting", "splitting_adapters"):
        sys.modules.pop(name, None)


def test_adapter_of_an_installed_package_is_found_by_its_entry_point(installed: Callable[[str], Any]):
    session = tp.open(installed(ADAPTERS)().eval(), example_inputs=(torch.rand(3, 6),))
    session.apply(["both=40%"])
    assert session.prove().equal and session.model().width == {"left": 6}
    assert adapters.installed_adapters() == ("splitting_adapters 1.2",)
    assert cache.key_of("", (1, 6), "code")["adapters"] == ["splitting_adapters 1.2"] and not cache.key_of("", (1, 6))["adapters"]


def test_installed_adapters_that_cannot_be_imported_are_named(installed: Callable[[str], Any]):
    module = installed("import nowhere")()
    said = r"adapters of splitting \(splitting_adapters\) cannot be imported .*nowhere.*remove it"
    with pytest.raises(tp.RequestError, match=said):
        tp.open(module, example_inputs=(torch.rand(3, 6),))
    with pytest.raises(tp.RequestError, match=said):
        tp.open(module, example_inputs=(torch.rand(3, 6),), approximate=True)
    with pytest.raises(tp.RequestError, match="adapters are"):
        tp.adapter(str)(print)


def test_users_metric_and_loss_are_used():
    net = Between(lambda net, x: x).eval()

    def loss(model: nn.Module, batch: Any) -> Tensor:
        return (model(batch[0]).mean((2, 3)) - batch[1]).square().mean()

    batches = [(image()[0], torch.rand(2, 8)) for _ in range(2)]
    session = tp.open(net, example_inputs=image(), evaluate=lambda model: model.first.out_channels / 2, loss=loss)
    assert session.evaluate() == 8.0
    session.target("flops=75%", data=batches, criterion="taylor")
    assert session.evaluate() < 8.0 and session.steps[0].cuts[0].criterion == "taylor"
    bare = tp.open(net, example_inputs=image())
    with pytest.raises(tp.RequestError, match="evaluate="):
        bare.evaluate()
    with pytest.raises(tp.RequestError, match="loss="):
        bare.target("flops=65%", data=batches, criterion="hessian")


def test_loss_is_asked_for_as_many_samples_as_were_meant():
    seen = []

    def loss(model: nn.Module, batch: Tensor) -> Tensor:
        seen.append(len(batch))
        return model(batch).square().mean()

    session = tp.open(Between(lambda net, x: x).eval(), example_inputs=image(), loss=loss)
    session.target("flops=75%", data=iter([image()[0].repeat(2, 1, 1, 1)] * 9), criterion="taylor", images=10)
    assert seen == [4, 4, 4]
    session.target("flops=60%", data=image()[0], criterion="taylor")
    assert seen[3:] == [len(image()[0])]
    unrelated = tp.open(
        Between(lambda net, x: x).eval(), example_inputs=image(), loss=lambda model, batch: torch.ones((), requires_grad=True)
    )
    with pytest.raises(tp.DataError, match="depends on no parameter"):
        unrelated.target("flops=75%", data=image()[0], criterion="taylor")


def test_criterion_ranks_the_channels_of_a_target_on_batches():
    net = Between(lambda net, x: x).eval()
    session = tp.open(net, example_inputs=image())
    kept = {}
    for criterion in ("l2", "random", None):
        step = session.target("flops=75%", data=[image()[0]], criterion=criterion)
        assert {cut.criterion for cut in step.cuts} == {criterion or "obs"}
        kept[criterion] = session.kept()
        session.undo()
    assert kept["l2"] != kept["random"]
    with pytest.raises(tp.RequestError, match="unknown criterion 'longest'"):
        session.target("flops=75%", data=[image()[0]], criterion="longest")


def test_target_and_refit_on_batches_come_closer_to_the_original():
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(3, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.Conv2d(16, 24, 3, padding=1), nn.ReLU(), nn.Conv2d(24, 4, 1)
    ).eval()
    generator = torch.Generator().manual_seed(0)
    batches = [(torch.rand(4, 3, 12, 12, generator=generator), torch.zeros(4)) for _ in range(4)]  # labels are left out
    session = tp.open(net, example_inputs=(batches[0][0],))
    whole = session.size.flops
    session.target("flops=60%", data=batches)
    assert session.size.flops <= 0.6 * whole and session.prove().equal
    found = session.reconstruct(batches[:3], batches[3:])
    assert found.distance[found.kept] < found.distance["cut"]
    image = batches[3][0]
    with torch.no_grad():
        cut, refitted = found.distance["cut"], session.model()
        assert float((refitted(image) - net(image)).norm() / net(image).norm()) < cut
    with pytest.raises(tp.RequestError, match="give batches"):
        session.target("flops=50%", data="data.yaml")
    with pytest.raises(tp.RequestError, match="out of reach"):
        session.target("flops=1%", data=batches)


def test_refit_accepts_batches_by_name_and_of_integers():
    case = CASES["all arguments by name"]
    session = opened(case, built(case))
    session.apply(["wide=50%"])
    generator = torch.Generator().manual_seed(3)
    batches = [{"ids": torch.randint(0, 40, (8, 7), generator=generator), "mask": torch.ones(8, 7)} for _ in range(3)]
    found = session.reconstruct(batches)
    assert found.distance[found.kept] < found.distance["cut"]
