"""Small networks by what they return: in which container, from which module, and under which condition."""

from __future__ import annotations

import collections
import functools
import itertools
import weakref
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

Wrapped = Callable[[Tensor, Tensor], Any]


class Returning(nn.Module):
    """A stem of 8 channels and a last layer of 4; `wrap` makes what is returned of both outputs."""

    def __init__(self, wrap: Wrapped) -> None:
        super().__init__()
        self.wrap = wrap
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.out = nn.Conv2d(8, 4, 1)

    def forward(self, image: Tensor) -> Any:
        features = torch.tanh(self.stem(image))
        return self.wrap(self.out(features), features)


@dataclass
class Fields:
    scores: Tensor
    features: Tensor


@dataclass
class Nested:
    found: Fields
    count: int = 2


class Plain:
    def __init__(self, scores: Tensor, features: Tensor) -> None:
        self.scores, self._features, self.me = scores, [features], self


class Slots:
    __slots__ = ("__features", "scores")

    def __init__(self, scores: Tensor, features: Tensor) -> None:
        self.scores, self.__features = scores, features


Pair = collections.namedtuple("Pair", "scores features")


class Listed(list):
    """A list with something more on it."""


def listed(scores: Tensor, features: Tensor) -> Listed:
    found = Listed([scores])
    found.extra = features
    return found


def generated(scores: Tensor, features: Tensor) -> Iterator[Any]:
    yield scores
    yield (one for one in [features])


def with_attribute(scores: Tensor, features: Tensor) -> Tensor:
    scores.features = features
    return scores


HOLDING: dict[str, Wrapped] = {
    "a tuple": lambda scores, features: (scores, features),
    "a nested dict": lambda scores, features: {"a": [scores], "b": {"c": (features, None, "text")}},
    "a named tuple": Pair,
    "a dataclass": Fields,
    "a dataclass in a dataclass": lambda scores, features: Nested(Fields(scores, features)),
    "an object": Plain,
    "an object with slots": Slots,
    "a generator": generated,
    "a map": lambda scores, features: map(torch.clone, (scores, features)),
    "a deque": lambda scores, features: collections.deque([scores, features]),
    "the values of a dict": lambda scores, features: {"a": scores, "b": features}.values(),
    "a list with an attribute": listed,
    "a tensor with an attribute": with_attribute,
    "a distribution": lambda scores, features: (scores, torch.distributions.Normal(features, 1.0, validate_args=False)),
    "a function that remembers them": lambda scores, features: lambda: (scores, features),
    "a partial function": lambda scores, features: functools.partial(torch.add, scores, other=features),
    "a method": lambda scores, features: Plain(scores, features).__init__,
}
"""What holds both tensors; the stem's is found beside the last layer's."""

REFUSED: dict[str, tuple[Wrapped, str]] = {
    "nothing": (lambda scores, features: None, "no tensor is found in what the forward returns (NoneType)"),
    "an empty dict": (lambda scores, features: {}, "no tensor is found in what the forward returns (dict)"),
    "a number": (lambda scores, features: scores.shape[1], "no tensor is found in what the forward returns (int)"),
    "an object without attributes": (lambda scores, features: object(), "no tensor is found in what the forward returns (object)"),
    "a module": (lambda scores, features: nn.Identity(), "no tensor is found in what the forward returns (Identity)"),
    "a set": (lambda scores, features: {scores, features}, "is a set, which has no order: return a list"),
    "a reference": (lambda scores, features: (scores, weakref.ref(features)), "output[1] of the forward's output is a ReferenceType"),
    "what has no end": (lambda scores, features: itertools.repeat(scores), "gives more than 100,000 outputs"),
}


class Blocks(nn.Module):
    """Has its blocks where Ultralytics' models have theirs, and runs them in an order of its own."""

    def __init__(self, order: tuple[int, ...], *blocks: nn.Module) -> None:
        super().__init__()
        self.order = order
        self.model = nn.Sequential(*blocks)

    def forward(self, x: Tensor) -> Tensor:
        for place in self.order:
            x = torch.tanh(self.model[place](x)) if place != self.order[-1] else self.model[place](x)
        return x


