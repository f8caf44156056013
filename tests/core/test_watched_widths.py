"""A network is not tried where its trace saw that nothing is decided by a width; its map is the one that the trials leave."""

from __future__ import annotations

import contextlib
import copy
import functools
import gc
import math
import threading
import types
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor, nn

from tests.thoroughness import some
from tui_pruner.core.model.analysis import traced
from tui_pruner.core.model.copies import sharing_weights, without_weights
from tui_pruner.core.model.inputs import Inputs
from tui_pruner.core.tracing.coupling import couple
from tui_pruner.core.tracing.coupling_map import CouplingMap
from tui_pruner.core.tracing.size_check import couple_with_size_check, nothing_to_try
from tui_pruner.core.tracing.tracer import trace
from tui_pruner.core.tracing.widths import ReadWidth, WidthKept
from tui_pruner.domain.errors import TraceError
from tui_pruner.frameworks.plain.adapters import free_widths
from tui_pruner.frameworks.plain.module import open_module

WIDTH = 16
TABLE = (2.0,) * 40


class Between(nn.Module):
    """Something between two convolutions."""

    def __init__(self, body: Callable[..., Tensor], last: int) -> None:
        super().__init__()
        self.first, self.last = nn.Conv2d(3, WIDTH, 3, padding=1), nn.Conv2d(last, 8, 1)
        self.deep = nn.Conv2d(WIDTH, WIDTH, 3, padding=1, groups=WIDTH)
        self.fixed, self.heads, self.body = WIDTH, 4, body
        self.narrow, self.half, self.parts = WIDTH // 4, WIDTH // 2, [WIDTH // 2, WIDTH // 2]
        self.register_buffer("seen", torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.body(self, self.deep(self.first(x))))


@functools.lru_cache
def half_of(width: int) -> int:
    return width // 2


def halves(x: Tensor, width: Any) -> Tensor:
    return torch.cat([x[:, :width].relu(), x[:, width:]], 1)


