"""Operations on the meta device: fast shape rules for the most common ones, and which parameters an output depends on."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from tui_pruner.core.model.copies import modules_of, named_tensors
from tui_pruner.core.model.inputs import by_parts
from tui_pruner.core.model.predictions import storage_of

Arguments = tuple[Any, ...]


def empty(shape: Sequence[int], like: Tensor) -> Tensor:
    """A meta tensor of this shape with the dtype of another one."""
    return torch.empty(tuple(shape), dtype=like.dtype, device="meta")


def convolution_shape(args: Arguments) -> list[int]:
    """The output shape of `aten.convolution`, any number of spatial dimensions, transposed or not."""
    image, weight, _, stride, padding, dilation, transposed, output_padding, groups = args[:9]
    sides = list(image.shape[2:])
    out = weight.shape[1] * groups if transposed else weight.shape[0]
    for d, side in enumerate(sides):
        kernel, step, pad, hole = weight.shape[2 + d], pick(stride, d), pick(padding, d), pick(dilation, d)
        if transposed:
            sides[d] = (side - 1) * step - 2 * pad + hole * (kernel - 1) + pick(output_padding, d) + 1
        else:
            sides[d] = (side + 2 * pad - hole * (kernel - 1) - 1) // step + 1
    return [image.shape[0], out, *sides]


def pick(values: Sequence[int], dim: int) -> int:
    """The value for a dimension, where a single value may apply to all."""
    return values[dim] if len(values) > dim else values[0]


def _convolution(args: Arguments) -> Tensor:
    if args[0].shape[1] != args[1].shape[0 if args[6] else 1] * (1 if args[6] else args[8]):
        raise RuntimeError(f"a weight of shape {list(args[1].shape)} cannot read {args[0].shape[1]} channels")
    shape = convolution_shape(args)
    if min(shape[2:], default=1) < 1:
        raise RuntimeError(f"a feature map of {list(args[0].shape[2:])} is too small for a kernel of {list(args[1].shape[2:])}")
    return empty(shape, args[0])


def _batch_norm(args: Arguments) -> tuple[Tensor, Tensor, Tensor]:
    none = torch.empty(0, device="meta")
    return empty(args[0].shape, args[0]), none, none


def _same(args: Arguments) -> Tensor:
    return empty(args[0].shape, args[0])


def _itself(args: Arguments) -> Tensor:
    tensor: Tensor = args[0]
    return tensor


def _broadcast(args: Arguments) -> Tensor:
    left, right = args[:2]
    if not isinstance(right, Tensor):
        return empty(left.shape, left)
    if not isinstance(left, Tensor):
        return empty(right.shape, right)
    shape = np.broadcast_shapes(left.shape, right.shape)  # torch's own rule imports sympy
    return torch.empty(shape, dtype=torch.result_type(left, right), device="meta")


def _cat(args: Arguments) -> Tensor:
    tensors: Sequence[Tensor] = [tensor for tensor in args[0] if tensor.shape != (0,)] or args[0]  # length 0 fits any shape
    first = tensors[0]
    dim = args[1] % first.ndim if len(args) > 1 else 0
    for other in tensors[1:]:
        if [s for d, s in enumerate(other.shape) if d != dim] != [s for d, s in enumerate(first.shape) if d != dim]:
            raise RuntimeError(f"cannot join {list(other.shape)} with {list(first.shape)} along dimension {dim}")
    sides = [sum(t.shape[dim] for t in tensors) if d == dim else side for d, side in enumerate(first.shape)]
    return empty(sides, first)


def _stack(args: Arguments) -> Tensor:
    tensors: Sequence[Tensor] = args[0]
    sides = list(tensors[0].shape)
    sides.insert((args[1] if len(args) > 1 else 0) % (len(sides) + 1), len(tensors))
    return empty(sides, tensors[0])


def _max_pool(args: Arguments) -> tuple[Tensor, Tensor]:
    image, kernel = args[:2]
    stride = args[2] if len(args) > 2 and args[2] else kernel
    padding, dilation, ceil = list(args[3:6]) + [(0,), (1,), False][len(args[3:6]) :]
    sides = [
        pooled(side, pick(kernel, d), pick(stride, d), pick(padding, d), pick(dilation, d), bool(ceil))
        for d, side in enumerate(image.shape[-2:])
    ]
    if min(sides) < 1:
        raise RuntimeError(f"a feature map of {list(image.shape[-2:])} is too small for pooling by {list(kernel)}")
    shape = [*image.shape[:-2], *sides]
    return empty(shape, image), torch.empty(shape, dtype=torch.int64, device="meta")


def _average_pool(args: Arguments) -> Tensor:
    given = args[:5]
    image, kernel, stride, padding, ceil = given + ((), (0,), False)[len(given) - 2 :]
    return _max_pool((image, kernel, stride, padding, (1,), ceil))[0]


def pooled(side: int, kernel: int, stride: int, padding: int, dilation: int, ceil: bool) -> int:
    """The side of an image after pooling; where it is rounded up, no window may start in the padding."""
    reach = side + 2 * padding - dilation * (kernel - 1) - 1
    out = (reach + (stride - 1 if ceil else 0)) // stride + 1
    return out - 1 if ceil and (out - 1) * stride >= side + padding else out


def _upsample(args: Arguments) -> Tensor:
    image, size = args[:2]
    factors = next((a for a in args[2:] if isinstance(a, (list, tuple)) and len(a) == image.ndim - 2), None)
    sides = list(size) if size is not None else [int(side * factor) for side, factor in zip(image.shape[2:], factors or (), strict=True)]
    return empty([*image.shape[:2], *sides], image)


def _product(args: Arguments) -> Tensor:
    left, right = args[:2]
    if left.shape[-1] != right.shape[-2]:
        raise RuntimeError(f"cannot multiply {list(left.shape)} with {list(right.shape)}")
    return empty([*left.shape[:-1], right.shape[-1]], left)


def _layer_norm(args: Arguments) -> tuple[Tensor, Tensor, Tensor]:
    image, normalised = args[:2]
    if list(image.shape[-len(normalised) :]) != list(normalised):
        raise RuntimeError(f"a layer norm over {list(normalised)} cannot read {list(image.shape)}")
    statistics = [*image.shape[: image.ndim - len(normalised)], *(1 for _ in normalised)]
    return empty(image.shape, image), empty(statistics, image), empty(statistics, image)


def _mean(args: Arguments) -> Tensor:
    """The mean over some dimensions, which global average pooling becomes."""
    image, dims, keep = (*args, (), False)[: max(3, len(args))] if len(args) > 1 else (args[0], (), False)
    gone = {dim % image.ndim for dim in dims or range(image.ndim)}
    return empty([1 if d in gone else side for d, side in enumerate(image.shape) if keep or d not in gone], image)


def _grid_sample(args: Arguments) -> Tensor:
    image, grid = args[:2]
    return empty([*image.shape[:2], *grid.shape[1:3]], image)


def _comparison(args: Arguments) -> Tensor:
    return _broadcast(args).to(torch.bool)


def _weight_norm(args: Arguments) -> tuple[Tensor, Tensor]:
    return empty(args[0].shape, args[0]), empty(args[1].shape, args[1])


WORK = frozenset({"convolution", "addmm", "mm", "bmm", "baddbmm", "linear"})
"""Operations that count as work: convolutions, linear layers, matrix products."""
STEERING = {"out", "dtype", "device"}
"""Keywords that change an operation's result beyond what its shape rule covers."""
UNARY = ["silu", "relu", "sigmoid", "tanh", "hardtanh", "hardswish", "hardsigmoid", "gelu", "leaky_relu", "mish", "softplus", "exp", "neg"]
BINARY = ["add", "sub", "rsub", "mul", "div"]
COMPARISONS = ["eq", "ne", "lt", "le", "gt", "ge"]

