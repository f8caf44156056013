"""Notice where a forward does more with a width than hand it on as a size: a network that never does need not be tried.

While a trace runs, the forward gets its widths as `Width`, which passes for an integer, wherever it asks for them: as sizes of tensors, or
in attributes of PyTorch's layers. Sums, products and whole quotients of widths are widths. Whatever else is done with one (compared, made a
float, an index, text, a number among a tensor function's arguments) is noted with the channels that it counts; so is each tensor function
that may decide by sizes itself. Of a width that becomes a size it is noted what it must count, which can be computed for any cut. PyTorch's
own layers compute with no width, and get plain integers.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import reduce
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from tui_pruner.core.model.inputs import MAKING, KnownNumbers
from tui_pruner.core.model.layers import computing_hooks
from tui_pruner.core.tracing.adapters import is_of_library, own_adapter
from tui_pruner.core.tracing.labels import AxisLabels, Computed, Labels, flat, rows_of
from tui_pruner.core.tracing.meta_device import tensors_in
from tui_pruner.domain.errors import Interruption

Known = Tensor | AxisLabels | Computed
"""The labels of a tensor, as a trace keeps them."""


class Kept(Interruption):
    """A width was made a key, which may outlive the trace: the forward has to run with plain integers."""


class Width:
    """A width that a forward read. It passes for an integer but is none, so that C code has to ask for its value too.

    `made`: a function and its operands; labels and the dimension whose length it is; or all labels of the layer that has it in an attribute.
    """

    __slots__ = ("made", "number", "watch")

    def __init__(self, number: int, watch: Watch, made: tuple[Any, ...]) -> None:
        self.number = number
        self.watch = watch
        self.made = made

    @property  # type: ignore[misc]
    def __class__(self) -> type:  # noqa: D105
        return int

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return getattr(self.watch.use(self), name)

    def __hash__(self) -> int:
        self.watch.keep()
        return hash(self.number)

    def __copy__(self) -> Width:
        return self

    def __deepcopy__(self, known: Any) -> Width:
        return self

    def __reduce__(self) -> Any:
        return int, (self.watch.use(self),)

    def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
        return np.asarray(self.watch.use(self), dtype=dtype)

    def __array_ufunc__(self, function: Any, method: str, *inputs: Any, **named: Any) -> Any:
        return getattr(function, method)(*(self.watch.use(one) if type(one) is Width else one for one in inputs), **named)

    def leaves(self) -> Iterator[tuple[Known, int | None]]:
        """The labels and dimensions that it was computed from."""
        first, *rest = self.made
        if isinstance(first, list):
            yield from ((labels, None) for labels in first)
        elif not callable(first):
            yield first, rest[0]
        for part in rest:
            if type(part) is Width:
                yield from part.leaves()

    def left(self, alive: np.ndarray) -> int | None:
        """Its value once only these labels are alive; None where that is not known."""
        if not callable(self.made[0]):
            labels, dim = self.made if len(self.made) > 1 else (None, None)
            if self.watch.is_row(labels, dim):
                return self.number
            return int(alive[vector_at(labels, dim)].sum()) if isinstance(labels, Tensor) else None
        parts = [part.left(alive) if type(part) is Width else part for part in self.made[1:]]
        divides = self.made[0] in (operator.floordiv, operator.mod)
        return None if None in parts or (divides and not parts[1]) else self.made[0](*parts)


def staying(compute: Callable[[Any, Any], Any], turned: bool = False) -> Callable[[Width, Any], Any]:
    """The method for an operation on whole numbers, whose result is a width again."""

    def method(self: Width, other: Any) -> Any:
        if type(other) is not int and type(other) is not Width:
            number = self.watch.use(self)
            return compute(other, number) if turned else compute(number, other)
        left, right = (other, self) if turned else (self, other)
        return Width(compute(plain(left), plain(right)), self.watch, (compute, left, right))

    return method


def using(compute: Callable[..., Any], turned: bool = False) -> Callable[..., Any]:
    """The method for an operation that needs the number."""

    def method(self: Width, *others: Any) -> Any:
        numbers = [one.watch.use(one) if type(one) is Width else one for one in (self, *others)]
        return compute(*(reversed(numbers) if turned else numbers))

    return method


def plain(value: Any) -> Any:
    """A width as an integer; anything else as it is."""
    return value.number if type(value) is Width else value


STAYING = {"add": operator.add, "sub": operator.sub, "mul": operator.mul, "floordiv": operator.floordiv, "mod": operator.mod}
TURNING = ("truediv", "pow", "and", "or", "xor", "lshift", "rshift")
COMPARING = ("lt", "le", "eq", "ne", "gt", "ge", "neg", "pos", "abs", "invert", "index")
NEEDING: dict[str, Callable[..., Any]] = {
    **{name: getattr(operator, f"__{name}__") for name in (*TURNING, *COMPARING)},
    **{kind.__name__: kind for kind in (int, float, complex, bool, str, repr, format, round, divmod)},
    **{name: getattr(math, name) for name in ("floor", "ceil", "trunc")},
}
for name, function in STAYING.items():
    setattr(Width, f"__{name}__", staying(function))
    setattr(Width, f"__r{name}__", staying(function, turned=True))
for name, function in NEEDING.items():
    setattr(Width, f"__{name}__", using(function))
for name in (*TURNING, "divmod"):
    setattr(Width, f"__r{name}__", using(NEEDING[name], turned=True))


class Sizes(tuple[Any, ...]):
    """The sizes of a tensor with widths among them; passes for `torch.Size`."""

    __slots__ = ()

    @property  # type: ignore[misc]
    def __class__(self) -> type:  # noqa: D105
        return torch.Size

    def __getitem__(self, place: Any) -> Any:
        found = tuple.__getitem__(self, place)
        return Sizes(found) if type(place) is slice else found

    def __add__(self, other: Any) -> Sizes:
        return Sizes((*self, *other))

    def __radd__(self, other: Any) -> Sizes:
        return Sizes((*other, *self))

    def numel(self) -> Any:
        """How many elements such a tensor has."""
        return reduce(operator.mul, self, 1)


NESTING = (Width, Sizes, tuple, list, dict, slice)


def without_widths(value: Any, found: list[Width]) -> Any:
    """Arguments with integers for widths, which are added to a list."""
    kind = type(value)
    if kind is Width:
        found.append(value)
        return value.number
    if kind is slice:
        return slice(*(without_widths(one, found) for one in (value.start, value.stop, value.step)))
    if kind in (tuple, list, Sizes):
        count = len(found)
        items = [without_widths(one, found) for one in value]
        return value if len(found) == count and kind is not Sizes else torch.Size(items) if kind is Sizes else kind(items)
    if kind is dict:
        return {key: without_widths(one, found) for key, one in value.items()}
    return value


READING = frozenset({"shape", "size", "numel", "nelement", "__len__"})
GROUPS = {f"conv{turned}{sides}d": 7 if turned else 6 for sides in (1, 2, 3) for turned in ("", "_transpose")}
"""Convolutions, with the position of the number of groups among their arguments."""
OF_ITSELF = object()
"""A size that PyTorch takes from the tensor itself."""
SHAPING = frozenset({"view", "reshape", "unflatten", "view_as", "reshape_as"})
SIZED = SHAPING | {"split", "chunk", "__getitem__"}
"""Functions that may be given widths as sizes."""
SILENT = SIZED | frozenset(GROUPS) | {"expand_as"}
SILENT |= frozenset(
    "ndim dim dtype device layout is_meta is_cuda is_cpu is_mps is_sparse is_quantized requires_grad is_leaf grad is_complex is_nested "
    "is_floating_point is_contiguous get_device data itemsize element_size is_mkldnn is_xla is_xpu is_inference detach detach_ "
    "linear batch_norm layer_norm group_norm normalize prelu embedding matmul __matmul__ __rmatmul__ mm bmm addmm baddbmm relu relu_ relu6 "
    "silu silu_ gelu hardswish hardswish_ hardsigmoid hardsigmoid_ hardtanh hardtanh_ leaky_relu leaky_relu_ elu elu_ celu mish mish_ "
    "softplus sigmoid sigmoid_ tanh tanh_ softmax log_softmax logsigmoid glu dropout dropout_ dropout1d dropout2d dropout3d "
    "max_pool1d max_pool2d max_pool3d avg_pool1d avg_pool2d avg_pool3d adaptive_avg_pool1d adaptive_avg_pool2d adaptive_avg_pool3d "
    "adaptive_max_pool1d adaptive_max_pool2d adaptive_max_pool3d interpolate upsample pad _pad grid_sample pixel_shuffle pixel_unshuffle "
    "channel_shuffle unfold fold cat concat concatenate stack add add_ sub sub_ rsub mul mul_ multiply div div_ divide true_divide "
    "__add__ __radd__ __iadd__ __sub__ __rsub__ __isub__ __mul__ __rmul__ __imul__ __truediv__ __rtruediv__ __itruediv__ __div__ __rdiv__ "
    "__pow__ __neg__ __and__ __or__ __invert__ pow square neg negative exp sqrt rsqrt abs sin cos log erf reciprocal clamp clamp_ clip "
    "clamp_min clamp_max minimum maximum where masked_fill masked_fill_ lerp addcmul eq ne lt le gt ge __eq__ __ne__ __lt__ __le__ __gt__ "
    "__ge__ permute transpose swapaxes movedim t T mT mH H unsqueeze flatten unbind select flip mean sum amax amin max min var std "
    "var_mean norm cumsum argmax to float half double bfloat16 type_as contiguous clone zeros_like ones_like full_like empty_like".split()
)
"""Functions that compute with no width of their own accord."""
UNLESS: dict[str, Callable[[Sequence[Any], dict[str, Any]], bool]] = {
    "squeeze": lambda args, named: len(args) + len(named) > 1,  # without a dimension, those of length 1 go
    "einsum": lambda args, named: len(args) <= 3,  # of more factors, those are multiplied first that make the smallest product
    "scaled_dot_product_attention": lambda args, named: type(named.get("scale")) is float,  # by default the root of the width
}
"""Further ones, by what they are given."""
LAYERS: dict[type[nn.Module], tuple[str, ...]] = {
    nn.modules.conv._ConvNd: ("in_channels", "out_channels"),
    nn.Linear: ("in_features", "out_features"),
    nn.modules.batchnorm._NormBase: ("num_features",),
    nn.GroupNorm: ("num_channels",),
    nn.PReLU: ("num_parameters",),
    nn.Embedding: ("num_embeddings", "embedding_dim"),
}
"""The attributes that surgery updates, beside the groups of depthwise convolutions, and the shape of layer norms."""
COMPUTING = {nn.MultiheadAttention, nn.LSTM, nn.GRU, nn.RNN, nn.LSTMCell, nn.GRUCell, nn.RNNCell, nn.Unflatten}


def is_plain(module: nn.Module) -> bool:
    """Whether the forward that runs is that of one of PyTorch's layers, or of a known library, and computes with no width."""
    kind = type(module)
    own = kind.__module__.startswith(("torch.nn.modules.", "tui_pruner.")) and "transformer" not in kind.__module__
    if not (own or is_of_library(kind)) or kind in COMPUTING or "forward" in module.__dict__:
        return False
    return not module._forward_pre_hooks or len(computing_hooks(module)) == len(module._forward_pre_hooks)


