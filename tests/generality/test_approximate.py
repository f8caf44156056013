"""Normalised channels are cut only on request: checked with a twin that has such statistics, never called equal."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import tui_pruner as tp
from tests.core.independent import zero_removed_slices
from tui_pruner.core.model.copies import modules_of
from tui_pruner.core.pruning.proof import prove
from tui_pruner.core.pruning.surgery import cut
from tui_pruner.core.pruning.twin import OVER, masked_twin


class Tokens(nn.Module):
    """A residual stream with layer norms, as transformers have it."""

    def __init__(self) -> None:
        super().__init__()
        self.read, self.last = nn.Linear(6, 24), nn.Linear(24, 5)
        self.norms = nn.ModuleList(nn.LayerNorm(24) for _ in range(3))
        self.up, self.down = nn.ModuleList(nn.Linear(24, 32) for _ in range(2)), nn.ModuleList(nn.Linear(32, 24) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        x = self.read(x)
        for norm, up, down in zip(self.norms, self.up, self.down):
            x = x + down(F.gelu(up(norm(x))))
        return self.last(self.norms[2](x))


class RootMeanSquares(Tokens):
    """The same with norms that divide by the root of the mean of squares."""

    def __init__(self) -> None:
        super().__init__()
        self.norms = nn.ModuleList(nn.RMSNorm(24, eps=1e-5) for _ in range(3))


class FirstDimension(nn.LayerNorm):
    """Normalises channels that come first, as ConvNeXt's does."""

    def forward(self, x: Tensor) -> Tensor:
        return F.layer_norm(x.movedim(1, -1), self.normalized_shape, self.weight, self.bias, self.eps).movedim(-1, 1)


class ResponseNorm(nn.Module):
    """Global response normalisation, as ConvNeXt V2 has it: by the mean over channels of how strong each is."""

    def __init__(self, channels: int, first: bool) -> None:
        super().__init__()
        self.spatial, self.dim = ((2, 3), 1) if first else ((1, 2), -1)
        self.shape = (1, -1, 1, 1) if first else (1, 1, 1, -1)
        self.weight, self.bias = nn.Parameter(torch.ones(channels)), nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        strength = x.norm(p=2, dim=self.spatial, keepdim=True)
        response = strength / (strength.mean(dim=self.dim, keepdim=True) + 1e-6)
        return x + torch.addcmul(self.bias.view(self.shape), self.weight.view(self.shape), x * response)


class WithResponseNorm(nn.Module):
    """The block of ConvNeXt V2, channels first or last."""

    def __init__(self, first: bool) -> None:
        super().__init__()
        self.read, self.first = nn.Conv2d(3, 12, 3), first
        self.up, self.down = (nn.Conv2d(12, 20, 1), nn.Conv2d(20, 12, 1)) if first else (nn.Linear(12, 20), nn.Linear(20, 12))
        self.norm, self.last = ResponseNorm(20, first), nn.Conv2d(12, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.read(x)
        y = x if self.first else x.permute(0, 2, 3, 1)
        y = self.down(self.norm(F.gelu(self.up(y))))
        return self.last(x + (y if self.first else y.permute(0, 3, 1, 2)))


def images() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 16, 3), nn.GroupNorm(4, 16), nn.ReLU(), nn.Conv2d(16, 12, 3), FirstDimension(12), nn.GELU(), nn.Conv2d(12, 4, 1)
    )


CASES: dict[str, Any] = {
    "layer norms": (Tokens, (2, 7, 6), "read", ("norms.0", "norms.1", "norms.2")),
    "root mean squares": (RootMeanSquares, (2, 7, 6), "read", ("norms.0", "norms.1", "norms.2")),
    "a group norm": (images, (2, 3, 12, 12), "0", ("1",)),
    "a layer norm of images": (images, (2, 3, 12, 12), "3", ("4",)),
    "a response norm": (lambda: WithResponseNorm(first=True), (2, 3, 9, 9), "up", ("norm",)),
    "a response norm of the last dimension": (lambda: WithResponseNorm(first=False), (2, 3, 9, 9), "up", ("norm",)),
}


def made(name: str) -> tuple[nn.Module, tuple[Tensor]]:
    build, shape, *_ = CASES[name]
    torch.manual_seed(0)
    net = build().eval()
    for norm in net.modules():
        if isinstance(norm, (nn.LayerNorm, nn.GroupNorm, ResponseNorm)):
            nn.init.uniform_(norm.weight, 0.5, 1.5)
            nn.init.normal_(norm.bias)
        if isinstance(norm, nn.RMSNorm):
            nn.init.uniform_(norm.weight, 0.5, 1.5)
    return net, (torch.randn(shape),)


