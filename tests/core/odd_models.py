"""Small networks that Ultralytics does not ship: what users' own modules do to channels."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tui_pruner.core.model.analysis import trace_model
from tui_pruner.core.pruning.proof import prove
from tui_pruner.core.pruning.surgery import cut
from tui_pruner.core.tracing.coupling_map import CouplingMap
from tui_pruner.core.tracing.size_check import smallest_removal


class Odd(nn.Module):
    """A stem of `wide` channels, no matter what `body` does with its output, and a last layer that reads `last` of them."""

    def __init__(self, body: Callable[..., Tensor], wide: int = 8, last: int = 8, **parts: nn.Module | Tensor) -> None:
        super().__init__()
        self.body = body
        self.stem = nn.Conv2d(3, wide, 3, padding=1)
        for name, part in parts.items():
            if isinstance(part, nn.Parameter) or not isinstance(part, Tensor):
                setattr(self, name, part)
            else:
                self.register_buffer(name, part)
        self.out = nn.Conv2d(last, 4, 1)

    def forward(self, image: Tensor) -> Tensor:
        return self.out(self.body(self, torch.relu(self.stem(image))))


def convolution(read: int, written: int, **options: int) -> nn.Conv2d:
    """A 3x3 convolution that keeps the sides."""
    return nn.Conv2d(read, written, 3, padding=1, **options)


def traced(net: nn.Module) -> tuple[nn.Module, CouplingMap]:
    """The network with frozen, seeded weights, and its coupling map."""
    return net, trace_model(net)[1]


def proved_groups(net: nn.Module, coupling: CouplingMap) -> int:
    """Cut every free group alone by as little as its links allow and demand that the masked twin agrees; how many groups there were."""
    free = [group for group in coupling.groups if group.prunable]
    for group in free:
        removal = smallest_removal(coupling, [group])
        proof = prove(net, cut(net, coupling, removal), coupling, removal)
        assert proof.equal, (group.producers[0].axis.module, proof)
    return len(free)


def reasons(coupling: CouplingMap) -> set[str]:
    """Why groups that some layer produces are locked, beside being predictions."""
    locked = (group for group in coupling.groups if group.producers and not group.prunable)
    return {group.reason for group in locked} - {"feeds the model's predictions"}


def shuffled(net: nn.Module, x: Tensor) -> Tensor:
    """ShuffleNet's own channel shuffle of two groups."""
    batch, channels, height, width = x.shape
    return net.after(x.view(batch, 2, channels // 2, height, width).transpose(1, 2).reshape(batch, channels, height, width))


def excited(net: nn.Module, x: Tensor) -> Tensor:
    """Squeeze and excite."""
    return x * torch.sigmoid(net.grow(torch.relu(net.squeeze(x.mean((2, 3), keepdim=True)))))


def attended(net: nn.Module, x: Tensor) -> Tensor:
    """Attention written with einsum, over few places: its memory grows with their square."""
    x = F.max_pool2d(x, 8)
    q, k, v = x.flatten(2), net.key(x).flatten(2), net.value(x).flatten(2)
    weights = torch.einsum("bcn,bcm->bnm", q, k).softmax(-1)
    return torch.einsum("bnm,bcm->bcn", weights, v).unflatten(2, x.shape[2:])


def written_into(net: nn.Module, x: Tensor) -> Tensor:
    """The first half is changed in place."""
    y = x.clone()
    y[:, :4] += net.part(x)
    return y


def named_width(net: nn.Module, x: Tensor) -> Tensor:
    """A view that names the width where it could have asked."""
    return net.next(x).view(x.shape[0], 8, -1).unflatten(2, x.shape[2:])


def demanding(net: nn.Module, x: Tensor) -> Tensor:
    """Insists on a width."""
    if x.shape[1] != 8:
        raise LookupError("eight channels, please")
    return x


def flattened(net: nn.Module, x: Tensor) -> Tensor:
    """A classifier's flatten: every channel becomes 16 features."""
    features = torch.relu(net.dense(F.adaptive_avg_pool2d(x, 4).flatten(1)))
    return features[:, :, None, None]


PROVED: dict[str, tuple[Callable[[], nn.Module], int]] = {
    "a module called twice": (lambda: Odd(lambda net, x: net.again(torch.relu(net.again(x))), again=convolution(8, 8)), 1),
    "a channel shuffle by hand": (lambda: Odd(shuffled, after=convolution(8, 8)), 2),
    "torch's channel shuffle": (lambda: Odd(lambda net, x: net.shuffle(x), shuffle=nn.ChannelShuffle(2)), 1),
    "a pixel shuffle": (lambda: Odd(lambda net, x: F.pixel_shuffle(x, 2), wide=32), 1),
    "a pixel unshuffle": (lambda: Odd(lambda net, x: F.pixel_unshuffle(x, 2), wide=4, last=16), 1),
    "squeeze and excite": (lambda: Odd(excited, squeeze=nn.Conv2d(8, 4, 1), grow=nn.Conv2d(4, 8, 1)), 2),
    "a depthwise convolution with a multiplier": (lambda: Odd(lambda net, x: net.deep(x), last=16, deep=convolution(8, 16, groups=8)), 1),
    "convolutions in groups": (
        lambda: Odd(lambda net, x: net.b(torch.relu(net.a(x))), a=convolution(8, 16, groups=4), b=convolution(16, 8, groups=2)), 5,
    ),
    "a transposed convolution in groups": (
        lambda: Odd(lambda net, x: net.up(x), last=16, up=nn.ConvTranspose2d(8, 16, 2, 2, groups=2)), 3,
    ),
    "a depthwise transposed convolution": (lambda: Odd(lambda net, x: net.up(x), up=nn.ConvTranspose2d(8, 8, 2, 2, groups=8)), 1),
    "attention by einsum": (lambda: Odd(attended, key=convolution(8, 8), value=convolution(8, 8)), 2),
    "a buffer of the channels' width": (lambda: Odd(lambda net, x: x + net.shift, shift=torch.randn(1, 8, 1, 1)), 1),
    "a raw parameter": (lambda: Odd(lambda net, x: x * net.scale, scale=nn.Parameter(torch.randn(8, 1, 1))), 1),
    "a parameter for all channels": (lambda: Odd(lambda net, x: x * net.scale, scale=nn.Parameter(torch.randn(1))), 1),
    "one map that weighs all channels": (lambda: Odd(lambda net, x: x * net.map(x).sigmoid(), map=nn.Conv2d(8, 1, 1)), 1),
    "flatten and linear": (lambda: Odd(flattened, dense=nn.Linear(128, 8)), 2),
    "instance norm": (lambda: Odd(lambda net, x: net.norm(x), norm=nn.InstanceNorm2d(8, affine=True)), 1),
    "a slope for each channel": (lambda: Odd(lambda net, x: net.slope(-x), slope=nn.PReLU(8)), 1),
    "a gated linear unit": (lambda: Odd(lambda net, x: F.glu(x, 1), wide=16), 1),
    "sequences": (lambda: Odd(lambda net, x: net.line(x.flatten(2))[..., None], last=16, line=nn.Conv1d(8, 16, 3)), 2),
    "volumes": (lambda: Odd(lambda net, x: net.deep(x[:, :, None]).squeeze(2), deep=nn.Conv3d(8, 8, 1)), 2),
    "a concat that is normalised": (lambda: Odd(lambda net, x: net.norm(torch.cat((x, net.a(x)), 1)), last=12,
                                                a=convolution(8, 4), norm=nn.BatchNorm2d(12)), 2),
    "padding along the channels": (lambda: Odd(lambda net, x: F.pad(x, (0, 0, 0, 0, 2, 2)), last=12), 1),
    "halves that change places, with padding in each": (
        lambda: Odd(lambda net, x: torch.cat(F.pad(x, (0, 0, 0, 0, 2, 2)).chunk(2, 1)[::-1], 1), last=12), 2,
    ),
    "halves of which one ends in constants": (
        lambda: Odd(lambda net, x: torch.cat(torch.cat((x, x.new_ones(x.shape[0], 4, *x.shape[2:])), 1).chunk(2, 1)[::-1], 1), last=12), 2,
    ),
    "rows that are summed, with padding in each": (
        lambda: Odd(lambda net, x: F.pad(x, (0, 0, 0, 0, 2, 2)).unflatten(1, (2, -1)).sum(1), last=6), 1,
    ),
    "a shuffle with padding in each part": (lambda: Odd(lambda net, x: F.channel_shuffle(F.pad(x, (0, 0, 0, 0, 2, 2)), 2), last=12), 1),
    "a gate with padding in each half": (lambda: Odd(lambda net, x: F.glu(F.pad(x, (0, 0, 0, 0, 2, 2)), 1), last=6), 1),
    "a tiled feature map": (lambda: Odd(lambda net, x: x.repeat(1, 2, 1, 1), last=16), 1),
    "two feature maps dealt out in turn": (
        lambda: Odd(lambda net, x: torch.stack((x, net.a(x)), 2).flatten(1, 2), last=16, a=convolution(8, 8)), 1,
    ),
    "places of two maps side by side": (
        lambda: Odd(lambda net, x: torch.cat((x.flatten(2), net.a(x).flatten(2)), 2)[..., None], a=convolution(8, 8)), 1,
    ),
}  # fmt: skip

LOCKED: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "layer norm": (
        lambda: Odd(lambda net, x: net.norm(x.movedim(1, -1)).movedim(-1, 1), norm=nn.LayerNorm(8)),
        "layer_norm normalises across channels",
    ),
    "group norm": (lambda: Odd(lambda net, x: net.norm(x), norm=nn.GroupNorm(4, 8)), "group_norm normalises across channels"),
    "a constant of fixed width": (
        lambda: Odd(lambda net, x: x + torch.linspace(0, 1, 8)[:, None, None].to(x.device)),
        "add with a constant of fixed extent",
    ),
    "a slice": (lambda: Odd(lambda net, x: x[:, :4], last=4), "slice takes channels by their place"),
    "every other channel": (lambda: Odd(lambda net, x: x[:, [0, 2, 4, 6]], last=4), "index takes channels by their place"),
    "a change in place": (lambda: Odd(written_into, part=convolution(8, 4)), "slice takes channels by their place"),
    "channels that change places": (lambda: Odd(lambda net, x: x.roll(2, 1)), "roll takes channels by their place"),
    "a split into named widths": (lambda: Odd(lambda net, x: torch.cat(x.split([6, 2], 1)[::-1], 1)), "is split into fixed widths [6, 2]"),
    "a view that names the width": (lambda: Odd(named_width, next=convolution(8, 8)), "the forward names this width"),
    "a mean over channels": (lambda: Odd(lambda net, x: x - x.mean(1, keepdim=True)), "mean mixes channels"),
    "a running sum over channels": (lambda: Odd(lambda net, x: x.cumsum(1)), "cumsum mixes channels"),
    "a vector normalised to length 1": (lambda: Odd(lambda net, x: F.normalize(x, dim=1)), "linalg_vector_norm mixes channels"),
    "a weight that is computed": (
        lambda: Odd(lambda net, x: F.conv2d(x, net.a.weight - net.a.weight.mean(), padding=1), a=convolution(8, 8)),
        "mean mixes channels",
    ),
    "multi-head attention of PyTorch": (
        lambda: Odd(lambda net, x: net.mix(*[F.max_pool2d(x, 8).flatten(2).movedim(1, 2)] * 3)[0].movedim(1, 2)[..., None],
                    mix=nn.MultiheadAttention(8, 2, batch_first=True)),
        "PyTorch's MultiheadAttention keeps its widths in attributes",
    ),
    "an LSTM": (
        lambda: Odd(lambda net, x: net.mix(x.mean(2).movedim(1, 2))[0].movedim(1, 2)[..., None], mix=nn.LSTM(8, 8, batch_first=True)),
        "PyTorch's LSTM keeps its widths in attributes",
    ),
    "a division by the root of a width": (
        lambda: Odd(lambda net, x: x / x.shape[1] ** 0.5),
        "the forward computes with this width: without some channels, div is by 2.64575 in place of 2.82843",
    ),
    "a sum over channels as a mean": (
        lambda: Odd(lambda net, x: net.sum(x) / x.shape[1], last=1, sum=nn.Conv2d(8, 1, 1)),
        "the forward computes with this width: without some channels, div is by 7 in place of 8",
    ),
    "another path for an odd width": (
        lambda: Odd(lambda net, x: x * 2 if x.shape[1] % 2 == 0 else x),
        "the forward computes with this width: without some channels, convolution takes the place of mul",
    ),
    "a width that is demanded": (lambda: Odd(demanding), "the forward computes with this width: eight channels, please"),
    "an operation that no rule knows": (
        lambda: Odd(lambda net, x: torch.special.i1(x)),
        "no rule for the operation special_i1",
    ),
}  # fmt: skip
