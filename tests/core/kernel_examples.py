"""One small example for every operation that the table of rules for weights knows: what happens to a weight before it is convolved with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

aten = torch.ops.aten
COMPUTED = "is convolved with a weight that is computed, not stored"


@dataclass(frozen=True)
class Kernel:
    """What is done to a weight of [8, 8, 3, 3], beside another one of its shape and a scale for each of its rows.

    `reads`, `writes`: words of the reason why the channels that it reads, or writes, must stay; empty where they can be cut.
    """

    make: Callable[[nn.Module], Tensor]
    reads: str = ""
    writes: str = ""
    whole: bool = False


class Computing(nn.Module):
    """A convolution whose weight is computed from stored ones."""

    def __init__(self, kernel: Kernel) -> None:
        super().__init__()
        self.kernel = kernel
        self.weight = nn.Parameter(torch.randn(8, 8, 3, 3) / 4)
        self.other = nn.Parameter(torch.randn(8, 8, 3, 3) / 4)
        self.scale = nn.Parameter(torch.rand(8, 1, 1, 1) + 0.5)
        self.register_buffer("mask", (torch.rand(8, 8, 3, 3) > 0.3).float())

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        if self.kernel.whole:
            with torch.inference_mode():
                weight = self.kernel.make(self)
            return F.conv2d(b, weight, padding=1)
        return F.conv2d(b, self.kernel.make(self), padding=1)


def on(function: Callable[[Tensor], Tensor], **more) -> Kernel:
    """A function of the weight alone."""
    return Kernel(lambda m: function(m.weight), **more)


def rows(function: Callable[[Tensor], Tensor], **more) -> Kernel:
    """The weight, scaled by something of each of its rows."""
    return Kernel(lambda m: m.weight * (1 + function(m.weight).reshape(m.weight.shape[0], 1, 1, 1)), **more)


def flat(weight: Tensor) -> Tensor:
    return weight.flatten(1)


ZERO_AT_ZERO: dict[str, Callable[[Tensor], Tensor]] = {
    "silu": F.silu,
    "relu": torch.relu,
    "tanh": torch.tanh,
    "leaky_relu": F.leaky_relu,
    "gelu": F.gelu,
    "hardswish": F.hardswish,
    "mish": F.mish,
    "elu": F.elu,
    "neg": torch.neg,
    "abs": torch.abs,
    "sqrt": lambda w: w.abs().sqrt(),
    "erf": torch.erf,
    "sin": torch.sin,
    "native_dropout": lambda w: aten.native_dropout(w, 0.5, False)[0],
    "floor": lambda w: (16 * w).floor() / 16,
    "round": lambda w: (16 * w).round() / 16,
    "sign": torch.sign,
    "zeros_like": lambda w: w + torch.zeros_like(w),
    "clamp": lambda w: w.clamp(-0.2, 0.1),
    "hardtanh": lambda w: F.hardtanh(4 * w),
    "clamp_min": lambda w: w.clamp_min(-0.1),
    "clamp_max": lambda w: w.clamp_max(0.1),
}
WHOLE: dict[str, Callable[[Tensor], Tensor]] = {
    "relu6": F.relu6,
    "dropout": lambda w: F.dropout(w, 0.5, False),
    "movedim": lambda w: w.movedim(2, 3),
    "narrow": lambda w: aten.narrow(w, 3, 1, 2),
    "reshape": lambda w: w.reshape(*w.shape[:2], 9, 1),
    "pad": lambda w: F.pad(w, (1, 1)),
    "matmul": lambda w: torch.matmul(w, torch.ones(3, 3, device=w.device)),
    "chunk": lambda w: w.chunk(3, 3)[1],
    "tensor_split": lambda w: torch.tensor_split(w, 3, 3)[1],
    "unsafe_chunk": lambda w: aten.unsafe_chunk(w, 3, 3)[1],
}
ELSEWHERE_AT_ZERO: dict[str, Callable[[Tensor], Tensor]] = {
    "sigmoid": torch.sigmoid,
    "hardsigmoid": F.hardsigmoid,
    "softplus": F.softplus,
    "exp": torch.exp,
    "cos": torch.cos,
    "ones_like": lambda w: w + torch.ones_like(w),
    "log": lambda w: (w.abs() + 0.1).log(),
    "logit": lambda w: w.sigmoid().logit(0.1),
    "rsqrt": lambda w: (w.abs() + 0.1).rsqrt(),
    "reciprocal": lambda w: (w.abs() + 1).reciprocal(),
    "_softmax": lambda w: flat(w)[:, :, None].softmax(2).view_as(w),
    "_safe_softmax": lambda w: aten._safe_softmax(w, 3),
    "_log_softmax": lambda w: w.log_softmax(3),
}
MEETING: dict[str, Callable[[nn.Module], Tensor]] = {
    "add": lambda m: m.weight + m.other,
    "sub": lambda m: m.weight - m.other,
    "rsub": lambda m: torch.rsub(m.weight, m.other),
    "mul": lambda m: m.weight * m.mask,
    "div": lambda m: m.weight / (m.other.abs() + 1),
    "maximum": lambda m: torch.maximum(m.weight, m.other),
    "minimum": lambda m: torch.minimum(m.weight, m.other),
    "pow": lambda m: m.weight.pow(3),
    "where": lambda m: torch.where(torch.ones((), dtype=torch.bool, device=m.mask.device), m.weight, m.other),
    "addcmul": lambda m: torch.addcmul(m.weight, m.other, m.mask),
    "lerp": lambda m: m.weight.lerp(m.other, 0.25),
    "_prelu_kernel": lambda m: aten._prelu_kernel(m.weight, m.scale),
    "_weight_norm_interface": lambda m: torch._weight_norm(m.weight, m.scale, 0),
    "cat": lambda m: torch.cat((m.weight, m.other), 3)[..., 1:4],
    "stack": lambda m: torch.stack((m.weight, m.other)).sum(0),
    "mm": lambda m: torch.mm(m.weight.mean((2, 3)), m.other.mean((2, 3)))[..., None, None],
    "bmm": lambda m: torch.bmm(m.weight.mean(3).movedim(2, 0), m.other.mean(3).movedim(2, 0)).movedim(0, 2)[..., None],
    "mv": lambda m: m.weight * torch.mv(m.weight.mean((2, 3)), m.other.sum((1, 2, 3))).view(-1, 1, 1, 1),
    "dot": lambda m: m.weight * (1 + torch.dot(m.weight.sum((1, 2, 3)), m.other.sum((1, 2, 3)))),
    "vdot": lambda m: m.weight * (1 + torch.vdot(m.weight.sum((1, 2, 3)), m.other.sum((1, 2, 3)))),
}
BY_ROWS: dict[str, Callable[[Tensor], Tensor]] = {
    "sum": lambda w: w.sum((1, 2, 3)),
    "norm": lambda w: aten.norm(flat(w), 2, [1]),
    "linalg_vector_norm": lambda w: torch.linalg.vector_norm(w, dim=(1, 2, 3)),
}
MIXING: dict[str, Callable[[Tensor], Tensor]] = {
    "mean": lambda w: w.mean((1, 2, 3)),
    "amax": lambda w: w.amax((1, 2, 3)),
    "amin": lambda w: w.amin((1, 2, 3)),
    "max": lambda w: flat(w).max(1)[0],
    "min": lambda w: flat(w).min(1)[0],
    "var": lambda w: w.var((1, 2, 3)),
    "std": lambda w: w.std((1, 2, 3)),
    "var_mean": lambda w: torch.var_mean(w, (1, 2, 3))[0],
    "std_mean": lambda w: torch.std_mean(w, (1, 2, 3))[1],
    "prod": lambda w: (1 + flat(w)).prod(1),
    "argmax": lambda w: flat(w).argmax(1) / 10,
    "argmin": lambda w: flat(w).argmin(1) / 10,
    "any": lambda w: flat(w).any(1),
    "all": lambda w: flat(w).all(1),
}
MOVED: dict[str, Callable[[Tensor], Tensor]] = {
    "t": lambda w: w.mean((2, 3)).t()[..., None, None],
    "transpose": lambda w: (w * 1).transpose(2, 3),
    "permute": lambda w: (w * 1).permute(0, 1, 3, 2),
    "expand": lambda w: w[..., :1].expand(-1, -1, 3, 3),
    "unsqueeze": lambda w: w.unsqueeze(1).mean(1),
    "squeeze": lambda w: w[..., None].squeeze(4),
    "repeat": lambda w: w[..., :1].repeat(1, 1, 1, 3),
    "flip": lambda w: w.flip(2),
    "slice": lambda w: w[..., 1:],
    "select": lambda w: w.select(3, 1)[..., None],
    "unbind": lambda w: w.unbind(3)[1][..., None],
    "roll": lambda w: w.roll(1, 3),
    "split": lambda w: w.split(1, 3)[1],
    "split_with_sizes": lambda w: w.split([1, 2], 3)[1],
    "unsafe_split": lambda w: aten.unsafe_split(w, 1, 3)[1],
    "view": lambda w: w.view(*w.shape[:2], 9, 1),
    "_unsafe_view": lambda w: aten._unsafe_view(w, [*w.shape[:2], 9, 1]),
    "_reshape_alias": lambda w: aten._reshape_alias(w, w.shape, w.stride()),
    "constant_pad_nd": lambda w: F.pad(w, (1, 1)),
    "cumsum": lambda w: w.cumsum(3),
}

KERNELS: dict[str, Kernel] = {
    **{name: on(function) for table in (ZERO_AT_ZERO, MOVED) for name, function in table.items()},
    **{name: on(function, whole=True) for name, function in WHOLE.items()},
    **{name: on(function, reads=COMPUTED) for name, function in ELSEWHERE_AT_ZERO.items()},
    **{name: Kernel(function) for name, function in MEETING.items()},
    **{name: rows(function) for name, function in BY_ROWS.items()},
    **{name: rows(function, reads=f"{name} mixes channels") for name, function in MIXING.items()},
    "atan2": Kernel(lambda m: torch.atan2(m.weight, m.other), reads=COMPUTED),
    "native_batch_norm": on(
        lambda w: F.batch_norm(w.view(1, w.shape[0], -1), None, None, training=True).view_as(w),
        reads="batch_norm normalises across channels",
    ),
    "_native_batch_norm_legit": on(
        lambda w: aten._native_batch_norm_legit(w.view(1, w.shape[0], -1), None, None, True, 0.1, 1e-3)[0].view_as(w),
        reads="batch_norm_legit normalises across channels",
    ),
    "native_layer_norm": on(lambda w: F.layer_norm(w, w.shape[2:])),
    "native_group_norm": on(lambda w: F.group_norm(w, 1), reads="group_norm normalises across channels"),
}
"""An example for each operation, under its name."""


def normalised(w: Tensor) -> Tensor:
    """Rows of length 1, without anything that would keep a row of zeros from being divided by zero."""
    return w / flat(w).norm(dim=1).view(-1, 1, 1, 1)


PLACE, FIXED, NAMED = "takes channels by their place", "with a constant of fixed extent", "the forward names this width"
LOST = "-"
"""In place of a reason: no operation told which channels of the weight are written, and it is held all the same."""
MORE: dict[str, Kernel] = {
    "rows of length 1": on(normalised),
    "rows of length 1, scaled": Kernel(lambda m: normalised(m.weight) * m.scale),
    "columns of length 1, scaled": Kernel(
        lambda m: (m.weight / m.weight.pow(2).sum((0, 2, 3), keepdim=True).sqrt()) * m.other.abs().sum((0, 2, 3), keepdim=True)
    ),
    "columns of length 1": on(lambda w: w / w.pow(2).sum((0, 2, 3), keepdim=True).sqrt(), reads=COMPUTED),
    "a length for the whole": on(lambda w: w / w.norm()),
    "weight_norm over columns": Kernel(lambda m: torch._weight_norm(m.weight, m.other.abs().sum((0, 2, 3), keepdim=True), 1)),
    "a negative power": on(lambda w: (w.abs() + 0.1).pow(-1), reads=COMPUTED),
    "plus a number": on(lambda w: w + 0.01, reads=COMPUTED),
    "plus zero": on(lambda w: w + 0),
    "a clamp away from zero": on(lambda w: w.clamp(0.01, 0.2), reads=COMPUTED),
    "a clamp from below away from zero": on(lambda w: w.clamp_min(0.01), reads=COMPUTED),
    "a clamp from above away from zero": on(lambda w: w.clamp_max(-0.01), reads=COMPUTED),
    "a border of ones": on(lambda w: F.pad(w, (1, 1), value=1.0), reads=COMPUTED),
    "a product with another's columns": Kernel(lambda m: torch.einsum("oikl,jikl->oj", m.weight, m.other)[..., None, None]),
    "a low rank beside it": Kernel(lambda m: m.weight + (m.other.mean((2, 3)) @ m.mask.mean((2, 3)))[..., None, None], reads=COMPUTED),
    "one column for all": on(lambda w: w.sum(1, keepdim=True).expand_as(w), reads=COMPUTED),
    "experts that are mixed": Kernel(lambda m: (torch.stack((m.weight, m.other)) * m.mask.sum((1, 2, 3))[:2].view(2, 1, 1, 1, 1)).sum(0)),
    "an exponential of the scale": Kernel(lambda m: m.weight * m.scale.exp()),
    "the logarithm of the scale": Kernel(lambda m: m.weight * m.scale.log()),
    "the inverse root of the scale": Kernel(lambda m: m.weight * m.scale.rsqrt()),
    "divided by the scale": Kernel(lambda m: m.weight / m.scale),
    "a variance over the places": on(lambda w: w / (w.var((2, 3), keepdim=True) + 1)),
    "a place in the columns": rows(lambda w: w.argmax(3).amax((1, 2)), reads="amax mixes channels"),
    "one slice of both": Kernel(lambda m: torch.cat((m.weight, m.other))[:8], reads="", writes=PLACE),
    "the first rows": on(lambda w: w[:8].clone()[:4].repeat(2, 1, 1, 1), writes=PLACE),
    "rolled rows": on(lambda w: w.roll(1, 0), writes=PLACE),
    "halves of the columns": on(lambda w: torch.cat(w.chunk(2, 1)[::-1], 1), reads=PLACE),
    "a border around the rows": on(lambda w: F.pad(w, (0, 0, 0, 0, 0, 0, 1, 1))[1:9], writes=LOST),
    "rows that mix": on(lambda w: w.softmax(0), reads=COMPUTED, writes="softmax mixes channels"),
    "a running sum over columns": on(lambda w: w.cumsum(1), reads="cumsum mixes channels"),
    "rows and columns in one": on(lambda w: w.flatten(0, 1).view(16, 4, 3, 3).flatten(0, 1).view(8, 8, 3, 3), reads=NAMED, writes=NAMED),
    "columns in the place of rows": on(lambda w: w.permute(0, 2, 1, 3).reshape(8, 8, 3, 3), reads=COMPUTED, writes=NAMED),
    "a constant of its shape": Kernel(lambda m: m.weight + torch.ones(8, 8, 3, 3, device=m.mask.device), reads=FIXED, writes=FIXED),
    "a weight beside a constant": Kernel(
        lambda m: torch.cat((m.weight[..., :2], torch.ones(8, 8, 3, 1, device=m.mask.device)), 3), reads=COMPUTED, writes=LOST
    ),
    "itself and its transposed": on(lambda w: w + w.transpose(0, 1)),
    "the upper triangle": on(lambda w: w.mean((2, 3)).triu()[..., None, None], reads=COMPUTED, writes=LOST),
    "picked columns": on(lambda w: w[:, [0, 1, 2, 3, 4, 5, 6, 7]], reads=COMPUTED, writes=LOST),
    "divided in one place and summed in another": Kernel(lambda m: normalised(m.weight) * m.weight.sum(), writes="sum mixes channels"),
    "summed in one place and divided in another": Kernel(
        lambda m: m.weight.sum() * normalised(m.weight) + 0 * m.other * m.mask * m.scale,
        writes="is divided by in one place and summed over in another",
    ),
}
"""More ways in which weights are computed."""