def by_hand(net: nn.Module, kept: dict[str, Any]) -> nn.Module:
    """A copy in float64 whose weights for removed channels are zero, and whose normalisations see the kept channels alone."""
    twin = zero_removed_slices(net, kept).double()

    def over(left: list[int]) -> Any:
        def hook(norm: Any, args: Any, output: Tensor) -> Tensor:
            x, found = args[0], torch.zeros_like(output)
            groups = norm.num_groups if isinstance(norm, nn.GroupNorm) else 1
            size = len(norm.weight) // groups
            for group in range(groups):
                mine = [place for place in left if place // size == group]
                at = x[:, mine] if x.ndim == 4 else x[..., mine]
                dims = (1, 2, 3) if isinstance(norm, nn.GroupNorm) else (1,) if x.ndim == 4 else (2,)
                made = (at - at.mean(dims, keepdim=True)) / (at.var(dims, keepdim=True, unbiased=False) + norm.eps).sqrt()
                shape = (-1, 1, 1) if x.ndim == 4 else (-1,)
                made = made * norm.weight[mine].view(shape) + norm.bias[mine].view(shape)
                found[(slice(None), mine) if x.ndim == 4 else (..., mine)] = made
            return found

        return hook

    def by_squares(left: list[int]) -> Any:
        def hook(norm: Any, args: Any, output: Tensor) -> Tensor:
            found, at = torch.zeros_like(output), args[0][..., left]
            found[..., left] = at / (at.square().mean(-1, keepdim=True) + norm.eps).sqrt() * norm.weight[left]
            return found

        return hook

    def respond(left: list[int]) -> Any:
        def hook(norm: Any, args: Any, output: Tensor) -> Tensor:
            x, found = args[0].movedim(norm.dim, -1), torch.zeros_like(output.movedim(norm.dim, -1))
            strength = x[..., left].square().sum((1, 2), keepdim=True).sqrt()
            response = strength / (strength.mean(-1, keepdim=True) + 1e-6)
            found[..., left] = x[..., left] * (1 + norm.weight[left] * response) + norm.bias[left]
            return found.movedim(-1, norm.dim)

        return hook

    ways: tuple[Any, ...] = ((ResponseNorm, respond), (nn.RMSNorm, by_squares), ((nn.LayerNorm, nn.GroupNorm), over))
    for path, norm in twin.named_modules():
        for kinds, way in ways:
            if f"{path}.weight" in kept and isinstance(norm, kinds):
                norm.register_forward_hook(way(kept[f"{path}.weight"]["0"]))
    return twin


@pytest.mark.parametrize("name", CASES)
def test_normalised_channels_are_cut_on_request_and_checked_but_not_called_equal(name: str):
    net, inputs = made(name)
    layer, norms = CASES[name][2:]
    with pytest.raises(tp.RequestError, match=r"normalises across channels|mean mixes channels"):
        tp.open(net, example_inputs=inputs).apply([f"{layer}=50%"])
    session = tp.open(net, example_inputs=inputs, approximate=True)
    assert any("checked, not proved equal" in note for note in session.notes)
    session.apply([f"{layer}=50%"])
    proof = session.prove()
    assert not proof.equal and proof.checked and proof.verdict == "approximate" and proof.approximate == norms
    assert "with a normalisation over what is left; " in proof.reason and "query" not in proof.reason and proof.plain()["checked"]
    with torch.no_grad():
        mine, wanted = session.model().double()(inputs[0].double()), by_hand(net, session.kept())(inputs[0].double())
    assert torch.allclose(mine, wanted, rtol=1e-6, atol=1e-6)  # weights are kept at single precision
    assert not torch.allclose(wanted, net.double()(inputs[0].double()), atol=1e-2)


@pytest.mark.parametrize("name", CASES)
def test_check_fails_for_other_statistics_and_for_a_wrong_cut(name: str):
    net, inputs = made(name)
    session = tp.open(net, example_inputs=inputs, approximate=True)
    session.apply([f"{CASES[name][2]}=50%"])
    steps = session._steps
    model, coupling, removal = session.module.model, steps.analysis.coupling, steps.removal
    harms: list[Any] = [lambda norm: norm.weight.data.copy_(norm.weight.data.flip(0))]
    harms += [lambda norm: setattr(norm, "eps", 0.1)] if "response" not in name else []
    for harm in harms:
        pruned = cut(model, coupling, removal)
        parts = dict(modules_of(pruned))
        norm: Any = parts[CASES[name][3][0]]
        harm(norm)
        proof = prove(model, pruned, coupling, removal, original=steps.original())
        assert not proof.holds and proof.verdict == "not equal"


class OwnMean(nn.Module):
    """A response normalisation with names of its own, which also takes other means."""

    def __init__(self, mean: Any, channels: int = 8) -> None:
        super().__init__()
        self.gamma, self.beta, self.mean = (
            nn.Parameter(torch.rand(1, channels, 1, 1) + 0.5),
            nn.Parameter(torch.rand(1, channels, 1, 1)),
            mean,
        )

    def forward(self, x: Tensor) -> Tensor:
        strength = x.norm(p=2, dim=(2, 3), keepdim=True)
        return self.gamma * (x * (strength / (self.mean(strength) + 1e-6))) + self.beta + x + x.mean(0) * 0.1 + x.mean(2, keepdim=True)


MEANS: dict[str, Any] = {
    "by position": lambda x: x.mean(1, True),
    "in a list": lambda x: x.mean([1], keepdim=True),
    "by axis": lambda x: x.mean(axis=1, keepdim=True),
    "of torch": lambda x: torch.mean(x, -3, keepdim=True),
}


def with_own_mean(mean: Any, shared: bool = False) -> nn.Module:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), OwnMean(mean), nn.Conv2d(8, 8, 1), OwnMean(mean), nn.Conv2d(8, 4, 1)).eval()
    if shared:
        net[4].gamma = net[2].gamma
    return net