EVALUATIONS: dict[str, Callable[[Arguments], Any]] = {
    "convolution": _convolution,
    "native_batch_norm": _batch_norm,
    "_native_batch_norm_legit_no_training": _batch_norm,
    "cudnn_batch_norm": _batch_norm,
    "_softmax": _same,
    "_safe_softmax": _same,
    "_weight_norm_interface": _weight_norm,
    "cat": _cat,
    "stack": _stack,
    "max_pool2d_with_indices": _max_pool,
    "avg_pool2d": _average_pool,
    "new_full": lambda args: empty(args[1], args[0]),
    "mm": _product,
    "bmm": _product,
    "addmm": lambda args: _product(args[1:]),
    "native_layer_norm": _layer_norm,
    "grid_sampler_2d": _grid_sample,
    "mean": _mean,
    "bitwise_and": _broadcast,
    **dict.fromkeys(("masked_fill", "clamp", "clamp_min", "clamp_max"), _same),
    "upsample_nearest2d": _upsample,
    "upsample_bilinear2d": _upsample,
    **dict.fromkeys(UNARY, _same),
    **dict.fromkeys((f"{name}_" for name in UNARY), _itself),
    **dict.fromkeys(BINARY, _broadcast),
    **dict.fromkeys(COMPARISONS, _comparison),
    **dict.fromkeys((f"{name}_" for name in BINARY), _itself),
}


