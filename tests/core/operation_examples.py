"""One small example for every operation that the table of rules knows: what stands between two convolutions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor, nn

aten = torch.ops.aten
Between = Callable[[nn.Module, Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Example:
    """What stands between the second and the last convolution of a small network, from both feature maps of 8 channels.

    `wide` is what the second writes, `last` what the last reads; `held`: words of the reason why the second's channels must stay; `tied`:
    how many of them live or die together.
    """

    run: Between
    wide: int = 8
    last: int = 8
    held: str = ""
    whole: bool = False
    tied: int = 1
    modules: dict[str, Callable[[], nn.Module]] = field(default_factory=dict)


def one(function: Callable[[Tensor], Tensor], **more) -> Example:
    """An example that needs the second feature map only."""
    return Example(lambda m, a, b: function(b), **more)


def two(function: Callable[[Tensor, Tensor], Tensor], **more) -> Example:
    """An example in which both feature maps meet."""
    return Example(lambda m, a, b: function(a, b), **more)


def whole(function: Callable[[Tensor], Tensor], **more) -> Example:
    """An example that PyTorch leaves whole in inference mode."""
    return Example(lambda m, a, b: function(b), whole=True, **more)


def using(run: Between, **modules: Callable[[], nn.Module]) -> Example:
    """An example with modules of its own."""
    return Example(run, modules=modules)


def using_locked(run: Between, held: str, **modules: Callable[[], nn.Module]) -> Example:
    """An example with modules of its own that hold the channels."""
    return Example(run, held=held, modules=modules)


def positive(b: Tensor) -> Tensor:
    return b.abs() + 0.5


def space(b: Tensor) -> Tensor:
    return F.adaptive_avg_pool2d(b, 4).view(b.shape[0], b.shape[1], -1)


def places(b: Tensor) -> Tensor:
    """36 places, each with its vector of channels: from 25 on distances are computed by a product."""
    return F.adaptive_avg_pool2d(b, 6).flatten(2).transpose(1, 2)


def shifted(b: Tensor) -> Tensor:
    """One row further down; the first is empty."""
    found = b.new_zeros(b.shape)
    found[:, :, 1:] = b[:, :, :-1]
    return found


def filled(b: Tensor) -> Tensor:
    """The first column is one half."""
    found = b.clone()
    found[..., 0] = 0.5
    return found


def written(b: Tensor) -> Tensor:
    """The second image is the first; a border is left at one."""
    found = torch.ones_like(b[:1]).new_ones(2, *b.shape[1:])
    for place in range(2):
        found[place, :, 1:-1, 1:-1] = b[0, :, 1:-1, 1:-1]
    return found[: len(b)]


def gate(b: Tensor, pixels: Tensor) -> Tensor:
    """The feature map scaled by one number per image that was computed from all of its pixels."""
    return b * pixels.tanh().mean((1, 2)).view(-1, 1, 1, 1)


def beside(b: Tensor, layer: nn.Module, state: Tensor) -> Tensor:
    """The feature map after a step of a state, which is multiplied with all pixels too."""
    return gate(b + layer(state)[..., None, None], torch.bmm(state[:, None], space(b).cos()))


def picked(b: Tensor) -> Tensor:
    return torch.zeros((*b.shape[:3], 1), dtype=torch.int64, device=b.device)


def norm() -> nn.Module:
    layer = nn.BatchNorm2d(8)
    nn.init.uniform_(layer.weight, 0.5, 1.5)
    nn.init.normal_(layer.bias)
    layer.running_mean.normal_()
    return layer


def comparing(compare: Callable[[Tensor, Tensor], Tensor]) -> Callable[[Tensor, Tensor], Tensor]:
    return lambda a, b: a + compare(a, b)


def combining(combine: Callable[[Tensor, Tensor], Tensor]) -> Callable[[Tensor, Tensor], Tensor]:
    return lambda a, b: a * combine(a > 0, b > 0)


DECOMPOSED = {"upsample_linear1d": "_unsafe_index", "upsample_bilinear2d": "_unsafe_index", "upsample_trilinear3d": "_unsafe_index"}
"""What runs in place of an operation once anything in the process has imported PyTorch's decompositions, as an export does."""
BY_ITSELF: dict[str, Callable[[Tensor], Tensor]] = {
    "silu": F.silu,
    "relu": torch.relu,
    "sigmoid": torch.sigmoid,
    "tanh": torch.tanh,
    "hardtanh": F.hardtanh,
    "leaky_relu": F.leaky_relu,
    "gelu": F.gelu,
    "hardswish": F.hardswish,
    "hardsigmoid": F.hardsigmoid,
    "mish": F.mish,
    "softplus": F.softplus,
    "elu": F.elu,
    "exp": torch.exp,
    "log": lambda b: positive(b).log(),
    "neg": torch.neg,
    "abs": torch.abs,
    "sqrt": lambda b: positive(b).sqrt(),
    "rsqrt": lambda b: positive(b).rsqrt(),
    "erf": torch.erf,
    "sin": torch.sin,
    "cos": torch.cos,
    "reciprocal": lambda b: positive(b).reciprocal(),
    "clamp": lambda b: b.clamp(-0.2, 0.2),
    "clamp_min": lambda b: b.clamp_min(0.1),
    "clamp_max": lambda b: b.clamp_max(0.1),
    "logit": lambda b: b.sigmoid().logit(),
    "floor": lambda b: (8 * b).floor(),
    "round": lambda b: (8 * b).round(),
    "sign": torch.sign,
    "zeros_like": lambda b: b + torch.zeros_like(b),
    "ones_like": lambda b: b * torch.ones_like(b),
    "full_like": lambda b: b + torch.full_like(b, 2.0),
    "empty_like": lambda b: torch.empty_like(b).copy_(b),
    "clone": torch.clone,
    "detach": torch.detach,
    "_to_copy": lambda b: b.double().float(),
    "alias": aten.alias,
    "lift_fresh": lambda b: b * torch.tensor(2.0),
    "native_dropout": lambda b: aten.native_dropout(b, 0.5, False)[0],
}
BY_ITSELF |= {
    name: getattr(torch, name)
    for name in (
        "sinh", "cosh", "atan", "asinh", "expm1", "exp2", "trunc", "ceil", "frac", "sgn", "erfc",
        "nan_to_num", "sinc",
    )
} | {
    "softshrink": lambda b: F.softshrink(b, 0.05),
    "hardshrink": lambda b: F.hardshrink(b, 0.05),
    "threshold": lambda b: F.threshold(b, 0.1, 0.5),
    "asin": lambda b: (b.tanh() / 2).asin(),
    "acos": lambda b: (b.tanh() / 2).acos(),
    "atanh": lambda b: (b.tanh() / 2).atanh(),
    "erfinv": lambda b: (b.tanh() / 2).erfinv(),
    "acosh": lambda b: (1 + positive(b)).acosh(),
    "log1p": lambda b: positive(b).log1p(),
    "log2": lambda b: positive(b).log2(),
    "log10": lambda b: positive(b).log10(),
    "zero": lambda b: b + b.clone().zero_(),
    "fill": lambda b: b * b.clone().fill_(2.0),
    "bitwise_not": lambda b: b * torch.bitwise_not(b > 0),
    "log_sigmoid_forward": F.logsigmoid,
    "rrelu_with_noise": lambda b: F.rrelu(b, training=False),
    "celu": F.celu,
    "isnan": lambda b: b + b.isnan(),
    "isinf": lambda b: b + b.isinf(),
    "logical_not": lambda b: b + (b > 0).logical_not(),
}  # fmt: skip
"""Functions of PyTorch under the names of the operations that they are."""
WHOLE: dict[str, Callable[[Tensor], Tensor]] = {
    "relu6": F.relu6,
    "dropout": lambda b: F.dropout(b, 0.5, False),
    "contiguous": aten.contiguous,
    "movedim": lambda b: b.movedim(2, 3),
    "narrow": lambda b: aten.narrow(b, 3, 1, 4),
    "reshape": lambda b: b.reshape(b.shape[0], b.shape[1], -1, 1),
    "pad": lambda b: F.pad(b, (1, 1)),
    "adaptive_avg_pool2d": lambda b: F.adaptive_avg_pool2d(b, 2),
    "instance_norm": F.instance_norm,
    "take_along_dim": lambda b: torch.take_along_dim(b, picked(b), 3),
    "matmul": lambda b: gate(b, torch.matmul(space(b).transpose(1, 2), space(b))),
    "chunk": lambda b: b.chunk(2, 1)[1] + b.chunk(2, 1)[0].relu(),
    "tensor_split": lambda b: torch.tensor_split(b, 2, 1)[1],
    "unsafe_chunk": lambda b: aten.unsafe_chunk(b, 2, 1)[1],
}
TOGETHER: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "add": torch.add,
    "sub": torch.sub,
    "rsub": torch.rsub,
    "mul": torch.mul,
    "div": lambda a, b: a / positive(b),
    "maximum": torch.maximum,
    "minimum": torch.minimum,
    "pow": lambda a, b: positive(a).pow(b),
    "atan2": torch.atan2,
    "where": lambda a, b: torch.where(torch.ones((), dtype=torch.bool, device=a.device), a, b),
    "lerp": lambda a, b: a.lerp(b, 0.25),
    "addcmul": lambda a, b: torch.addcmul(a, b, b),
    "copy": lambda a, b: a.clone().copy_(b) + a,
    "stack": lambda a, b: torch.stack((a, b)).sum(0),
    "is_same_size": lambda a, b: a + b if torch.is_same_size(a, b) else a,
}
TOGETHER |= {
    name: comparing(getattr(torch, name))
    for name in ("eq", "ne", "lt", "le", "gt", "ge", "logical_and", "logical_or", "logical_xor", "fmin", "fmax", "hypot", "copysign",
                 "logaddexp", "heaviside")
} | {
    name: combining(getattr(torch, name))
    for name in ("bitwise_and", "bitwise_or", "bitwise_xor")
} | {
    "complex": lambda a, b: torch.complex(a, b).abs(),
    "polar": lambda a, b: torch.polar(positive(a), b).abs() * torch.polar(positive(a), b).angle(),
    "xlogy": lambda a, b: torch.xlogy(a, positive(b)),
    "remainder": lambda a, b: torch.remainder(a, positive(b)),
    "fmod": lambda a, b: torch.fmod(a, positive(b)),
    "floor_divide": lambda a, b: torch.floor_divide(8 * a, positive(b)),
    "masked_fill": lambda a, b: a.masked_fill(b > 0, -1.0),
    "index_put": lambda a, b: aten.index_put(a, [b > 0], a.new_tensor(-1.0)),
    "max_unpool2d": lambda a, b: F.max_unpool2d(*F.max_pool2d(a * b, 2, return_indices=True), 2),
    "max_unpool3d": lambda a, b: F.max_unpool3d(
        *F.max_pool3d((a * b).unsqueeze(2), (1, 2, 2), return_indices=True), (1, 2, 2)
    ).squeeze(2),
    "index_add": lambda a, b: torch.index_add(a, 3, torch.tensor([1, 0], device=a.device), b[..., :2]),
    "scatter_add": lambda a, b: torch.scatter_add(a, 3, picked(b), b),
    "index_copy": lambda a, b: torch.index_copy(a, 3, torch.tensor([1, 0], device=a.device), b[..., :2]),
}  # fmt: skip
"""Comparisons, masks and the like of two feature maps."""
SPACE: dict[str, Callable[[Tensor], Tensor]] = {
    "_fft_r2c": lambda b: torch.fft.rfft2(b).abs(),
    "_fft_c2c": lambda b: torch.fft.fft(torch.fft.fft(b, dim=3), dim=2).abs(),
    "_fft_c2r": lambda b: torch.fft.irfft2(torch.fft.rfft2(b) * 0.5, s=b.shape[2:]),
    "tril": torch.tril,
    "triu": torch.triu,
    "view_as_real": lambda b: torch.view_as_real(torch.fft.rfft2(b))[..., 0],
    "view_as_complex": lambda b: torch.view_as_complex(torch.stack((b, b * 2), -1)).abs(),
    "angle": lambda b: torch.fft.rfft2(b).angle().cos(),
    "_conj": lambda b: (torch.fft.rfft2(b) * torch.fft.rfft2(b * b).conj()).abs(),
    "_conj_physical": lambda b: torch.conj_physical(torch.fft.rfft2(b)).abs(),
    "roi_align": lambda b: torchvision.ops.roi_align(b, b.new_tensor([[0, 0, 0, 4, 4.0]]).repeat(b.shape[0], 1), 3),
    "cumprod": lambda b: b.cumprod(3),
    "logcumsumexp": lambda b: b.logcumsumexp(3),
    "logsumexp": lambda b: b.logsumexp((2, 3), keepdim=True),
    "median": lambda b: b - b.median(3, keepdim=True)[0],
    "nanmedian": lambda b: b - b.nanmedian(3)[0][..., None],
    "nansum": lambda b: b.nansum((2, 3), keepdim=True),
    "aminmax": lambda b: b - torch.aminmax(b, dim=3, keepdim=True)[0],
    "upsample_linear1d": lambda b: F.interpolate(space(b), scale_factor=2, mode="linear")[..., None],
    "upsample_trilinear3d": lambda b: F.interpolate(b.unsqueeze(2), scale_factor=(1, 2, 2), mode="trilinear").squeeze(2),
    "_upsample_nearest_exact1d": lambda b: F.interpolate(space(b), scale_factor=2, mode="nearest-exact")[..., None],
    "_upsample_nearest_exact2d": lambda b: F.interpolate(b, scale_factor=2, mode="nearest-exact"),
    "_upsample_bilinear2d_aa": lambda b: F.interpolate(b, size=6, mode="bilinear", antialias=True),
    "_upsample_bicubic2d_aa": lambda b: F.interpolate(b, size=6, mode="bicubic", antialias=True),
    "grid_sampler_3d": lambda b: F.grid_sample(b.unsqueeze(2), b.new_zeros((b.shape[0], 1, 4, 4, 3)), align_corners=False).squeeze(2),
    "_adaptive_avg_pool3d": lambda b: F.adaptive_avg_pool3d(b.unsqueeze(2), (1, 2, 2)).squeeze(2),
    "adaptive_max_pool3d": lambda b: F.adaptive_max_pool3d(b.unsqueeze(2), (1, 2, 2)).squeeze(2),
    "reflection_pad1d": lambda b: F.pad(space(b), (1, 1), "reflect")[..., None],
    "replication_pad1d": lambda b: F.pad(space(b), (1, 1), "replicate")[..., None],
    "reflection_pad3d": lambda b: F.pad(b.unsqueeze(2).expand(-1, -1, 3, -1, -1), (1, 1, 1, 1, 0, 0), "reflect").mean(2),
    "replication_pad3d": lambda b: F.pad(b.unsqueeze(2), (1, 1, 1, 1, 0, 0), "replicate").squeeze(2),
    "argmax": lambda b: b * b.argmax(3, keepdim=True),
    "argmin": lambda b: b * b.argmin(3, keepdim=True),
    "any": lambda b: b * torch.any(b, 3, keepdim=True),
    "all": lambda b: b * torch.all(b, 3, keepdim=True),
    "_softmax": lambda b: b.softmax(3),
    "_safe_softmax": lambda b: aten._safe_softmax(b, 3),
    "_log_softmax": lambda b: b.log_softmax(3),
    "cumsum": lambda b: b.cumsum(3),
    "topk": lambda b: b.topk(2, 3)[0],
    "sort": lambda b: b.sort(3)[0],
    "mean": lambda b: b.mean((2, 3), keepdim=True),
    "sum": lambda b: b.sum((2, 3), keepdim=True),
    "amax": lambda b: b.amax(3, keepdim=True),
    "amin": lambda b: b.amin(3)[..., None],
    "max": lambda b: b.max(3)[0][..., None],
    "min": lambda b: b.min(3, keepdim=True)[0],
    "var": lambda b: b.var((2, 3), keepdim=True),
    "std": lambda b: b.std((2, 3), keepdim=True),
    "prod": lambda b: b.prod(3, keepdim=True),
    "linalg_vector_norm": lambda b: torch.linalg.vector_norm(b, dim=(2, 3), keepdim=True),
    "norm": lambda b: aten.norm(b, 2, [2, 3], True),
    "var_mean": lambda b: torch.var_mean(b, (2, 3), keepdim=True)[1],
    "std_mean": lambda b: torch.std_mean(b, (2, 3))[0][..., None, None],
    "max_pool2d_with_indices": lambda b: F.max_pool2d(b, 3, 1, 1),
    "avg_pool2d": lambda b: F.avg_pool2d(b, 2),
    "max_pool3d_with_indices": lambda b: F.max_pool3d(b.unsqueeze(2), (1, 2, 2)).squeeze(2),
    "avg_pool3d": lambda b: F.avg_pool3d(b.unsqueeze(2), (1, 2, 2)).squeeze(2),
    "_adaptive_avg_pool2d": lambda b: F.adaptive_avg_pool2d(b, 2),
    "adaptive_max_pool2d": lambda b: F.adaptive_max_pool2d(b, 2),
    "upsample_nearest1d": lambda b: F.interpolate(space(b), scale_factor=2)[..., None],
    "upsample_nearest2d": lambda b: F.interpolate(b, scale_factor=2),
    "upsample_bilinear2d": lambda b: F.interpolate(b, scale_factor=2, mode="bilinear"),
    "upsample_bicubic2d": lambda b: F.interpolate(b, scale_factor=2, mode="bicubic"),
    "upsample_nearest3d": lambda b: F.interpolate(b.unsqueeze(2), scale_factor=(1, 2, 2)).squeeze(2),
    "grid_sampler_2d": lambda b: F.grid_sample(b, b.new_zeros((b.shape[0], 4, 4, 2)), align_corners=False),
    "constant_pad_nd": lambda b: F.pad(b, (1, 2)),
    "reflection_pad2d": lambda b: F.pad(b, (1, 1, 1, 1), "reflect"),
    "replication_pad2d": lambda b: F.pad(b, (1, 1, 1, 1), "replicate"),
}
MOVED: dict[str, Callable[[Tensor], Tensor]] = {
    "transpose": lambda b: b.transpose(2, 3),
    "permute": lambda b: b.permute(0, 1, 3, 2),
    "expand": lambda b: b[:, :, :1].expand_as(b),
    "unsqueeze": lambda b: b.unsqueeze(1).mean(1),
    "squeeze": lambda b: b[..., :1].squeeze(3).unsqueeze(3),
    "flip": lambda b: b.flip(1),
    "rot90": lambda b: b.rot90(2, (2, 3)),
    "slice": lambda b: b[..., 1:3],
    "select": lambda b: b.select(3, 1)[..., None],
    "unbind": lambda b: b.unbind(3)[1][..., None],
    "unfold": lambda b: b.unfold(3, 2, 2).amax(4),
    "roll": lambda b: b.roll(1, 3),
    "index": lambda b: b[:, :, [0, 2]],
    "_unsafe_index": lambda b: aten._unsafe_index(
        b, [None, None, torch.tensor([[2], [0]], device=b.device), torch.tensor([[0, 1]], device=b.device)]
    ),
    "gather": lambda b: b.gather(3, picked(b)),
    "index_select": lambda b: b.index_select(3, torch.tensor([2, 0], device=b.device)),
    "view": lambda b: b.view(b.shape[0], b.shape[1], -1, 1),
    "_unsafe_view": lambda b: aten._unsafe_view(b, [b.shape[0], b.shape[1], -1, 1]),
    "_reshape_alias": lambda b: aten._reshape_alias(b, b.shape, b.stride()),
    "cat": lambda b: torch.cat((b, b), 3),
    "new_full": lambda b: b + b.new_full((1,), 2.0),
    "new_zeros": lambda b: b + b.new_zeros(()),
    "new_ones": lambda b: b * b.new_ones(1),
    "new_empty": lambda b: b * (1 + b.new_empty(0).numel()),
    "new_empty_strided": lambda b: b * (1 + b.new_empty_strided((0,), (1,)).numel()),
}