def name_of(function: Any) -> str:
    """The name of a tensor function, or of the attribute that it gets."""
    name: str = getattr(function, "__name__", "")
    return getattr(getattr(function, "__self__", None), "__name__", "") if name == "__get__" else name


def is_silent(name: str, args: Sequence[Any], kwargs: dict[str, Any]) -> bool:
    """Whether a tensor function computes with no width of its own accord."""
    return name in SILENT or (name in UNLESS and UNLESS[name](args, kwargs))


NAMES: dict[Any, str] = {}
"""What `name_of` said before."""


class Watch(KnownNumbers):
    """Hands out widths while a forward runs, and notes what is done with them.

    `quiet`: plain integers are handed out, and nothing is noted; `known`: the labels of a tensor; `rows`: whether vectors are known as rows.
    """

    def __init__(self, known: Callable[[Tensor], Known | None], rows: Callable[[Sequence[Labels]], bool]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.on = self.over = False
        self.quiet = True
        self.asked: tuple[str, Sequence[Any], dict[str, Any]] | None = None
        self.counted: list[tuple[Width, Labels | None]] = []
        self.used: list[Width] = []
        self.deciding: dict[int, Known] = {}
        self.known = known
        self.rows = rows
        self._followed = False

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run one tensor function."""
        try:
            name = NAMES[function]
        except KeyError:
            name = NAMES[function] = name_of(function)
        given, named, found = args, kwargs or {}, []
        if not self.quiet:
            if name in READING:
                return self._read(name, function, args, named)
            if named or any(type(value) in NESTING for value in args):
                found = []
                given, named = without_widths(args, found), without_widths(named, found)
            self._look(name, args, kwargs or {})
        self.asked, self._followed = (name, args, kwargs or {}), False
        try:
            return super().__torch_function__(function, types, given, named) if function in MAKING else function(*given, **named)
        finally:
            self.asked = None
            if found and not (self._followed and name in SIZED):
                self.used += [one for one in found if name not in GROUPS or not isinstance(one.made[0], list)]

    def _look(self, name: str, args: Sequence[Any], kwargs: dict[str, Any]) -> None:
        """Note a function that may decide by the sizes of its tensors, or has a fixed number where a width belongs."""
        if not is_silent(name, args, kwargs):
            self.note((*args, *kwargs.values()))
        elif name in GROUPS:
            groups = kwargs.get("groups", args[GROUPS[name]] if len(args) > GROUPS[name] else 1)
            if len(args) < 2 or (type(groups) is int and groups > 1 and groups in (args[0].shape[-1 - int(name[-2])], args[1].shape[0])):
                self.note((*args, *kwargs.values()))
        elif name == "expand_as":
            self._stretch(*args[:2])

    def _stretch(self, tensor: Tensor, other: Tensor) -> None:
        """Note what the sizes of another tensor must count where a tensor is expanded to them."""
        labels, sizes = self.known(tensor), self.sizes(other)
        for dim, size in enumerate(sizes or (), start=tensor.ndim - other.ndim):
            if type(size) is Width:
                fits = isinstance(labels, Tensor) and dim >= 0 and moves(labels, dim)
                self.counted.append((size, vector_at(labels, dim) if fits and isinstance(labels, Tensor) else None))

    def note(self, values: Sequence[Any]) -> None:
        """Note that something may be decided by the sizes of these tensors."""
        for tensor in tensors_in(tuple(values)):
            labels = self.known(tensor)
            if labels is not None:
                self.deciding[id(labels)] = labels

    def note_unseen(self, tensors: Callable[[], Sequence[Tensor]]) -> None:
        """Note the tensors of an operation that no tensor function of the forward called."""
        if not self.quiet and self.asked is None:
            self.note(tensors())

    def end(self) -> None:
        """End to watch, and hand out plain integers from now on."""
        self.on, self.over, self.quiet = False, True, True

    def note_returned(self, leaves: Iterable[Any]) -> None:
        """Note the widths in what a forward returned."""
        self.used += [one for leaf in leaves for one in (leaf if type(leaf) is Sizes else (leaf,)) if type(one) is Width]

    def begun(self) -> Watch:
        """Begin to watch."""
        self.on, self.quiet = True, False
        return self

    def use(self, width: Width) -> int:
        """The number of a width that is used for more than a size."""
        if not self.quiet:
            self.used.append(width)
        return width.number

    def keep(self) -> None:
        """Refuse to make a width a key.

        Raises:
            Kept: the forward does.
        """
        if not self.quiet:
            raise Kept

    def _read(self, name: str, function: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
        """What a forward asks of the sizes of a tensor."""
        sizes = self.sizes(args[0])
        if sizes is None:
            return function(*args, **kwargs)
        if name == "__len__":  # Python makes an integer of it
            self.note(args[:1])
            return function(*args)
        if name not in ("shape", "size"):
            return sizes.numel()
        dim = plain(args[1] if len(args) > 1 else kwargs.get("dim"))
        return sizes if dim is None or name == "shape" else sizes[dim]

    def sizes(self, tensor: Tensor) -> Sizes | None:
        """The sizes of a tensor, with widths for those that may change; None where none may."""
        labels, shape = self.known(tensor), tensor.shape
        moving = moving_dims(labels) if labels is not None else []
        return Sizes(Width(size, self, (labels, dim)) if dim in moving else size for dim, size in enumerate(shape)) if moving else None

    def follows(self, result: Any, widths: Sequence[Labels], dim: int, by_place: bool) -> bool:
        """Whether the operation that runs has sizes that follow their channels, provided that those in `counted` do."""
        if self.over:
            return True
        if self.asked is None:
            return False
        name, args, kwargs = self.asked
        pairs: list[tuple[Width, Labels | None]] | None = [] if is_silent(name, args, kwargs) and not by_place else None
        if name == "__getitem__" and by_place:
            pairs = bounds(args, widths, dim)
        elif name in SHAPING:
            pairs = self._shaped(result, self._shape(name, args, kwargs, result))
        elif name == "split":
            pairs = parts(args[1], widths) if len(args) > 1 else None
        elif name == "chunk":
            pairs = [] if len({len(width) for width in widths}) == 1 else None
        self.counted += pairs or []
        self._followed = self._followed or pairs is not None
        return pairs is not None

    def _shape(self, name: str, args: Sequence[Any], kwargs: dict[str, Any], result: Tensor) -> Sequence[Any]:
        """The sizes that a forward gives to a reshape."""
        if name.endswith("_as"):
            return self.sizes(args[1]) or args[1].shape
        if kwargs or len(args) < 2:
            return ()
        if name == "unflatten":
            start, sizes = args[1] % args[0].ndim, args[2]
            return (*(OF_ITSELF,) * start, *sizes, *(OF_ITSELF,) * (result.ndim - start - len(sizes)))
        return args[1] if isinstance(args[1], (tuple, list)) else args[1:]

    def _shaped(self, result: Any, sizes: Sequence[Any]) -> list[tuple[Width, Labels | None]] | None:
        """What each width among the sizes of a reshape must count; None where channels have a fixed number."""
        labels = self.known(result)
        if not isinstance(labels, Tensor) or len(sizes) != labels.ndim:
            return None
        last = max(moving_dims(labels), default=-1)
        if last >= 0 and type(sizes[last]) is int and sizes[last] != -1:
            return None
        return [(size, vector_at(labels, dim) if dim == last else None) for dim, size in enumerate(sizes) if type(size) is Width]

    def is_row(self, labels: Known, dim: int | None) -> bool:
        """Whether a dimension counts rows, of which every cut leaves as many."""
        if not isinstance(labels, Tensor) or dim is None:
            return False
        return len(moving_dims(labels)) > 1 and self.rows(rows_of(labels.movedim(dim, 0)))

    def decided(self) -> list[Labels]:
        """The labels of all channels by whose number the forward may decide."""
        leaves = {(id(leaf[0]), leaf[1]): leaf for width in self.used for leaf in width.leaves()}
        found = {id(labels): labels for labels, dim in leaves.values() if not self.is_row(labels, dim)} | self.deciding
        return [vector for labels in found.values() for vector in vectors_of(labels)]


def moves(labels: Known, dim: int) -> bool:
    """Whether labels may change along a dimension, so that its length may be a width."""
    if isinstance(labels, Tensor):
        return labels.shape[dim] > 1 and labels.stride(dim) != 0
    if isinstance(labels, AxisLabels):
        return labels.shape[dim] > 1 and labels.vectors[dim] is not None
    return any(moves(strand.labels, dim) for strand in labels.strands)


def moving_dims(labels: Known) -> list[int]:
    """The dimensions along which labels change."""
    found = [dim for dim in range(len(labels.strands[0].labels.shape if isinstance(labels, Computed) else labels.shape)) if moves(labels, dim)]
    if len(found) < 2 or not isinstance(labels, Tensor):
        return found
    small = labels.numpy()[tuple(slice(None) if dim in found else slice(1) for dim in range(labels.ndim))]  # an operation would be traced
    return [dim for dim in found if (small != small.take([0], dim)).any()]


def vector_at(labels: Tensor, dim: int) -> Labels:
    """The labels along one dimension, at the first position of all others."""
    vector: Labels = labels.numpy()[tuple(slice(None) if d == dim else 0 for d in range(labels.ndim))]
    return vector


def vectors_of(labels: Known) -> list[Labels]:
    """All labels of a tensor."""
    if isinstance(labels, Tensor):
        return [flat(labels)]
    if isinstance(labels, AxisLabels):
        return [vector for vector in labels.vectors if vector is not None]
    return [flat(strand.labels) for strand in labels.strands]


def bounds(args: Sequence[Any], widths: Sequence[Labels], dim: int) -> list[tuple[Width, Labels | None]] | None:
    """What the bounds of a slice must count; None where one is fixed, or the index is more than slices."""
    index = args[1] if isinstance(args[1], tuple) else (args[1],)
    if any(type(one) is not slice for one in index) or dim >= len(index) or index[dim].step is not None:
        return None
    given = [(bound, width) for bound, width in zip((index[dim].start, index[dim].stop), widths) if type(bound) is Width or bound]
    return given if all(type(bound) is Width for bound, _ in given) else None


def parts(sizes: Any, widths: Sequence[Labels]) -> list[tuple[Width, Labels | None]] | None:
    """What the sizes of a split must count; None where one is fixed."""
    each = list(sizes) if isinstance(sizes, (tuple, list)) else [sizes] * len(widths)
    return list(zip(each, widths)) if len(each) == len(widths) and all(type(size) is Width for size in each) else None


@contextmanager
def widths_in_attributes(parts: Sequence[tuple[str, nn.Module]], watch: Watch) -> Iterator[None]:
    """Have PyTorch's layers hold their widths as `Width`; note the channels of modules that a user's adapter updates."""
    changed: list[tuple[dict[str, Any], str, int]] = []
    known: dict[type, tuple[str, ...]] = {}
    for _, module in parts:
        kind, state = type(module), module.__dict__
        if kind not in known:
            known[kind] = next((names for layer, names in LAYERS.items() if issubclass(kind, layer)), ())
        if own_adapter(module) is not None and not is_plain(module):
            watch.note(list(module.parameters()))
        names = known[kind]
        if "groups" in state and names and state["groups"] == state["in_channels"] > 1:
            names = (*names, "groups")
        if names:
            tensors = [*module._parameters.values(), *module._buffers.values(), *(module.parameters() if module._modules else ())]
            labels = [found for one in tensors if one is not None and (found := watch.known(one)) is not None]
        for name in names:
            changed.append((state, name, state[name]))
            state[name] = Width(state[name], watch, (labels,))
    try:
        yield
    finally:
        for state, name, value in changed:
            state[name] = value