def tensors_in(value: Any) -> list[Tensor]:
    """The tensors among an operation's arguments or results, alone or in lists, as in every aten signature (PyTorch's pytree is slower)."""
    if isinstance(value, Tensor):
        return [value]
    found: list[Tensor] = []
    for item in value if isinstance(value, (tuple, list)) else ():
        if isinstance(item, Tensor):
            found.append(item)
        elif isinstance(item, (tuple, list)) and item and not type(item[0]) is type(item[-1]) is int:
            found += tensors_in(item)
    return found


@cache
def operation_name(function: Any) -> str:
    """The aten name without namespace and overload, such as "convolution"."""
    name: str = function._schema.name
    return name.rpartition("::")[2]


def run_on_meta(function: Any, args: Arguments, kwargs: dict[str, Any]) -> Any:
    """Run an operation whose arguments may mix known values with meta tensors; where PyTorch refuses that, run it on the shapes of all.

    Known values, such as indices and masks, stay known as long as they meet no meta tensor. Meta tensors are never written into them.
    """
    given = [*tensors_in(args), *tensors_in(tuple(kwargs.values()))] if kwargs else tensors_in(args)
    unknown = [tensor.is_meta for tensor in given if tensor.ndim]
    if not any(unknown) or all(unknown):
        return function(*args, **kwargs)
    try:
        return function(*args, **kwargs)
    except (RuntimeError, NotImplementedError):
        if not all(tensor.is_meta for tensor in tensors_in(written_by(function, args, kwargs))):
            raise
    return function(*(shape_of(value) for value in args), **{name: shape_of(value) for name, value in kwargs.items()})


@cache
def places_written(function: Any) -> tuple[tuple[int, str], ...]:
    """Position and name of each argument that an operation writes into."""
    arguments = enumerate(function._schema.arguments)
    return tuple((place, one.name) for place, one in arguments if one.alias_info is not None and one.alias_info.is_write)


