"""More modules of one construct each, for the walk through all of them; most stand between two convolutions."""

from __future__ import annotations

import collections
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops import FrozenBatchNorm2d

from tests.generality.modules import Case, Returning, between, image


class Own(nn.Module):
    """Parts by name, and a forward that is given with them; attributes that are no modules too."""

    def __init__(self, body: Callable[..., Any], **parts: Any) -> None:
        super().__init__()
        self.body = body
        for name, part in parts.items():
            setattr(self, name, part)

    def forward(self, x: Tensor) -> Any:
        return self.body(self, x)


def own(body: Callable[..., Any], shape: tuple[int, ...] = (2, 3, 12, 12), held: str = "", **parts: Callable[[], Any]) -> Case:
    """A case whose module has these parts and nothing else."""
    given = (torch.rand(shape, generator=torch.Generator().manual_seed(1)),)
    return Case(lambda: Own(body, **{name: make() for name, make in parts.items()}), given, held=held)


def conv(read: int, write: int, kernel: int = 1, **more: Any) -> Callable[[], nn.Module]:
    return lambda: nn.Conv2d(read, write, kernel, padding=kernel // 2, **more)


def line(read: int, write: int) -> Callable[[], nn.Module]:
    return lambda: nn.Linear(read, write)


def free(*shape: int) -> Callable[[], nn.Parameter]:
    return lambda: nn.Parameter(torch.rand(shape) + 0.5)


def rows(x: Tensor) -> Tensor:
    """An image as a line of places."""
    return x.flatten(2).transpose(1, 2)


def back(x: Tensor, like: Tensor) -> Tensor:
    return x.transpose(1, 2).reshape(like.shape[0], -1, *like.shape[2:])


def padded(x: Tensor) -> Tensor:
    """One channel further on, the first one empty."""
    return F.pad(x, (0, 0, 0, 0, 1, 0))[:, :-1]


def spatial(net: Any, x: Tensor) -> Tensor:
    both = torch.cat((x.mean(1, keepdim=True), x.amax(1, keepdim=True)), 1)
    return x * net.look(both).sigmoid()


def own_kernels(net: Any, x: Tensor) -> Tensor:
    """Every image is convolved with kernels that are made of it."""
    kernels = net.kernels(x.mean((2, 3))).reshape(-1, 1, 3, 3)
    return F.conv2d(x.reshape(1, -1, *x.shape[2:]), kernels, padding=1, groups=len(kernels)).view(x.shape)


def standard(weight: Tensor) -> Tensor:
    return (weight - weight.mean((1, 2, 3), keepdim=True)) / weight.std((1, 2, 3), keepdim=True)


def states(net: Any, x: Tensor) -> Tensor:
    """A gated recurrence over images, whose state begins at zero."""
    state = memory = torch.zeros(len(x), net.width, *x.shape[3:], device=x.device, dtype=x.dtype)
    for at_once in x.unbind(2):
        keep, add, show, new = net.both(torch.cat((at_once, state), 1)).chunk(4, 1)
        memory = keep.sigmoid() * memory + add.sigmoid() * new.tanh()
        state = show.sigmoid() * memory.tanh()
    return net.last(state)


class Spoken(nn.Module):
    """Words, and a recurrent state that the forward makes where the words are: they have values, the layers' outputs have none."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.line, self.last, self.width = nn.Embedding(6, 8), nn.GRU(8, 12, batch_first=True), nn.Linear(12, 3), 12

    def forward(self, x: Tensor) -> Tensor:
        state = torch.zeros(1, len(x), self.width, device=x.device, dtype=self.words.weight.dtype)
        return self.last(self.line(self.words(x), state)[0][:, -1])


class Heads(nn.Module):
    """Attention as it is often written: the heads share the width that the input has."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv, self.out, self.heads, self.scale = nn.Linear(16, 48), nn.Linear(16, 16), 4, 0.5

    def forward(self, x: Tensor) -> Tensor:
        batch, places, width = x.shape
        queries, keys, values = self.qkv(x).reshape(batch, places, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4)
        mixed = (queries * self.scale @ keys.mT).softmax(-1) @ values
        return x + self.out(mixed.transpose(1, 2).reshape(batch, places, width))


def shared_keys(net: Any, x: Tensor) -> Tensor:
    """Attention with four heads, of one key and one value."""
    x = rows(net.read(x))
    queries, (keys, values) = net.queries(x).unflatten(2, (4, -1)), net.others(x).chunk(2, 2)
    weights = torch.softmax(torch.einsum("bnhc,bmc->bhnm", queries, keys), -1)
    return net.last(torch.einsum("bhnm,bmc->bnhc", weights, values).flatten(2)).mean(1)


def with_hook(layer: nn.Module) -> nn.Module:
    layer.register_forward_hook(lambda module, args, output: output / output.shape[1] ** 0.5)
    return layer


def experts(net: Any, x: Tensor) -> Tensor:
    x = net.first(x).mean((2, 3))
    inner = torch.einsum("bc,ecd->bed", x, net.up).tanh()
    return (torch.einsum("bed,edo->beo", inner, net.down) * net.gate(x).softmax(-1)[..., None]).sum(1)


def auto_encoder(net: Any, x: Tensor) -> tuple[Tensor, ...]:
    code = net.read(x).relu().flatten(1)
    mean, spread = net.mean(code), net.spread(code)
    return net.write(mean + 0 * spread.exp()), mean, spread


def two_widths(net: Any, x: Tensor) -> Tensor:
    narrow, wide = net.narrow(x), net.wide(x)
    return net.last((net.both(torch.cat((narrow, wide), 1)) + net.one(wide)).relu())


def catches(net: Any, x: Tensor) -> Tensor:
    """Goes another way where its usual one fails."""
    try:
        return x.view(x.shape[0], 16, *x.shape[2:]) * 2
    except RuntimeError:
        return x


def zeroed_slice(net: Any, x: Tensor) -> Tensor:
    x = x.clone()
    x[:, 0] = 0
    return x


def unrolled(net: Any, x: Tensor) -> Tensor:
    """A recurrence written out by hand."""
    x, state = rows(x), torch.zeros(x.shape[0], net.again.out_features, dtype=x.dtype)
    for place in range(4):
        state = torch.tanh(net.read(x[:, place]) + net.again(state))
    return net.last(state)


def mixture(net: Any, x: Tensor) -> Tensor:
    """The two likeliest of three experts, all of them computed."""
    x = net.read(rows(x))
    weights, chosen = net.gate(x).softmax(-1).topk(2, -1)
    return net.last(sum(one(x) * (weights * (chosen == n)).sum(-1, keepdim=True) for n, one in enumerate(net.experts)))


def moved(net: Any, x: Tensor) -> Tensor:
    """A little to the side."""
    matrix = torch.tensor([[[1.0, 0, 0.1], [0, 1.0, 0]]]).to(x).expand(len(x), -1, -1)
    return F.grid_sample(x, F.affine_grid(matrix, list(x.shape), align_corners=False), align_corners=False)


def levels(net: Any, x: Tensor) -> Tensor:
    """Deformable attention over two levels, as DETR's heirs have it: the sizes go through tensors, of which the forward asks sums."""
    maps = [net.equal(x := F.max_pool2d(net.first(x).relu(), 2)), net.second(x)]
    rows = torch.cat([one.flatten(2).transpose(1, 2) for one in maps], 1)
    sizes = torch.as_tensor([one.shape[2:] for one in maps], dtype=torch.long, device=x.device)
    if (sizes[:, 0] * sizes[:, 1]).sum() != rows.shape[1] or bool(x.new_tensor([len(maps)], dtype=torch.long) != len(sizes)):
        raise ValueError("sizes do not fit")
    value = net.value(rows).split([int(height * width) for height, width in sizes], 1)
    where = net.where(rows).tanh().unflatten(2, (2, 2, 2))
    found = [
        F.grid_sample(part.transpose(1, 2).unflatten(2, (int(h), int(w))), where[:, :, level] / sizes[level], align_corners=False).sum(-1)
        for level, (part, (h, w)) in enumerate(zip(value, sizes, strict=True))
    ]
    return net.mix(sum(found).transpose(1, 2))


def queries(net: Any, x: Tensor) -> tuple[Tensor, Tensor]:
    """The likeliest places look elsewhere in the image, as the detectors with deformable attention do."""
    seen = net.first(x)
    tokens = rows(seen)
    best = net.score(tokens).squeeze(-1).topk(5, 1)[1]
    chosen = tokens.gather(1, best[..., None].expand(-1, -1, tokens.shape[-1]))
    places = net.where(chosen).sigmoid()[:, :, None] * 2 - 1
    looked = F.grid_sample(net.value(seen), places, align_corners=False)
    mixed = net.mix(rows(looked)) + chosen
    return net.boxes(mixed), net.classes(net.up(mixed).relu())


class Sign(torch.autograd.Function):
    """An operation with a gradient of its own that compares with the mean of the channels."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x * (x > x.mean(1, keepdim=True))

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return gradient


class Slots:
    """An output without a dict."""

    __slots__ = ("features", "scores")

    def __init__(self, scores: Tensor, features: Tensor) -> None:
        self.scores, self.features = scores, [features]


Named = collections.namedtuple("Named", "scores features")
SINGLE_HEAD = {name: line(32, 32) for name in ("query", "key", "value")}
BY_VALUE = "decides by a computed value"

CONSTRUCTS: dict[str, Case] = {
    # what comes out
    "scores and the feature that they are made of": Case(lambda: Returning(lambda scores, features: (scores, features)), image()),
    "a named tuple": Case(lambda: Returning(Named), image()),
    "an object with slots": Case(lambda: Returning(Slots), image()),
    "nested parts, nothing and a word": Case(
        lambda: Returning(lambda scores, features: {"a": [scores], "b": {"c": (features.mean(),)}, "n": None, "s": "x"}), image()
    ),
    "a width beside the scores": own(
        lambda net, x: (net.last(net.first(x)), net.first(x).shape[1]), first=conv(3, 12, 3), last=conv(12, 5),
        held="the forward computes with this width",
    ),
    # attention
    "attention of one head": own(
        lambda net, x: net.last(F.scaled_dot_product_attention(*(part(rows(net.first(x))) for part in (net.query, net.key, net.value)))),
        first=lambda: nn.Conv2d(3, 32, 4, stride=4), last=line(32, 5), **SINGLE_HEAD,
    ),
    "attention between channels": between(
        lambda net, x: torch.einsum("bcd,bdn->bcn", torch.einsum("bcn,bdn->bcd", x.flatten(2), x.flatten(2)).softmax(-1), x.flatten(2))
        .view_as(x), held="outer product",
    ),
    "multi-head attention": between(
        lambda net, x: back(net.mix(*[rows(x)] * 3)[0], x), mix=lambda: nn.MultiheadAttention(16, 4, batch_first=True)
    ),
    "a transformer's layer": between(
        lambda net, x: back(net.mix(rows(x)), x), mix=lambda: nn.TransformerEncoderLayer(16, 4, 32, batch_first=True)
    ),
    "a gate from the channels' mean and maximum": between(spatial, look=conv(2, 1, 3), held="mixes channels"),
    "a gate that slides over channels": between(
        lambda net, x: x * net.slide(x.mean((2, 3)).unsqueeze(1)).sigmoid().transpose(1, 2).unsqueeze(-1),
        slide=lambda: nn.Conv1d(1, 1, 3, padding=1), held="channel",
    ),
    "places added to tokens": between(lambda net, x: back(rows(x) + net.places, x), places=free(1, 240, 16)),
    "a class token": between(
        lambda net, x: back(torch.cat((net.token.expand(x.shape[0], -1, -1), rows(x)), 1)[:, 1:], x), token=free(1, 1, 16)
    ),
    # sums over channels, and what a width is told by
    "a sum divided by the width": own(
        lambda net, x: net.last((y := net.first(x)).new_tensor(1.0) * net.one(y) / y.shape[1]), first=conv(3, 16), one=conv(16, 1),
        last=conv(1, 5), held="the forward computes with this width",
    ),
    "a width in a tensor": between(lambda net, x: x * torch.tensor(x.shape[1] / 16.0), held="the forward computes with this width"),
    "a width counted by a sum of ones": between(lambda net, x: x * (torch.ones(x.shape[1]).sum() / 16), held="computes with this width"),
    "a share of all numbers": between(lambda net, x: x / x.numel(), held="the forward computes with this width"),
    "another path below a width": between(lambda net, x: x * 2 if x.shape[1] > 12 else x, held="the forward computes with this width"),
    "another path by a weight's shape": between(lambda net, x: x * 2 if net.first.weight.shape[0] > 9 else x, held="computes with"),
    "another path where one fails": between(catches, held="this width"),
    "a running sum": between(lambda net, x: x.cumsum(1), held="mixes channels"),
    "the four largest": between(lambda net, x: x * (x >= x.topk(4, 1)[0][:, -1:]), held="orders channels"),
    "a response normalised over neighbours": between(lambda net, x: F.local_response_norm(x, 5), held="first"),
    "a product over channels": between(lambda net, x: x + (x + 1).prod(1, keepdim=True), held="mixes channels"),
    "the likeliest channel": between(lambda net, x: x * (x.argmax(1, keepdim=True) == 0), held="mixes channels"),
    "a contrast of everything": between(lambda net, x: x - x.mean(), held="mixes channels"),
    "a cosine classifier": own(
        lambda net, x: F.normalize(net.first(x).mean((2, 3)), dim=1) @ F.normalize(net.classes, dim=1).t(), first=conv(3, 16),
        classes=free(10, 16), held="mixes channels",
    ),
    "a spectrum over channels": between(lambda net, x: torch.fft.irfft(torch.fft.rfft(x, dim=1), dim=1, n=x.shape[1]), held="mixes"),
    "an operation with its own gradient": between(lambda net, x: Sign.apply(x), held="mixes channels"),
    # element-wise
    "a cosine": between(lambda net, x: torch.cos(x)),
    "plus one": between(lambda net, x: x + 1.0),
    "shrinking": between(lambda net, x: F.hardshrink(F.softshrink(F.tanhshrink(x * 9)))),
    "one slope for all": between(lambda net, x: net.slope(x - 0.1), slope=nn.PReLU),
    "one gate for all": between(lambda net, x: x * net.gate, gate=free(1)),
    "a choice by sign": between(lambda net, x: torch.where(x > 0.1, x, torch.zeros_like(x))),
    "a filled mask": between(lambda net, x: x.masked_fill(x < 0.1, -1.0)),
    "itself without a gradient": between(lambda net, x: x + x.detach()),
    "zero by zero made a number": between(lambda net, x: torch.nan_to_num(x / x.abs())),
    "steps of a learnt size": between(lambda net, x: (x / net.size).round().clamp(-8, 7) * net.size, size=free(1, 16, 1, 1)),
    "a step of the largest value": between(lambda net, x: (x / (x.abs().max() / 127)).round(), held="mixes channels"),
    # places of channels
    "halves that the forward computes": between(lambda net, x: torch.cat((x[:, : x.shape[1] // 2].sin(), x[:, x.shape[1] // 2 :]), 1)),
    "channels moved on by one": between(lambda net, x: padded(x)),
    "channels moved round": between(lambda net, x: x.roll(3, 1), held="takes channels by their place"),
    "a shuffle by name": between(
        lambda net, x: x.view(x.shape[0], 4, 4, *x.shape[2:]).transpose(1, 2).reshape(x.shape), held="names this width"
    ),
    "space into channels": between(lambda net, x: F.pixel_unshuffle(x, 2), read=64),
    "channels into space": between(lambda net, x: F.pixel_shuffle(x, 2), read=4),
    "channels into space, by hand": between(
        lambda net, x: x.view(len(x), -1, 2, 2, 12, 20).permute(0, 1, 4, 2, 5, 3).reshape(len(x), -1, 24, 40), read=4
    ),
    "gated halves": between(lambda net, x: F.glu(x, 1), read=8),
    "copies side by side": between(lambda net, x: x.repeat(1, 2, 1, 1), read=32),
    "rows summed": between(lambda net, x: x.view(x.shape[0], 4, -1, *x.shape[2:]).sum(1), read=4),
    "three parts of eight": between(
        lambda net, x: (lambda a, b, c: a * b.sigmoid() + c)(*x.split(8, 1)), wide=24, read=8, held="names this width"
    ),
    "uneven halves": own(
        lambda net, x: (lambda a, b: net.left(a) + net.right(b))(*net.first(x).chunk(2, 1)), first=conv(3, 25), left=conv(13, 4),
        right=conv(12, 4), held="split into fixed widths",
    ),
    "a part that is convolved": between(
        lambda net, x: torch.cat((net.part(x[:, :4]), x[:, 4:]), 1), part=conv(4, 4, 3), held="place"
    ),
    "a channel that is emptied": between(zeroed_slice, held="by their place"),
    "one channel after the other": between(lambda net, x: torch.stack([x[:, n] * (n + 1) for n in range(x.shape[1])], 1), held="first"),
    "channels in another order": between(
        lambda net, x: x.index_select(1, net.order), order=lambda: nn.Parameter(torch.randperm(16), requires_grad=False), held="place"
    ),
    # constants
    "a count of the channels added": between(
        lambda net, x: x + torch.arange(x.shape[1], dtype=x.dtype).view(1, -1, 1, 1), held="constant of fixed"
    ),
    "a unit matrix": between(lambda net, x: (torch.eye(x.shape[1], dtype=x.dtype) @ x.flatten(2)).view_as(x), held="no channels"),
    "a fixed blur": between(
        lambda net, x: F.conv2d(x, net.blur.expand(x.shape[1], 1, 3, 3), padding=1, groups=x.shape[1]), blur=free(1, 1, 3, 3)
    ),
    # norms
    "a norm by the root of squares": between(
        lambda net, x: net.norm(x.movedim(1, -1)).movedim(-1, 1), norm=lambda: nn.RMSNorm(16), held="mean mixes channels"
    ),
    "a norm of groups": between(lambda net, x: net.norm(x), norm=lambda: nn.GroupNorm(4, 16), held="group_norm normalises"),
    "a response over all channels": between(
        lambda net, x: x * ((n := x.norm(p=2, dim=(2, 3), keepdim=True)) / (n.mean(1, keepdim=True) + 1e-6)), held="mixes channels"
    ),
    "a norm that is frozen": between(lambda net, x: net.norm(x), norm=lambda: FrozenBatchNorm2d(16)),
    "the middle value taken off": between(lambda net, x: x - x.flatten(2).median(-1)[0][..., None, None]),
    "each map by its length": between(lambda net, x: x / (x.flatten(2).norm(dim=-1)[..., None, None] + 1e-6)),
    # kernels
    "transposed in groups": between(lambda net, x: net.up(x), up=lambda: nn.ConvTranspose2d(16, 16, 2, stride=2, groups=4)),
    "transposed": between(lambda net, x: net.up(x), up=lambda: nn.ConvTranspose2d(16, 16, 2, stride=2)),
    "two maps of each": between(lambda net, x: net.each(x), read=32, each=conv(16, 32, 3, groups=16)),
    "standardised weights": between(
        lambda net, x: F.conv2d(x, standard(net.mix.weight), net.mix.bias, padding=1), mix=conv(16, 16, 3), held="mixes channels"
    ),
    "weights by length and direction": between(
        lambda net, x: net.mix(x), mix=lambda: nn.utils.parametrizations.weight_norm(nn.Conv2d(16, 16, 3, padding=1))
    ),
    "weights by their largest singular value": between(
        lambda net, x: net.mix(x), mix=lambda: nn.utils.parametrizations.spectral_norm(nn.Conv2d(16, 16, 1))
    ),
    "weights with a low rank added": between(
        lambda net, x: F.conv2d(x, net.mix.weight + (net.up @ net.down)[..., None, None]), mix=conv(16, 16), up=free(16, 4),
        down=free(4, 16),
    ),
    "kernels of each image": between(own_kernels, kernels=line(16, 144), held="weight that is computed"),
    "a bent convolution": between(
        lambda net, x: F.grid_sample(x, torch.tanh(net.where(x)).movedim(1, -1), align_corners=True), where=conv(16, 2)
    ),
    "stacked experts": own(experts, first=conv(3, 16), up=free(4, 16, 24), down=free(4, 24, 10), gate=line(16, 4)),
    "a mixture of experts": own(
        mixture, read=line(3, 12), gate=line(12, 3), experts=lambda: nn.ModuleList(nn.Linear(12, 12) for _ in range(3)),
        last=line(12, 4),
    ),
    "queries that look elsewhere": own(
        queries, first=conv(3, 16, 3), score=line(16, 1), where=line(16, 2), value=conv(16, 12), mix=line(12, 16), up=line(16, 20),
        boxes=line(16, 4), classes=line(20, 3),
    ),
    "levels whose sizes are in a tensor": own(
        levels, first=conv(3, 16, 3), second=conv(16, 12, 3), equal=conv(16, 12), value=line(12, 16), where=line(12, 8), mix=line(16, 6)
    ),
    "a state of zeros": own(
        states, (2, 3, 3, 8, 8), both=conv(11, 32, 3), width=lambda: 8, last=conv(8, 4)
    ),
    "a recurrent state of one's own": Case(lambda: Spoken(), (torch.tensor([[1, 4, 2], [3, 3, 0]]),), cut=("line",)),
    "two recurrent layers in both directions": own(
        lambda net, x: net.last(net.line(x.flatten(2))[0][:, -1]), (2, 5, 6), last=line(24, 3),
        line=lambda: nn.LSTM(6, 12, 2, batch_first=True, bidirectional=True),
    ),
    "an image of a vector": own(
        lambda net, x: net.last(net.up(net.norm(net.code(x).view(-1, net.maps, 2, 2)).relu()).relu()), (4, 10), code=line(10, 96),
        maps=lambda: 24, norm=lambda: nn.BatchNorm2d(24), up=lambda: nn.ConvTranspose2d(24, 12, 4, 2, 1), last=conv(12, 3),
    ),
    "the larger of each two": between(lambda net, x: x.view(len(x), -1, 2, *x.shape[2:]).amax(2), read=8),
    "halves by an attribute": between(lambda net, x: torch.cat((x[:, : net.half].sin(), x[:, net.half :]), 1), half=lambda: 8),
    "heads that share the width of the input": own(
        lambda net, x: net.last(net.again(net.attend(rows(net.read(x))))).mean(1), read=conv(3, 16, 4, stride=4), last=line(16, 3),
        attend=lambda: Heads(), again=lambda: Heads(),
    ),
    "one key for all heads": own(shared_keys, read=conv(3, 16, 4, stride=4), queries=line(16, 16), others=line(16, 8), last=line(16, 3)),
    "products of what is never zero": between(
        lambda net, x: x * torch.einsum("bchw,bchw->bhw", x.exp(), x.cos())[:, None], held="neither factor is zero without a channel"
    ),
    "a hook that divides by the width": between(
        lambda net, x: net.hooked(x), hooked=lambda: with_hook(nn.Conv2d(16, 16, 1)), held="the forward computes with this width"
    ),
    "noise in evaluation": between(lambda net, x: x + torch.randn_like(x), held="random numbers are drawn for each of its channels"),
    "differences of neighbours": between(lambda net, x: F.pad(x.diff(dim=1), (0, 0, 0, 0, 1, 0)), held="only all of them could go"),
    "a recurrence by hand": own(unrolled, read=line(3, 12), again=line(12, 12), last=line(12, 4)),
    # space
    "halved frequencies": between(lambda net, x: torch.fft.irfft2(torch.fft.rfft2(x) * 0.5, s=x.shape[-2:])),
    "twice as large": between(lambda net, x: F.interpolate(x, scale_factor=2, mode="bicubic")),
    "moved by a matrix": between(moved),
    "distances between places": between(
        lambda net, x: x * torch.cdist(rows(x), rows(x)).mean(-1).view(x.shape[0], 1, *x.shape[2:])
    ),
    "pools of two kinds": between(lambda net, x: F.adaptive_avg_pool2d(x, 4) + F.adaptive_max_pool2d(x, 4)),
    "a pool undone": between(lambda net, x: F.max_unpool2d(*F.max_pool2d(x, 2, return_indices=True), 2)),
    # whole networks
    "a line of sound": Case(
        lambda: nn.Sequential(
            nn.Conv1d(3, 16, 3, padding=1), nn.BatchNorm1d(16), nn.ReLU(), nn.MaxPool1d(2), nn.Conv1d(16, 24, 3),
            nn.InstanceNorm1d(24, affine=True), nn.GELU(), nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(24, 5),
        ),
        (torch.rand(2, 3, 40, generator=torch.Generator().manual_seed(1)),),
    ),
    "layers of one vector": own(
        lambda net, x: net.all(x),
        all=lambda: nn.Sequential(
            nn.Flatten(), nn.Linear(192, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Linear(32, 16), nn.Tanh(), nn.Linear(16, 5)
        ),
        shape=(2, 3, 8, 8),
    ),
    "a variational code": own(auto_encoder, read=conv(3, 16, 3), mean=line(2304, 6), spread=line(2304, 6), write=line(6, 9)),
    "two widths into one sum": own(two_widths, narrow=conv(3, 8), wide=conv(3, 24), both=conv(32, 16), one=conv(24, 16), last=conv(16, 4)),
    "twins of one layer": own(
        lambda net, x: net.last((net.read(x).mean((2, 3)) - net.read(x.flip(3)).mean((2, 3))).abs()), read=conv(3, 12, 3), last=line(12, 4)
    ),
    "a layer that is never read": own(
        lambda net, x: net.last(net.first(x).relu()), first=conv(3, 16), never=conv(16, 16), last=conv(16, 4)
    ),
    # what cannot be followed at all
    "a part that is TorchScript": between(
        lambda net, x: net.inner(x), inner=lambda: torch.jit.script(nn.Sequential(nn.Conv2d(16, 16, 1), nn.ReLU())), held="TorchScript"
    ),
    "a path by a mean": between(lambda net, x: x if x.mean() > 0 else -x, held=BY_VALUE),
    "a number of hits": between(lambda net, x: x * (x.nonzero().shape[0] > 0), held=BY_VALUE),
    "a mask of places": between(lambda net, x: x * x[x > 0].mean(), held=BY_VALUE),
    "out of PyTorch and back": between(lambda net, x: torch.from_numpy(x.detach().numpy()), held=BY_VALUE),
}  # fmt: skip