def slices(x: Tensor, half: Any) -> Tensor:
    return torch.cat([x[:, :half, : half // 2] + x[:, half:, half // 2 :]] * 2, 1)


def shuffled(net: Any, x: Tensor) -> Tensor:
    batch, channels, *sides = x.shape
    rows = x.view(batch, net.heads, channels // net.heads, *sides).transpose(1, 2).contiguous()
    return rows.view(batch, channels, *sides)


def shuffled_by(net: Any, x: Tensor, width: Any) -> Tensor:
    return x.view(len(x), net.heads, width, 64).transpose(1, 2).reshape(x.shape)


def filled(net: Any, x: Tensor) -> Tensor:
    net.seen.fill_(x.shape[1])
    return x / net.seen


def looped(net: Any, x: Tensor) -> Tensor:
    for _ in range(x.shape[1] // 8):
        x = x.relu()
    return x


def matched(net: Any, x: Tensor) -> Tensor:
    match x.shape[1]:
        case 16:
            return x.relu()
    return x


def grouped(net: Any, x: Tensor) -> Tensor:
    return F.conv2d(x, net.deep.weight, groups=net.fixed, padding=1)


def failed(net: Any, x: Tensor) -> Tensor:
    with contextlib.suppress(RuntimeError):
        net.first(x)
    return x / x.shape[1]


def unused(net: Any, x: Tensor) -> Tensor:
    batch, _channels, height, width = x.shape
    assert height == width
    return x.flatten(2).view(batch, -1, height, width)


def scripted(net: Any, x: Tensor) -> Tensor:
    return x if torch.jit.is_scripting() else x.relu()


def like(net: Any, x: Tensor) -> Tensor:
    return x * x.mean((2, 3), keepdim=True).expand_as(x) + x.flatten(2).view_as(x)


def added_up(net: Any, x: Tensor) -> Tensor:
    total = x.shape[1]
    for _ in range(1200):
        total = total + x.shape[1]
    return x / total


def twice_less_once(net: Any, x: Tensor) -> Tensor:
    width = x.shape[1]
    for _ in range(30):
        width = 2 * width - width
    return x.view(len(x), width, 8, 8)


SKIPPED: dict[str, Callable[[Any, Tensor], Tensor]] = {
    "nothing": lambda net, x: x.relu(),
    "sizes that are not used": unused,
    "a shuffle": shuffled,
    "rows by what is left": lambda net, x: x.view(x.size(0), net.heads, -1, *x.shape[2:]).flatten(1, 2),
    "the shape of another": like,
    "a size that comes back": lambda net, x: x.flatten(2).reshape(x.shape),
    "sums of sizes": lambda net, x: torch.cat([x, x], 1).view(len(x), x.shape[1] + x.size(1), *x.shape[2:])[:, :, :],
    "scripting": scripted,
    "a long difference": twice_less_once,
    "the sides of the image": lambda net, x: x / math.sqrt(x.shape[2]) if x.shape[3] % 2 == 0 else x,
    "an attribute as a size": lambda net, x: x.view(x.shape[0], net.fixed, -1).view_as(x),
    "an attribute as a bound": lambda net, x: torch.cat([x[:, : net.half].relu(), x[:, net.half :]], 1),
    "parts in a list": lambda net, x: torch.cat(x.split(net.parts, 1)[::-1], 1),
    "a part of an attribute": lambda net, x: shuffled_by(net, x, net.fixed // net.heads),
    "an attribute beside others": lambda net, x: shuffled_by(net, x, net.narrow),
    "layers' groups": lambda net, x: F.conv2d(x, net.deep.weight, None, 1, 1, 1, net.deep.groups),
}
TRIED: dict[str, Callable[[Any, Tensor], Tensor]] = {
    "a long sum": added_up,
    "a root": lambda net, x: x / x.shape[1] ** 0.5,
    "NumPy's root": lambda net, x: x / float(np.sqrt(x.shape[1])),
    "NumPy's product": lambda net, x: x / float(np.prod([x.shape[1], 2])),
    "a logarithm": lambda net, x: x * math.log2(x.size(1)),
    "an integer": lambda net, x: x / int(x.shape[1]),
    "mapped integers": lambda net, x: x / list(map(int, x.shape))[1],
    "a branch": lambda net, x: x.relu() if x.shape[1] > 12 else x,
    "a remainder": lambda net, x: x.relu() if x.shape[1] % 16 == 0 else x,
    "a pattern": matched,
    "a loop": looped,
    "a table": lambda net, x: x * TABLE[x.shape[1]],
    "a length of Python's": lambda net, x: x * len(range(x.shape[1])),
    "an index and a size": lambda net, x: x.view(len(range(width := x.shape[1])) // 16, width, 8, 8),
    "text": lambda net, x: x.relu() if f"{x.shape[1]}" == "16" else x,
    "a tensor": lambda net, x: x / torch.tensor(x.shape[1]),
    "a new tensor": lambda net, x: x / x.new_tensor(float(x.shape[1])),
    "a layer's attribute": lambda net, x: x / (net.first.out_channels // 8),
    "an attribute as a size and a divisor": lambda net, x: shuffled_by(net, x / net.narrow**0.5, net.narrow),
    "sums of attributes": lambda net, x: x.view(len(x), net.narrow + 3 * net.narrow, 64).view_as(x) / net.parts[0],
    "another's attribute": lambda net, x: x / net.last.in_channels,
    "a weight's size": lambda net, x: x / net.first.weight.shape[0],
    "the size of a weight's data": lambda net, x: x / net.first.weight.data.shape[0],
    "a parameter made of another": lambda net, x: x / nn.Parameter(net.first.weight).shape[0],
    "sizes of one sample": lambda net, x: torch.vmap(lambda one: one / one.shape[0] ** 0.5)(x),
    "all elements": lambda net, x: x / x.numel(),
    "all of a shape": lambda net, x: x / x.shape[1:].numel(),
    "its length": lambda net, x: x / len(x[0]),
    "its strides": lambda net, x: x / x.stride(0),
    "its bytes": lambda net, x: x / x.nbytes,
    "quotient and remainder": lambda net, x: x / divmod(x.shape[1], 4)[0],
    "the smallest size": lambda net, x: x / min(x.shape[1], 99),
    "sizes compared": lambda net, x: x.relu() if x.shape == (1, 16, 8, 8) else x,
    "a copy": lambda net, x: x / copy.deepcopy(x.shape)[1],
    "fixed groups": grouped,
    "expanded to a fixed size": lambda net, x: x + x.mean((2, 3), keepdim=True).expand(-1, net.fixed, -1, -1),
    "zeros of a fixed width": lambda net, x: x + torch.cat([F.conv2d(x, net.last.weight), torch.zeros(1, 8, 8, 8)], 1),
    "a failed layer": failed,
    "NumPy's size": lambda net, x: x.reshape(x.shape[0], np.int64(16), -1).view_as(x),
    "NumPy's groups": lambda net, x: F.conv2d(x, net.deep.weight, groups=np.int64(16), padding=1),
    "slices of two dimensions": lambda net, x: slices(x, x.shape[1] // 2),
    "halves": lambda net, x: halves(x, x.shape[1] // 2),
    "a new tensor's size": lambda net, x: x / x.new_zeros(x.shape[1]).shape[0],
}
UNWATCHED: dict[str, Callable[[Any, Tensor], Tensor]] = {
    "a key": lambda net, x: x * {16: 2.0}.get(x.shape[1], 3.0),
    "a cached function": lambda net, x: halves(x, half_of(x.shape[1])),
    "a number of a function": lambda net, x: torch.add(x, x, alpha=x.shape[1]),
    "a buffer": filled,
}


def recorded(skeleton: nn.Module, watched: bool) -> Any:
    return trace(sharing_weights(skeleton), Inputs((torch.rand(1, 3, 8, 8),)), watched=watched)


def content(coupling: CouplingMap) -> Any:
    """What two maps of one network must have in common."""
    groups = [
        (group.channels, group.reason, group.links, [(m.axis, m.role, m.indices.tolist()) for m in group.members])
        for group in coupling.groups
    ]
    return groups, coupling.links, [(str(named.name), named.groups.tolist()) for named in coupling.named]


def with_trials(skeleton: nn.Module) -> CouplingMap:
    return couple_with_size_check(recorded(skeleton, watched=False), skeleton, Inputs((torch.rand(1, 3, 8, 8),)))


@pytest.mark.parametrize("name", SKIPPED)
def test_forward_that_only_passes_widths_on_is_not_tried(name):
    body = SKIPPED[name]
    skeleton = without_weights(Between(body, 32 if name == "sums of sizes" else WIDTH))
    record = recorded(skeleton, watched=True)
    coupling = couple(record)
    assert nothing_to_try(record, coupling)
    assert any(group.prunable for group in coupling.groups)
    assert content(coupling) == content(with_trials(skeleton))


NETWORKS = ("shufflenet_v2_x0_5", "densenet121", "squeezenet1_1", "vgg11", "convnext_tiny", "mobilenet_v3_small")


@pytest.mark.parametrize("name", some(NETWORKS, 2))
def test_a_public_network_that_is_not_tried_has_the_map_that_trials_leave(name):
    with torch.device("meta"):
        skeleton = without_weights(torchvision.models.get_model(name, weights=None))
    given = Inputs((torch.rand(1, 3, 64, 64),))
    record = trace(sharing_weights(skeleton), given, watched=True)
    assert nothing_to_try(record, coupling := couple(record))
    assert content(coupling) == content(couple_with_size_check(trace(sharing_weights(skeleton), given), skeleton, given))


@pytest.mark.parametrize("name", TRIED)
def test_forward_that_may_branch_on_a_width_is_tried(name):
    skeleton = without_weights(Between(TRIED[name], WIDTH))
    record = recorded(skeleton, watched=True)
    assert not nothing_to_try(record, couple(record))
    assert record.steps == recorded(skeleton, watched=False).steps
    assert all(type(number) is not ReadWidth for _, numbers in record.steps for number in numbers)


def test_a_hook_of_a_layer_is_watched():
    net = Between(SKIPPED["nothing"], WIDTH)
    net.first = nn.Sequential(net.first)
    net.first[0].register_forward_hook(lambda module, args, output: output / output.shape[1])
    record = recorded(without_weights(net), watched=True)
    assert not nothing_to_try(record, couple(record))


class Attending(nn.Module):
    """Attention with or without a scale of its own."""

    def __init__(self, **options: Any) -> None:
        super().__init__()
        self.query, self.key, self.value, self.last = nn.Linear(3, WIDTH), nn.Linear(3, WIDTH), nn.Linear(3, WIDTH), nn.Linear(WIDTH, 4)
        self.options = options

    def forward(self, x: Tensor) -> Tensor:
        return self.last(F.scaled_dot_product_attention(self.query(x), self.key(x), self.value(x), **self.options))


@pytest.mark.parametrize("options", [{}, {"scale": 0.25}], ids=["no scale", "a scale"])
def test_attention_holds_the_width_that_it_divides_by_the_root_of(options):
    skeleton, given = without_weights(Attending(**options)), Inputs((torch.rand(2, 5, 3),))
    record = trace(sharing_weights(skeleton), given, watched=True)
    coupling = couple(record)
    assert nothing_to_try(record, coupling)
    query, value = (coupling.output_groups(name)[0] for name in ("query", "value"))
    assert ("the root of this width" in query.reason) == (not options) and value.prunable
    tried = couple_with_size_check(trace(sharing_weights(skeleton), given), skeleton, given)
    assert [tried.output_groups(name)[0].prunable for name in ("query", "key", "value")] == [bool(options), bool(options), True]


class Dividing(nn.Module):
    """Divides by an attribute of a part, which a cut rewrites."""

    def __init__(self, part: nn.Module, name: str) -> None:
        super().__init__()
        self.first, self.part, self.last = nn.Linear(3, WIDTH), part, nn.Linear(WIDTH, 4)
        self.attribute = name

    def forward(self, x: Tensor) -> Tensor:
        y = self.first(x)
        y = self.part(y, y, y)[0] if isinstance(self.part, nn.MultiheadAttention) else self.part(y)[0]
        return self.last(y) / getattr(self.part, self.attribute)


@pytest.mark.parametrize(
    "part, name",
    [(nn.GRU(WIDTH, WIDTH, batch_first=True), "hidden_size"), (nn.MultiheadAttention(WIDTH, 2, batch_first=True), "head_dim")],
    ids=["a recurrent layer", "an attention"],
)
def test_an_attribute_that_a_cut_rewrites_is_watched(part, name):
    net = free_widths(Dividing(copy.deepcopy(part), name).eval())
    record = trace(without_weights(net), Inputs((torch.rand(2, 5, 3),)), watched=True)
    assert not nothing_to_try(record, couple(record))


def by_kind(net: Any, x: Tensor) -> Tensor:
    return x / x.shape[1] if type(x.shape[1]) is int else x


def by_caught_key(net: Any, x: Tensor) -> Tensor:
    with contextlib.suppress(BaseException):
        return x * {16: 2.0}[x.shape[1]]
    return x


def by_caught_layer(net: Any, x: Tensor) -> Tensor:
    with contextlib.suppress(RuntimeError):
        net.deep(x.new_zeros(1, 3, 4, 4))
    return x / x.shape[1]


@pytest.mark.parametrize("body", [by_kind, by_caught_key, by_caught_layer])
def test_forward_that_notices_the_watch_is_traced_without_it(body):
    skeleton = without_weights(Between(body, WIDTH))
    found = traced(skeleton, Inputs((torch.rand(1, 3, 8, 8),)))
    assert content(found) == content(with_trials(skeleton))
    assert any("the forward computes with this width" in group.reason for group in found.groups)


def test_tensor_functions_are_seen_again_after_a_layer_failed():
    net = without_weights(Between(lambda net, x: net.deep(x[:, :3]), WIDTH))
    with pytest.raises(TraceError, match="deep"):
        trace(net, Inputs((torch.rand(1, 3, 8, 8),)), watched=True)
    assert torch._C._is_torch_function_enabled()


def test_a_width_that_a_forward_stores_keeps_no_trace():
    net = without_weights(Between(storing, WIDTH))
    net.stored = types.SimpleNamespace(widths=[])
    record = trace(net, Inputs((torch.rand(1, 3, 8, 8),)), watched=True)
    known = weakref.ref(record)
    del record
    gc.collect()
    width = net.stored.widths[0]
    assert width == WIDTH and type(width) is ReadWidth and known() is None


def storing(net: Any, x: Tensor) -> Tensor:
    net.stored.widths.append(x.shape[1])
    return x


def test_a_forward_whose_objects_cannot_be_copied_stores_plain_integers():
    net = Between(storing, WIDTH)
    net.stored, net.lock = types.SimpleNamespace(widths=[]), threading.Lock()
    open_module(net, Inputs((torch.rand(1, 3, 8, 8),)))
    assert {type(width) for width in net.stored.widths} == {int}


def test_a_shape_that_is_returned_locks_no_other_width():
    class Returning(Between):
        def forward(self, x: Tensor) -> Any:
            y = self.first(x)
            return self.last(self.body(self, self.deep(y))), y.shape

    net = without_weights(Returning(SKIPPED["nothing"], WIDTH))
    given = Inputs((torch.rand(1, 3, 8, 8),))
    assert trace(sharing_weights(net), given, watched=True).steps == trace(sharing_weights(net), given).steps


def test_a_hook_of_all_layers_is_watched():
    net = without_weights(Between(SKIPPED["nothing"], WIDTH))
    hook = nn.modules.module.register_module_forward_hook(lambda module, args, output: output / output.shape[1])
    try:
        record = recorded(net, watched=True)
    finally:
        hook.remove()
    assert not nothing_to_try(record, couple(record))


@pytest.mark.parametrize("name", UNWATCHED)
def test_forward_that_cannot_be_watched_is_traced_with_plain_integers(name):
    skeleton = without_weights(Between(UNWATCHED[name], WIDTH))
    with pytest.raises((WidthKept, TraceError)):
        recorded(skeleton, watched=True)
    assert content(traced(skeleton, Inputs((torch.rand(1, 3, 8, 8),)))) == content(with_trials(skeleton))


def test_layers_have_plain_widths_again_after_a_trace():
    skeleton = without_weights(Between(SKIPPED["nothing"], WIDTH))
    trace(skeleton, Inputs((torch.rand(1, 3, 8, 8),)), watched=True)
    own = (skeleton.fixed, skeleton.heads, *skeleton.parts)
    assert {type(value) for value in (skeleton.first.in_channels, skeleton.first.out_channels, skeleton.deep.groups, *own)} == {int}


def counting(net: Any, x: Tensor) -> Tensor:
    net.heads = net.heads + 1
    return x


def test_an_attribute_that_a_forward_changes_stays_as_it_left_it():
    skeleton = without_weights(Between(counting, WIDTH))
    trace(skeleton, Inputs((torch.rand(1, 3, 8, 8),)), watched=True)
    assert skeleton.heads > 4


def test_width_behaves_like_an_integer():
    class Nobody:
        def use(self, width: ReadWidth) -> int:
            return width.number

        def index(self, *_: Any) -> None:
            return None

        keep = is_fixed = index

    width: Any = ReadWidth(12, Nobody(), (None,))
    twice = 2 * width + 1
    assert isinstance(width, int) and isinstance(twice - width // 5 % 4, int)
    assert (twice, width - 2, 30 // width, 30 % width, width / 8, 2.0 * width, width**2, -width) == (25, 10, 2, 6, 1.5, 24.0, 144, -12)
    assert {width: 1}[12] == 1 and [*range(width)][-1] == 11 and f"{width:03d} {width}" == "012 12" and "ab" * (width - 10) == "abab"
    assert (float(width), bool(width), round(width, 1), math.gcd(width, 8), width.bit_length()) == (12.0, True, 12, 4, 4)
    assert np.sqrt(width) == np.sqrt(12) and np.zeros((2, width)).shape == (2, 12) and torch.zeros(width).shape == (12,)