def written_by(function: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> list[Any]:
    """Return the arguments that an operation writes into."""
    return [args[place] if place < len(args) else kwargs.get(name) for place, name in places_written(function)]


def shape_of(value: Any) -> Any:
    """An argument with its tensors as meta tensors; single numbers keep their values."""
    if isinstance(value, Tensor):
        return value if value.is_meta or not value.ndim else value.to("meta")
    return type(value)(shape_of(item) for item in value) if isinstance(value, (tuple, list)) else value


class OnMeta(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Runs a network on the meta device with PyTorch's own shape functions, beside tensors whose values are known."""

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """See `ShapeMode`."""
        return False

    def __torch_dispatch__(self, function: Any, types: Any, args: Arguments = (), kwargs: dict[str, Any] | None = None) -> Any:
        """Run one operation."""
        return run_on_meta(function, args, kwargs or {})


class ShapeMode(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Runs a network for its shapes only: common operations by a shape rule, all others on the meta device. Subclasses receive every
    operation in `observe`; those in `whole` are not taken apart in inference mode."""

    whole: Container[str] = ()
    _empty = torch.ops.aten.empty.memory_format

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """Avoid `torch._disable_dynamo`, whose first call imports the compiler (0.9 s)."""
        return False

    def __torch_dispatch__(self, function: Any, types: Any, args: Arguments = (), kwargs: dict[str, Any] | None = None) -> Any:
        """Run one operation and pass it to `observe`."""
        kwargs, name = kwargs or {}, operation_name(function)
        if function is self._empty and args[0] == [0]:
            return function(*args, **kwargs)  # what a batch normalisation keeps in training
        if name not in self.whole and (made := by_parts(self, function, args, kwargs)) is not NotImplemented:
            return made
        known = EVALUATIONS.get(name)
        simple = known is not None and bool(args) and not kwargs.keys() & STEERING
        given = tensors_in(args[:2]) if simple else []
        on_meta = simple and all(one.is_meta for one in given if one.ndim) and (not given or any(one.is_meta for one in given))
        result = known(args) if known is not None and on_meta else run_on_meta(function, args, kwargs)
        self.observe(name, function, args, kwargs, result)
        return result

    def observe(self, name: str, function: Any, args: Arguments, kwargs: dict[str, Any], result: Any) -> None:
        """Receive an operation that just ran; does nothing here."""


class Dependence:
    """Follows which tensors a forward computes from which. A tensor is known by its memory, so views and in-place changes are followed too.

    `tensors` has the parameters and buffers by name, `made` the identities of these and of all results.
    """

    def __init__(self, model: nn.Module) -> None:
        self.tensors = dict(named_tensors(model))
        self.made = set(map(id, self.tensors.values()))
        self._model = model
        self._sources: dict[int, int] = {}
        self._alive: list[Any] = []
        self._seen = 0
        self._written: set[int] = set()
        for number, tensor in enumerate(self.tensors.values()):
            key = storage_of(tensor)
            self._sources[key] = self._sources.get(key, 0) | 1 << number

    def follow(self, read: Sequence[Tensor], made: Sequence[Tensor], written: Sequence[Tensor]) -> None:
        """Record one operation: what it makes, and what it writes into, depends on everything that it reads."""
        sources = self._of(read)
        for tensor in (*made, *written):
            self.made.add(id(tensor))
            key = storage_of(tensor)
            self._sources[key] = self._sources.get(key, 0) | sources
        self._seen |= sources
        self._written.update(map(storage_of, written))
        self._alive += made  # keep it alive: freed memory could be given to another tensor

    @property
    def read(self) -> set[str]:
        """The names of all parameters and buffers that any operation has read."""
        return self._names(self._seen)

    def read_by(self, tensors: Iterable[Tensor]) -> set[str]:
        """Return the names of all parameters and buffers that these tensors were computed from."""
        return self._names(self._of(tensors))

    def idle(self, outputs: Iterable[Tensor]) -> set[str]:
        """Return the names of the parameters and buffers, single numbers left out, that none of the outputs depends on."""
        return {name for name, tensor in self.tensors.items() if tensor.ndim} - self.read_by(outputs)

    @property
    def state(self) -> dict[str, Tensor]:
        """The buffers that the forward wrote to: what it changes beside its output."""
        found, before = {}, set(map(id, self.tensors.values()))
        for path, module in modules_of(self._model):
            for name, one in module._buffers.items():
                if one is not None and (id(one) not in before or storage_of(one) in self._written):
                    found[f"{path}.{name}" if path else name] = one
        return found

    def _names(self, sources: int) -> set[str]:
        return {name for number, name in enumerate(self.tensors) if sources >> number & 1}

    def _of(self, tensors: Iterable[Tensor]) -> int:
        sources = 0
        for tensor in tensors:
            sources |= self._sources.get(storage_of(tensor), 0)
        return sources


class Following(ShapeMode):  # type: ignore[no-untyped-call]
    """Runs a network on the meta device only to follow which tensor depends on which."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.dependence = Dependence(model)

    def observe(self, name: str, function: Any, args: tuple[Any, ...], kwargs: dict[str, Any], result: Any) -> None:
        """Record one operation."""
        read = tensors_in((*args, *kwargs.values()) if kwargs else args)
        self.dependence.follow(read, tensors_in(result), tensors_in(written_by(function, args, kwargs)))


@contextmanager
def training_paths(model: nn.Module, idle: Iterable[str]) -> Iterator[bool]:
    """Put the modules above some parameters into training mode, so that their forward takes the path of training; whether there are any.

    Layers stay in evaluation mode, so that normalisation and dropout behave as before.
    """
    above = {model.get_submodule(path) for name in idle for path in ancestors(name)}
    switched = [module for module in above if next(module.children(), None) is not None]
    for module in switched:
        module.training = True
    try:
        yield bool(switched)
    finally:
        for module in switched:
            module.training = False


def ancestors(name: str) -> list[str]:
    """Return the paths of all modules that contain a parameter, the model itself included."""
    parts = name.split(".")[:-1]
    return [".".join(parts[:depth]) for depth in range(len(parts) + 1)]