def conv(read: int, written: int) -> nn.Conv2d:
    return nn.Conv2d(read, written, 3, padding=1)


POSITIONS: dict[str, tuple[Callable[[], nn.Module], set[str], set[str]]] = {
    "an identity at the end": (
        lambda: Blocks((0, 1, 2), conv(3, 8), conv(8, 4), nn.Identity()), {"model.0"}, {"model.1"},
    ),
    "dropout at the end": (
        lambda: Blocks((0, 1, 2), conv(3, 8), conv(8, 4), nn.Dropout()), {"model.0"}, {"model.1"},
    ),
    "blocks that run backwards": (
        lambda: Blocks((2, 1, 0, 3), conv(8, 4), conv(8, 8), conv(3, 8), nn.Identity()), {"model.1", "model.2"}, {"model.0"},
    ),
    "a last block that runs first": (
        lambda: Blocks((2, 0, 1), conv(8, 8), conv(8, 4), conv(3, 8)), {"model.0", "model.2"}, {"model.1"},
    ),
    "logits beside what their layer reads": (lambda: Logits(), {"body.0"}, {"body.2", "fc"}),
    "a backbone that returns its levels": (lambda: Levels(), {"levels.0.0", "levels.1.0"}, {"levels.0.1", "levels.1.1"}),
}  # fmt: skip
"""By what stands last: a network, the layers that are free, and those whose outputs are returned."""


class Logits(nn.Module):
    """Returns its features too, which are what its last child reads."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(conv(3, 8), nn.Tanh(), conv(8, 6))
        self.fc = nn.Linear(6, 5)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        features = self.body(x).mean((2, 3))
        return self.fc(features), features


class Levels(nn.Module):
    """Returns what each level hands to the next, as backbones do; the last child is a level that reads what is returned."""

    def __init__(self) -> None:
        super().__init__()
        self.levels = nn.ModuleDict(
            {str(n): nn.Sequential(conv(read, 8), conv(8, 6)) for n, read in enumerate((3, 6))} | {"last": nn.Identity()}
        )

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        found = {}
        for name, level in self.levels.items():
            x = found[name] = level(x)
        return found


class Auxiliary(nn.Module):
    """A classifier with an auxiliary one, of two layers, that reads its features."""

    def __init__(self, how: Callable[[Auxiliary, Tensor, Tensor], Any]) -> None:
        super().__init__()
        self.how = how
        self.stem = conv(3, 8)
        self.out = conv(8, 4)
        self.aux = nn.Sequential(conv(8, 6), nn.Tanh(), conv(6, 4))

    def forward(self, x: Tensor) -> Any:
        features = torch.tanh(self.stem(x))
        return self.how(self, self.out(features), features)


def in_training_alone(net: Auxiliary, scores: Tensor, features: Tensor) -> Any:
    return (scores, net.aux(features)) if net.training else scores


def thrown_away(net: Auxiliary, scores: Tensor, features: Tensor) -> Any:
    aside = net.aux(features)
    return (scores, aside) if net.training else scores


def thrown_away_for_good(net: Auxiliary, scores: Tensor, features: Tensor) -> Any:
    net.aux(features)
    return scores


def only_with_labels(net: Auxiliary, scores: Tensor, features: Tensor) -> Any:
    aside = net.aux(features)
    if net.training:
        raise ValueError("labels are needed in training")
    return scores if aside.ndim else aside


def by_chance(net: Auxiliary, scores: Tensor, features: Tensor) -> Any:
    return (scores, nn.functional.dropout(net.aux(features), 0.5, True)) if net.training else scores


class Counted(nn.Module):
    """Keeps a running mean of its channels in training, and counts its calls always."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = conv(3, 8)
        self.out = conv(8, 4)
        self.register_buffer("mean", torch.zeros(8))
        self.register_buffer("calls", torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        y = torch.tanh(self.stem(x))
        self.calls += 1
        if self.training:
            self.mean.mul_(0.9).add_(y.mean((0, 2, 3)), alpha=0.1)
        return self.out(y)
