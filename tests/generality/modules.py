"""Modules that no library ships, each with one construct, and what they are called with."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint


@dataclass(frozen=True)
class Case:
    """How a module is built, called, and what becomes of its `cut` layers; `held`: words of the reason why its layers must stay."""

    build: Callable[[], nn.Module]
    args: tuple[Any, ...] = ()
    kwargs: dict[str, Any] = field(default_factory=dict)
    cut: tuple[str, ...] = ()
    held: str = ""


class Between(nn.Module):
    """Two convolutions with something in between."""

    def __init__(self, body: Callable[..., Tensor], wide: int = 16, read: int = 16, **parts: Any) -> None:
        super().__init__()
        self.body = body
        self.first, self.last = nn.Conv2d(3, wide, 3, padding=1), nn.Conv2d(read, 8, 1)
        for name, part in parts.items():
            setattr(self, name, part)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.body(self, torch.relu(self.first(x))))


def image() -> tuple[Tensor, ...]:
    return (torch.rand(2, 3, 12, 20, generator=torch.Generator().manual_seed(1)),)


def tokens() -> Tensor:
    return torch.randint(0, 40, (2, 7), generator=torch.Generator().manual_seed(1))


def between(body: Callable[..., Tensor], wide: int = 16, read: int = 16, held: str = "", **parts: Callable[[], Any]) -> Case:
    """A case of two convolutions; what stands between them either lets the first be cut or holds it."""
    return Case(
        lambda: Between(body, wide, read, **{name: make() for name, make in parts.items()}),
        image(),
        cut=() if held else ("first",),
        held=held,
    )


class Words(nn.Module):
    """Reads whole numbers, and a mask by name; the table that it looks in also writes the scores."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(40, 24)
        self.wide, self.narrow = nn.Linear(24, 32), nn.Linear(32, 24)
        self.scores = nn.Linear(24, 40, bias=False)
        self.scores.weight = self.table.weight

    def forward(self, ids: Tensor, mask: Tensor | None = None) -> dict[str, Any]:
        x = self.table(ids)
        x = x + self.narrow(F.gelu(self.wide(x)))
        if mask is not None:
            x = x * mask[..., None]
        return {"scores": self.scores(x), "parts": [x.sum(1)], "none": None}


class Lengths(nn.Module):
    """Looks at the numbers of a whole-number input."""

    def __init__(self) -> None:
        super().__init__()
        self.table, self.wide, self.last = nn.Embedding(40, 12), nn.Linear(12, 20), nn.Linear(20, 3)

    def forward(self, ids: Tensor, lengths: Tensor) -> Tensor:
        x = self.table(ids[:, : int(lengths.max())])
        return self.last(torch.relu(self.wide(x))).sum(1) / lengths[:, None]


class Sequential(nn.Module):
    """Keeps its layers in an attribute called model, in another order than they run in, and more beside it."""

    def __init__(self) -> None:
        super().__init__()
        self.model = nn.Sequential(nn.Conv2d(12, 8, 1), nn.Conv2d(3, 12, 3), nn.Identity())
        self.head = nn.Conv2d(8, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.model[2](self.model[0](torch.relu(self.model[1](x)))))


@dataclasses.dataclass
class Found:
    """An output that PyTorch's pytree does not know."""

    scores: Tensor
    features: list[Tensor]


class Returning(nn.Module):
    """Returns what a function makes of its scores and features."""

    def __init__(self, wrap: Callable[[Tensor, Tensor], Any]) -> None:
        super().__init__()
        self.first, self.second, self.last, self.wrap = nn.Conv2d(3, 12, 3), nn.Conv2d(12, 10, 1), nn.Conv2d(10, 4, 1), wrap

    def forward(self, x: Tensor) -> Any:
        features = torch.relu(self.second(torch.relu(self.first(x))))
        return self.wrap(self.last(features), features)