EXAMPLES: dict[str, Example] = {
    "rand_like": one(lambda b: b * torch.rand_like(b), held="random numbers are drawn"),
    "randn_like": one(lambda b: b + torch.randn_like(b), held="random numbers are drawn"),
    "randint_like": one(lambda b: b * torch.randint_like(b, 3), held="random numbers are drawn"),
    "bernoulli": one(lambda b: F.dropout(b, 0.5, training=True), held="random numbers are drawn"),
    "normal": one(lambda b: b + torch.zeros_like(b).normal_(), held="random numbers are drawn"),
    "uniform": one(lambda b: b + torch.zeros_like(b).uniform_(), held="random numbers are drawn"),
    "exponential": one(lambda b: b + torch.zeros_like(b).exponential_(), held="random numbers are drawn"),
    **{name: one(function) for table in (BY_ITSELF, SPACE, MOVED) for name, function in table.items()},
    **{name: whole(function) for name, function in WHOLE.items()},
    **{name: two(function) for name, function in TOGETHER.items()},
    "tensor_split": whole(WHOLE["tensor_split"], last=4),
    "unsafe_chunk": whole(WHOLE["unsafe_chunk"], last=4),
    "chunk": whole(WHOLE["chunk"], last=4, tied=2),
    "split": one(lambda b: b.split(b.shape[1] // 2, 1)[1], last=4),
    "unsafe_split": one(lambda b: aten.unsafe_split(b, b.shape[1] // 2, 1)[1], last=4),
    "as_strided": one(lambda b: b.mean((2, 3), keepdim=True).as_strided_((*b.shape[:2], 1, 1), (b.shape[1], 1, 1, 1)) + 0 * b),
    "split_with_sizes": one(lambda b: b.split([3, 5], 1)[1], last=5, held="is split into fixed widths [3, 5]"),
    "repeat": one(lambda b: b.repeat(1, 2, 1, 1), last=16),
    "glu": one(lambda b: F.glu(b, 1), wide=16, tied=2),
    "pixel_shuffle": one(lambda b: F.pixel_shuffle(b, 2), last=2, tied=4),
    "pixel_unshuffle": one(lambda b: F.pixel_unshuffle(b, 2), last=32),
    "channel_shuffle": one(lambda b: F.channel_shuffle(b, 2), tied=2),
    "native_channel_shuffle": whole(lambda b: aten.native_channel_shuffle(b, 2), tied=2),
    "bmm": one(lambda b: gate(b, torch.bmm(space(b).transpose(1, 2), space(b)))),
    "im2col": one(lambda b: F.unfold(b, 2, stride=2)[..., None], last=32),
    "col2im": one(lambda b: F.fold(F.unfold(b, 2), b.shape[2:], 2)),
    "_euclidean_dist": one(lambda b: gate(b, torch.cdist(places(b), places(b.relu())))),
    "_cdist_forward": one(lambda b: gate(b, torch.cdist(places(b), places(b.relu()), p=1.0))),
    "baddbmm": one(lambda b: gate(b, torch.baddbmm(b.new_zeros(()), space(b).transpose(1, 2), space(b)))),
    "convolution": using(lambda m, a, b: m.layer(b), layer=lambda: nn.Conv2d(8, 8, 3)),
    "addmm": using(lambda m, a, b: m.layer(b.mean((2, 3)))[..., None, None], layer=lambda: nn.Linear(8, 8)),
    "mm": using(lambda m, a, b: m.layer(b.mean((2, 3)))[..., None, None], layer=lambda: nn.Linear(8, 8, bias=False)),
    "t": using(lambda m, a, b: m.layer(b.movedim(1, 3)).movedim(3, 1), layer=lambda: nn.Linear(8, 8, bias=False)),
    "_prelu_kernel": using(lambda m, a, b: m.layer(b), layer=lambda: nn.PReLU(8)),
    "embedding": using(lambda m, a, b: b + m.layer(torch.tensor([2], device=b.device))[..., None, None], layer=lambda: nn.Embedding(4, 8)),
    "native_batch_norm": using(lambda m, a, b: m.layer(b), layer=norm),
    "linear": Example(lambda m, a, b: m.layer(b.movedim(1, 3)).movedim(3, 1), whole=True, modules={"layer": lambda: nn.Linear(8, 8)}),
    "batch_norm": Example(lambda m, a, b: m.layer(b), whole=True, modules={"layer": norm}),
    "_convolution": Example(
        lambda m, a, b: aten._convolution(
            b, m.layer.weight, m.layer.bias, [1, 1], [0, 0], [1, 1], False, [0, 0], 1, False, False, True, True
        ),
        whole=True,
        modules={"layer": lambda: nn.Conv2d(8, 8, 3)},
    ),
    "_native_batch_norm_legit_no_training": using(
        lambda m, a, b: aten._native_batch_norm_legit_no_training(
            b, m.layer.weight, m.layer.bias, m.layer.running_mean, m.layer.running_var, 0.1, 1e-3
        )[0],
        layer=norm,
    ),
    "native_layer_norm": one(lambda b: F.layer_norm(b, b.shape[3:])),
    "argmax": one(lambda b: b * b.argmax(3, keepdim=True)),
    "argmin": one(lambda b: b * b.argmin(3, keepdim=True)),
    "any": one(lambda b: b * torch.any(b, 3, keepdim=True)),
    "all": one(lambda b: b * torch.all(b, 3, keepdim=True)),
    "native_group_norm": one(lambda b: F.group_norm(b, 2), held="group_norm normalises across channels"),
}
LOCKED: dict[str, Example] = {
    "memory in another order": one(lambda b: b.as_strided(b.shape, b.stride()), held="as_strided reads memory by its place"),
    "all": one(lambda b: b * torch.any(b, 3).all(), held="mixes channels"),
    "_softmax": one(lambda b: b.softmax(1), held="softmax mixes channels"),
    "cumsum": one(lambda b: b.cumsum(1), held="cumsum mixes channels"),
    "_fft_r2c": one(lambda b: torch.fft.rfft(b, dim=1).abs(), last=5, held="fft_r2c mixes channels"),
    "tril": one(lambda b: b.movedim(1, 3).tril().movedim(3, 1), held="tril mixes channels"),
    "logsumexp": one(lambda b: b * b.logsumexp(1, keepdim=True), held="logsumexp mixes channels"),
    "median": one(lambda b: b * b.median(1, keepdim=True)[0], held="median mixes channels"),
    "gt": one(lambda b: b * (b > torch.arange(8.0, device=b.device).view(8, 1, 1)), held="gt with a constant of fixed extent"),
    "index_put": one(lambda b: aten.index_put(b, [None, torch.tensor([2], device=b.device)], b[:, :1]), held="by their place"),
    "_euclidean_dist": one(
        lambda b: gate(b, torch.cdist(places(b).mT, places(b).mT).tile(1, 4, 4)), held="is compared with other channels"
    ),
    "index_add": one(lambda b: torch.index_add(b, 1, torch.tensor([1, 0], device=b.device), b[:, :2]), held="by their place"),
    "topk": one(lambda b: b.topk(8, 1)[0], held="topk orders channels"),
    "sort": one(lambda b: b.sort(1)[0], held="sort orders channels"),
    "sum": one(lambda b: b + b.sum(1, keepdim=True), held="sum mixes channels"),
    "max": one(lambda b: b + b.max(), held="max mixes channels"),
    "linalg_vector_norm": one(lambda b: b + torch.linalg.vector_norm(b, dim=(1,), keepdim=True), held="vector_norm mixes channels"),
    "norm": one(lambda b: b + aten.norm(b, 2), held="norm mixes channels"),
    "var_mean": one(lambda b: b + torch.var_mean(b, 1, keepdim=True)[0], held="var_mean mixes channels"),
    "argmax": one(lambda b: b + b.argmax(1, keepdim=True), held="argmax mixes channels"),
    "any": one(lambda b: b * torch.any(b, 3).all(), held="mixes channels"),
    "split": one(lambda b: b.split(4, 1)[1], last=4, held="the forward names"),
    "max_pool3d_with_indices": one(lambda b: F.max_pool3d(b, 3, 1, 1), held="mixes channels"),
    "native_layer_norm": one(lambda b: F.layer_norm(b.movedim(1, 3), (8,)).movedim(3, 1), held="layer_norm normalises across channels"),
    "view": one(lambda b: b.view(b.shape[0], 8, -1, 1), held="the forward names"),
    "add": one(lambda b: b + torch.arange(8.0, device=b.device).view(8, 1, 1), held="add with a constant of fixed extent"),
    "roll": one(lambda b: b.roll(1, 1), held="roll"),
    "index_select": one(lambda b: b.index_select(1, torch.arange(8, device=b.device)), held="index_select"),
    "bmm": one(lambda b: gate(b, torch.bmm(space(b), space(b).transpose(1, 2))), held="outer product"),
    "convolution": one(
        lambda b: F.conv2d(b, b.mean((0, 2, 3), keepdim=True).expand(8, 8, 1, 1)), held="convolved with a weight that is computed"
    ),
}
"""Ways in which an operation holds channels, and how it says so."""


def scores(b: Tensor) -> Tensor:
    """How much each of 16 places looks at each other one."""
    return torch.bmm(space(b).transpose(1, 2), space(b)).softmax(2)


def halves(b: Tensor) -> Tensor:
    """Each half of the channels as an image of its own."""
    return b.reshape(2 * b.shape[0], b.shape[1] // 2, *b.shape[2:])


def unfolded(images: Tensor, b: Tensor) -> Tensor:
    """The halves side by side again."""
    return images.reshape(b.shape[0], 2 * images.shape[1], *images.shape[2:])


def convolved(last: int = 8, **layer) -> Example:
    """An example with a convolution of its own."""
    return Example(lambda m, a, b: m.layer(b), last=last, modules={"layer": lambda: nn.Conv2d(8, last, 3, **layer)})


def enlarged(last: int = 8, **layer) -> Example:
    """An example with a transposed convolution of its own."""
    return Example(lambda m, a, b: m.layer(b), last=last, modules={"layer": lambda: nn.ConvTranspose2d(8, last, 2, 2, **layer)})


MORE: dict[str, Example] = {
    "addmm onto a map": Example(
        lambda m, a, b: torch.addmm(b.mean((2, 3)), a.mean((2, 3)), m.layer.weight.t())[..., None, None],
        modules={"layer": lambda: nn.Linear(8, 8, bias=False)},
    ),
    "baddbmm onto a map": two(lambda a, b: torch.baddbmm(space(b), space(a), scores(a))[..., None]),
    "permute of a weight": Example(
        lambda m, a, b: F.conv2d(b, m.layer.weight.permute(1, 0, 2, 3)), modules={"layer": lambda: nn.Conv2d(8, 8, 1, bias=False)}
    ),
    "transpose of a weight": Example(
        lambda m, a, b: F.linear(b.mean((2, 3)), m.layer.weight.transpose(0, 1))[..., None, None],
        modules={"layer": lambda: nn.Linear(8, 8, bias=False)},
    ),
    "detach of a weight": Example(
        lambda m, a, b: F.conv2d(b, m.layer.weight.detach(), m.layer.bias), modules={"layer": lambda: nn.Conv2d(8, 8, 3)}
    ),
    "convolution of halves as images": Example(
        lambda m, a, b: unfolded(m.layer(halves(b)), b), tied=2, modules={"layer": lambda: nn.Conv2d(4, 4, 3, padding=1)}
    ),
    "bmm of two maps": two(lambda a, b: gate(b, torch.bmm(space(a).transpose(1, 2), space(b)))),
    "baddbmm of two maps": two(lambda a, b: gate(b, torch.baddbmm(b.new_zeros(()), space(a).transpose(1, 2), space(b)))),
    "convolution depthwise": convolved(groups=8),
    "convolution depthwise with two outputs for each channel": convolved(last=16, groups=8),
    "convolution in two groups": replace(convolved(groups=2), tied=2),
    "convolution in four groups of more outputs than inputs": replace(convolved(last=16, groups=4, bias=False), tied=4),
    "convolution transposed": enlarged(last=4),
    "convolution transposed, depthwise": enlarged(groups=8),
    "convolution transposed, two outputs for each channel": enlarged(last=16, groups=8),
    "convolution transposed in two groups": enlarged(last=4, groups=2),
    "bmm of channels and places": one(lambda b: torch.bmm(space(b), scores(b))[..., None]),
    "bmm of places and channels": one(lambda b: torch.bmm(scores(b), space(b).transpose(1, 2)).transpose(1, 2)[..., None]),
    "baddbmm of channels and places": one(lambda b: torch.baddbmm(b.new_zeros(()), space(b), scores(b))[..., None]),
    "linear with weights of two dimensions": Example(
        lambda m, a, b: m.layer(b.mean((2, 3)))[..., None, None], whole=True, modules={"layer": lambda: nn.Linear(8, 8)}
    ),
    "mul with a scale of one": one(lambda b: b * torch.full((1, 1, 1), 0.5, device=b.device)),
    "mul with a map of one channel": one(lambda b: b * torch.ones(b.shape[2:], device=b.device)),
    "cat over channels": two(lambda a, b: torch.cat((b, a), 1), last=16),
    "cat over places": two(lambda a, b: torch.cat((b, a), 2)),
    "cat over places that no one reads": two(lambda a, b: b + torch.cat((a, b), 2).new_zeros(())),
    "constant_pad_nd across channels": one(lambda b: F.pad(b, (0, 0, 0, 0, 2, 1)), last=11),
    "mean over everything but channels": one(lambda b: b.mean((0, 2, 3))[None, :, None, None]),
    "sum over a stack": two(lambda a, b: torch.stack((a, b), 2).sum(2)),
    "view into halves and back": one(lambda b: b.view(b.shape[0], 2, b.shape[1] // 2, *b.shape[2:]).flip(1).flatten(1, 2)),
    "view of rows along places, inside out": one(
        lambda b: b.unflatten(1, (2, -1)).transpose(1, 2).flatten(3).unflatten(3, b.shape[2:]).transpose(1, 2).flatten(1, 2)
    ),
    "view of quarters as halves, dealt out": one(lambda b: b.unflatten(1, (2, 2, -1)).flatten(2, 3).transpose(1, 2).flatten(1, 2), tied=2),
    "view of one map twice": one(lambda b: b.repeat(1, 2, 1, 1).unflatten(1, (2, -1)).amax(1)),
    "transpose of halves": one(lambda b: b.view(b.shape[0], 2, b.shape[1] // 2, *b.shape[2:]).transpose(1, 2).flatten(1, 2), tied=2),
    "chunk into four": Example(lambda m, a, b: torch.cat(b.chunk(4, 1)[1:], 1), last=6, whole=True),
    "split into halves of places": one(lambda b: b.split(b.shape[2] // 2, 2)[1]),
    "glu over halves that another map reads too": two(lambda a, b: F.glu(b, 1) + a, wide=16, tied=2),
    "repeat in a new place": one(lambda b: b.repeat(1, 1, 2, 1)),
    "embedding in a table that is computed": one(
        lambda b: F.embedding(torch.tensor([0], device=b.device), b.mean((2, 3)))[..., None, None]
    ),
    "cat with an empty vector": one(lambda b: torch.cat((b.new_zeros(0), b), 1)),
    "gather by the order of another map": two(lambda a, b: a.gather(3, b.topk(2, 3)[1])),
    "take_along_dim by the order of another map": Example(
        lambda m, a, b: torch.take_along_dim(a, b.sort(3, descending=True)[1][..., :2], 3), whole=True
    ),
    "bmm of each channel by itself": two(
        lambda a, b: torch.bmm(a.flatten(2).flatten(0, 1)[:, None], b.flatten(2).flatten(0, 1)[:, :, None]).view(*b.shape[:2], 1, 1)
    ),
    "t of a vector": using(lambda m, a, b: b * m.layer.bias.t()[:, None, None], layer=lambda: nn.Linear(8, 8)),
    "transpose of a kernel's sides": using(
        lambda m, a, b: F.conv2d(b, m.layer.weight.transpose(2, 3)), layer=lambda: nn.Conv2d(8, 8, (3, 1), bias=False)
    ),
    "mul with a scale over the last dimension": using(
        lambda m, a, b: (b.movedim(1, 3) * m.layer.bias).movedim(3, 1), layer=lambda: nn.Linear(8, 8)
    ),
    "slice of everything": one(lambda b: b.narrow(1, 0, b.shape[1])),
    "native_batch_norm without a scale": using(lambda m, a, b: m.layer(b), layer=lambda: nn.BatchNorm2d(8, affine=False)),
    "native_batch_norm without statistics": using(lambda m, a, b: m.layer(b), layer=lambda: nn.BatchNorm2d(8, track_running_stats=False)),
    "convolution with a bias that is computed": using(
        lambda m, a, b: F.conv2d(b, m.layer.weight, a.mean((0, 2, 3))), layer=lambda: nn.Conv2d(8, 8, 1, bias=False)
    ),
    "copy into zeros, a row further on": one(lambda b: shifted(b)),
    "copy of one number": one(lambda b: filled(b)),
    "copy of each place": one(lambda b: written(b)),
    "maximum with zeros": one(lambda b: torch.maximum(b, b.new_zeros(b.shape))),
    "cat with zeros": one(lambda b: torch.cat((b, b.new_zeros(b.shape)), 1).view(len(b), 2, -1, *b.shape[2:]).sum(1)),
    "bmm of heads with one for all": one(
        lambda b: gate(b, torch.bmm(space(b).view(len(b), 2, -1, 16).transpose(2, 3).flatten(1, 2), space(b)[:, : b.shape[1] // 2])), tied=2
    ),
    "bmm with a constant of places": one(
        lambda b: torch.bmm(torch.ones(len(b), 16, 16, device=b.device, dtype=b.dtype).triu(), space(b).transpose(1, 2)).mT.unflatten(
            2, (4, 4)
        )
    ),
    "expand over a batch": one(lambda b: b.mean(0, keepdim=True).expand_as(b)),
}
"""More ways in which the operations above carry channels; the first word is the operation."""
MORE_LOCKED: dict[str, Example] = {
    "view of halves as quarters": one(
        lambda b: b.view(b.shape[0], 2, b.shape[1] // 2, *b.shape[2:]).view(b.shape[0], 4, b.shape[1] // 4, *b.shape[2:]).flatten(1, 2),
        held="is folded from [2, 4] to [4, 2] channels",
    ),
    "permute of quarters, inside out": one(
        lambda b: b.view(b.shape[0], 2, 2, b.shape[1] // 4, *b.shape[2:]).permute(0, 3, 2, 1, 4, 5).flatten(1, 3), held="is folded across"
    ),
    "addmm with a weight that is computed": one(
        lambda b: torch.addmm(b.new_zeros(8), b.mean((2, 3)), b.new_ones((8, 8)))[..., None, None],
        held="summed against values that are no channels",
    ),
    "convolution depthwise of halves as images": Example(
        lambda m, a, b: unfolded(m.layer(halves(b)), b),
        held="convolved with other channels at the same place",
        modules={"layer": lambda: nn.Conv2d(4, 4, 3, padding=1, groups=4)},
    ),
    "bmm with a constant": one(
        lambda b: gate(b, torch.bmm(space(b).transpose(1, 2), torch.ones(b.shape[0], 8, 3, device=b.device))),
        held="summed against values that are no channels",
    ),
    "mm with a weight that is computed": one(
        lambda b: F.linear(b.movedim(1, 3), torch.ones(8, 8, device=b.device)).movedim(3, 1),
        held="summed against values that are no channels",
    ),
    "sub from a constant of eight": one(lambda b: torch.ones(8, 1, 1, device=b.device) - b, held="this width: it takes [8] where [7]"),
    "min over everything": one(lambda b: b - b.min(), held="min mixes channels"),
    "avg_pool2d of a transposed map": one(
        lambda b: F.avg_pool2d(b.transpose(1, 2), 3, 1, 1).transpose(1, 2), held="avg_pool2d mixes channels"
    ),
    "native_batch_norm across places": Example(
        lambda m, a, b: m.layer(b[:, :, :8, :8].transpose(1, 2)).transpose(1, 2), held="normalised", modules={"layer": norm}
    ),
    "native_group_norm in one group": one(lambda b: F.group_norm(b, 1), held="group_norm normalises across channels"),
    "copy over a constant": one(
        lambda b: torch.arange(8.0, device=b.device).view(8, 1, 1).repeat(len(b), 1, *b.shape[2:]).copy_(b),
        held="is written over a constant",
    ),
    "copy into eight zeros": one(
        lambda b: torch.zeros(len(b), 8, *b.shape[2:], device=b.device).copy_(b), held="it takes [8] where [7] are left"
    ),
    "bmm of what no channel's absence makes zero": one(
        lambda b: gate(b, torch.bmm(space(b).exp().transpose(1, 2), space(b).cos())), held="neither factor is zero without a channel"
    ),
    "bmm of what is written over ones": one(
        lambda b: gate(b, torch.bmm(written(b).flatten(2).transpose(1, 2), written(b).flatten(2))), held="neither factor is zero"
    ),
    "lt beside a number": one(lambda b: gate(b, torch.bmm((space(b) < 1).to(b.dtype).mT, space(b).cos())), held="neither factor is zero"),
    "gt beside a number": one(lambda b: gate(b, torch.bmm((space(b) > -1).to(b.dtype).mT, space(b).cos())), held="neither factor is zero"),
    "ne beside a number": one(lambda b: gate(b, torch.bmm((space(b) != 1).to(b.dtype).mT, space(b).cos())), held="neither factor is zero"),
    "pow of zero": one(lambda b: gate(b, torch.bmm((space(b) ** 0).mT, space(b).cos())), held="neither factor is zero"),
    "atan2 of a negative number": one(
        lambda b: gate(b, torch.bmm(torch.atan2(space(b), -space(b).exp()).mT, space(b).cos())), held="neither factor is zero"
    ),
    "native_layer_norm over places, with a bias": using_locked(
        lambda m, a, b: gate(b, torch.bmm(m.layer(space(b)).mT, space(b).cos())), "neither factor is zero", layer=lambda: nn.LayerNorm(16)
    ),
    "new_ones that a layer reads": using_locked(
        lambda m, a, b: beside(b, m.layer, b.new_ones(len(b), b.shape[1])), "neither factor is zero", layer=lambda: nn.Linear(8, 8)
    ),
    "new_full that a layer reads": using_locked(
        lambda m, a, b: beside(b, m.layer, b.new_full((len(b), b.shape[1]), 0.5)), "neither factor is zero", layer=lambda: nn.Linear(8, 8)
    ),
    "baddbmm onto a constant of eight": one(
        lambda b: torch.baddbmm(torch.ones(1, 8, 16, device=b.device, dtype=b.dtype), space(b), scores(b))[..., None],
        held="this width: it takes [8] where [7]",
    ),
    "bmm of each channel with a constant": one(
        lambda b: torch.bmm(space(b)[0][:, None], torch.ones(8, 16, 1, device=b.device, dtype=b.dtype)).view(1, -1, 1, 1),
        held="is multiplied with values that are no channels",
    ),
    "native_batch_norm with constant statistics": one(
        lambda b: F.batch_norm(b, torch.zeros(8, device=b.device), torch.ones(8, device=b.device)), held="is not a channel"
    ),
    "native_layer_norm as a layer": using_locked(
        lambda m, a, b: m.layer(b.movedim(1, 3)).movedim(3, 1), "layer_norm normalises across channels", layer=lambda: nn.LayerNorm(8)
    ),
    "addmm over places": using_locked(
        lambda m, a, b: m.layer(F.adaptive_avg_pool2d(b, 8)), "along another dimension", layer=lambda: nn.Linear(8, 8)
    ),
    "convolution over places": using_locked(
        lambda m, a, b: m.layer(F.adaptive_avg_pool2d(b, 4).transpose(1, 2)).transpose(1, 2),
        "along another dimension",
        layer=lambda: nn.Conv2d(4, 4, 1),
    ),
    "embedding by the order of channels": using_locked(
        lambda m, a, b: F.embedding(b.argmax(3), m.layer.weight), "is looked up in a table", layer=lambda: nn.Embedding(64, 4)
    ),
    "embedding in a table of one row for each channel": one(
        lambda b: b + F.embedding(torch.tensor([2], device=b.device), b.mean((2, 3)).t()).view(-1, 1, 1, 1), held="by its place"
    ),
    "stack beside a constant": one(
        lambda b: torch.stack((b, b.new_zeros(1, 8, 1, 1).expand(b.shape)), 2).amax(2),
        held="amax joins it with values that are no channels",
    ),
    "index_select by values of another map": two(
        lambda a, b: a.index_select(3, b.argmax(3).amax(2).flatten()), held="picks by values of channels"
    ),
    "select of one channel": one(lambda b: b + b.select(1, 3)[:, None], held="by their place"),
    "slice of the first channels": one(lambda b: b[:, :4], last=4, held="by their place"),
    "unfold over channels": one(lambda b: b.unfold(1, 2, 1).amax(4), last=7, held="by their place"),
    "gather over channels": one(lambda b: b.gather(1, torch.zeros_like(b, dtype=torch.int64)), held="by their place"),
    "constant_pad_nd with a reflection of channels": one(
        lambda b: F.pad(b.transpose(1, 3), (1, 1)).transpose(1, 3)[:, 1:9], held="by their place"
    ),
}