@pytest.mark.parametrize("name", MEANS)
def test_a_mean_is_over_what_is_left_along_its_dimension_alone(name):
    session = tp.open(with_own_mean(MEANS[name]), example_inputs=(torch.rand(8, 3, 10, 10),), approximate=True)  # 8 images of side 8
    session.apply(["0=50%"])
    assert session.prove().verdict == "approximate" and session.prove().approximate == ("2",)


def test_a_mean_that_another_operation_takes_holds_its_channels():
    session = tp.open(
        with_own_mean(lambda x: F.rms_norm(x.movedim(1, -1), (8,)).movedim(-1, 1)),
        example_inputs=(torch.rand(2, 3, 9, 9),),
        approximate=True,
    )
    with pytest.raises(tp.RequestError, match="mixes channels"):
        session.apply(["0=50%"])
    assert not any("normalisation" in note for note in session.notes)


def test_normalisations_that_share_a_weight_are_locked_or_checked():
    session = tp.open(with_own_mean(MEANS["by position"], shared=True), example_inputs=(torch.rand(2, 3, 9, 9),), approximate=True)
    with pytest.raises(tp.RequestError, match="mean mixes channels"):
        session.apply(["0=50%"])


def test_cut_without_a_normalisation_is_equal():
    net, inputs = made("layer norms")
    session = tp.open(net, example_inputs=inputs, approximate=True)
    session.apply(["up.0=50%"])
    assert session.prove().equal and session.prove().approximate == ()


def test_interrupted_comparison_restores_the_normalisations(monkeypatch: pytest.MonkeyPatch):
    net, inputs = made("layer norms")
    session = tp.open(net, example_inputs=inputs, approximate=True)
    session.apply(["read=50%"])

    def interrupted(*_: Any, **__: Any) -> Tensor:
        raise KeyboardInterrupt

    monkeypatch.setitem(OVER, F.layer_norm, interrupted)
    with pytest.raises(KeyboardInterrupt):
        masked_twin(session.module.model, session._steps.analysis.coupling, session._steps.removal)(*inputs)
    assert bool(F.layer_norm(inputs[0], (6,)).isfinite().all())


def test_saved_module_is_loaded_into_a_newly_built_one(tmp_path: Path):
    net, inputs = made("a group norm")
    session = tp.open(net, example_inputs=inputs, approximate=True)
    session.apply(["0=50%"])
    session.reconstruct([torch.randn(2, 3, 12, 12) for _ in range(4)])
    session.save(tmp_path / "small.tp")
    small = tp.load(tmp_path / "small.tp", images())
    assert small[1].num_channels == 8 and small[1].num_groups == 4
    assert torch.equal(small(inputs[0]), session.model()(inputs[0]))