class Pair(nn.Module):
    """Reads two inputs of different ranks from a dict, and a flag."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Linear(6, 16), nn.Conv1d(2, 16, 3, padding=1), nn.Linear(16, 5)

    def forward(self, given: dict[str, Any], flag: bool = False) -> Tensor:
        x = torch.relu(self.a(given["vector"]) + self.b(given["lines"][0]).mean(-1))
        return self.c(x if flag else -x)


class Borrowed(nn.Module):
    """A decoder that uses the encoder's weight the other way round."""

    def __init__(self) -> None:
        super().__init__()
        self.inner, self.code, self.out = nn.Linear(10, 18), nn.Linear(18, 12), nn.Linear(18, 4)

    def forward(self, x: Tensor) -> Tensor:
        code = torch.relu(self.code(torch.relu(self.inner(x))))
        return self.out(torch.relu(code @ self.code.weight))


class Training(nn.Module):
    """Writes a buffer in training, and never uses one of its layers."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last, self.never = nn.Conv2d(3, 12, 3), nn.Conv2d(12, 4, 1), nn.Conv2d(12, 12, 1)
        self.register_buffer("mean", torch.zeros(12))

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.first(x))
        if self.training:
            self.mean.mul_(0.9).add_(x.mean((0, 2, 3)), alpha=0.1)
        return self.last(x)


class Dense(nn.Module):
    """Every layer reads all that came before."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Conv2d(3 + 6 * n, 6, 3, padding=1) for n in range(3))
        self.last = nn.Conv2d(21, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = torch.cat((x, torch.relu(layer(x))), 1)
        return self.last(x)


class Bound(nn.Module):
    """Calls a layer through a method that it keeps."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.last = nn.Conv2d(3, 12, 3), nn.Conv2d(12, 12, 1), nn.Conv2d(12, 4, 1)
        self.call = self.second.forward

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.call(torch.relu(self.first(x))))


class Attention(nn.Module):
    """Has the name of a class of Ultralytics', and nothing of it."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv, self.proj = nn.Linear(16, 24), nn.Linear(24, 16)

    def forward(self, x: Tensor) -> Tensor:
        return self.proj(torch.relu(self.qkv(x.movedim(1, -1)))).movedim(-1, 1)


def half_in_place(net: nn.Module, x: Tensor) -> Tensor:
    y = torch.zeros_like(x)
    y[:, :, 1:] = x[:, :, :-1]
    return y


class Mixed(nn.Module):
    """Lets constants and masks that are known meet what is not, in place too."""

    def __init__(self) -> None:
        super().__init__()
        self.table, self.wide, self.last = nn.Embedding(40, 12), nn.Linear(12, 20), nn.Linear(20, 3)
        self.steps = torch.linspace(0, 1, 7)

    def forward(self, ids: Tensor, keep: Tensor) -> Tensor:
        x = torch.relu(self.wide(self.table(ids))) + self.steps[:, None]
        x += (1 - keep.float())[..., None] * -2.0
        x = x.masked_fill(keep[..., None] == 0, 0.5)
        return self.last(x[keep.any(1)])


CASES: dict[str, Case] = {
    "constants and masks that are known": Case(Mixed, (tokens(), torch.tensor([[1] * 5 + [0] * 2, [1] * 7])), cut=("wide",)),
    "whole numbers and a mask by name": Case(Words, (tokens(),), {"mask": torch.ones(2, 7, dtype=torch.long)}, ("wide",)),
    "all arguments by name": Case(Words, (), {"ids": tokens(), "mask": torch.ones(2, 7)}, ("wide",)),
    "a length read off a whole number": Case(Lengths, (tokens(), torch.tensor([3, 5])), cut=("wide",)),
    "a dict of arguments of several ranks": Case(
        Pair, ({"vector": torch.rand(2, 6), "lines": (torch.rand(2, 2, 9),)},), {"flag": True}, ("a",)
    ),
    "a Sequential called model": Case(Sequential, image(), cut=("model.1", "model.0")),
    "a dataclass out": Case(lambda: Returning(lambda scores, features: Found(scores, [scores])), image(), cut=("first", "second")),
    "a feature in a dataclass": Case(
        lambda: Returning(lambda scores, features: Found(scores, [features])), image(), cut=("first",)
    ),
    "a generator out": Case(lambda: Returning(lambda scores, features: (one for one in (scores,))), image(), cut=("second",)),
    "a closure out": Case(lambda: Returning(lambda scores, features: lambda: scores), image(), cut=("second",)),
    "a weight used the other way round": Case(Borrowed, (torch.rand(3, 10),), cut=("inner", "code")),
    "a buffer written in training, a layer never used": Case(Training, image(), cut=("first",)),
    "dense connections": Case(Dense, image(), cut=("layers.0", "layers.2")),
    "a method that is kept": Case(Bound, image(), cut=("first", "second")),
    "a class called Attention": Case(
        lambda: Between(lambda net, x: net.attend(x), attend=Attention()), image(), cut=("first", "attend.qkv")
    ),
    "a periodic activation with a parameter": between(
        lambda net, x: x + torch.sin(net.alpha * x) ** 2 / (net.alpha + 1e-9), alpha=lambda: nn.Parameter(torch.rand(1, 16, 1, 1) + 0.5)
    ),
    "a flip of the channels": between(lambda net, x: x.flip(1)),
    "a part written into zeros": between(half_in_place),
    "channels padded onto a shortcut": between(
        lambda net, x: F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, 0, 4)) + net.down(x), read=20,
        down=lambda: nn.Conv2d(16, 20, 3, stride=2, padding=1),
    ),
    "checkpointed activations": between(
        lambda net, x: checkpoint(net.inner, x, use_reentrant=False), inner=lambda: nn.Conv2d(16, 16, 1)
    ),
    "standardised instances": between(lambda net, x: net.norm(x), norm=lambda: nn.InstanceNorm2d(16, affine=True)),
    "a norm without weights": between(lambda net, x: net.norm(x), norm=lambda: nn.BatchNorm2d(16, affine=False)),
    "moments over space": between(lambda net, x: (x - torch.var_mean(x, (2, 3), keepdim=True)[1]) * 2),
    "a maximum over halves": between(lambda net, x: x.view(x.shape[0], 2, -1, *x.shape[2:]).amax(1), read=8),
    "patches by unfold": between(
        lambda net, x: net.mix(F.unfold(x, 3, padding=1)).view(x.shape[0], -1, *x.shape[2:]), read=12, mix=lambda: nn.Conv1d(144, 12, 1),
    ),
    "half precision in between": between(lambda net, x: (x * 4).half().float() / 4),
    "division by the root of the width": between(lambda net, x: x / x.shape[1] ** 0.5, held="the forward computes with this width"),
    "a path that depends on the width": between(
        lambda net, x: x * 2 if x.shape[1] % 16 == 0 else x, held="the forward computes with this width"
    ),
    "an assertion of the width": between(lambda net, x: x * (1 // int(x.shape[1] == 16)), held="the forward computes with this width"),
    "a mean over the channels": between(lambda net, x: x * torch.sigmoid(x.mean(1, keepdim=True)), held="mean mixes channels"),
    "softmax over the channels": between(lambda net, x: torch.softmax(x, 1), held="mixes channels"),
    "a slice of the channels": between(lambda net, x: x[:, [0, 3, 5, 7]], read=4, held="takes channels by their place"),
    "an outer product": between(
        lambda net, x: net.mix((x.flatten(2) @ x.flatten(2).transpose(1, 2)).flatten(1)).view(-1, 16, 1, 1) + x,
        mix=lambda: nn.Linear(256, 16), held="meets other channels in an outer product",
    ),
    "a layer norm": between(
        lambda net, x: net.norm(x.movedim(1, -1)).movedim(-1, 1), norm=lambda: nn.LayerNorm(16), held="normalises across channels"
    ),
    "a recurrent layer": between(
        lambda net, x: net.line(x.flatten(2).transpose(1, 2))[0].transpose(1, 2).reshape(x.shape),
        line=lambda: nn.LSTM(16, 16, batch_first=True),
    ),
    "a recurrent layer that projects its state": between(
        lambda net, x: net.line(x.flatten(2).transpose(1, 2))[0].transpose(1, 2).reshape(len(x), -1, *x.shape[2:]),
        line=lambda: nn.LSTM(16, 20, batch_first=True, proj_size=16), held="keeps its widths in attributes",
    ),
    "layers in a plain list": between(lambda net, x: net.hidden[0](x), hidden=lambda: [nn.Conv2d(16, 16, 1)], held="is convolved with"),
    "a constant of the width": between(lambda net, x: x * net.scale.to(x), scale=lambda: torch.rand(1, 16, 1, 1), held="constant of fixed"),
}  # fmt: skip
