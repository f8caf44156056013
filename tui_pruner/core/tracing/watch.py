"""Watch what a forward does with its widths: a network whose forward only hands them on as sizes need not be tried.

While a trace runs, the forward gets a `ReadWidth` where it asks for a size of a tensor, or for a width in an attribute of PyTorch's layers.
What it does with one beside arithmetic is noted with the channels that it counts; so is each tensor function that may itself decide by
sizes. Of a width that becomes a size it is noted what it must count, which can be computed for any cut. PyTorch's own layers compute with
no width, and get plain integers.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import Any

from torch import Tensor, nn

from tui_pruner.core.model.inputs import KnownNumbers
from tui_pruner.core.model.layers import ATTRIBUTES
from tui_pruner.core.tracing.adapters import ADAPTERS, is_plain, nearest_base, own_adapter
from tui_pruner.core.tracing.coupling_map import WidthName
from tui_pruner.core.tracing.labels import Labels, changing, rows_of, varies, vector_along
from tui_pruner.core.tracing.meta_device import tensors_in
from tui_pruner.core.tracing.values import ATTENTION, words
from tui_pruner.core.tracing.widths import (
    NESTING,
    Known,
    ReadWidth,
    Sizes,
    WidthKept,
    bounds,
    moves,
    parts,
    plain,
    vectors_of,
    without_widths,
)

READING = frozenset({"shape", "size", "numel", "nelement", "__len__"})
GROUPS = {f"conv{turned}{sides}d": 7 if turned else 6 for sides in (1, 2, 3) for turned in ("", "_transpose")}
"""Convolutions, with the position of the number of groups among their arguments."""
OF_ITSELF = object()
"""A size that PyTorch takes from the tensor itself."""
OF_ANOTHER = frozenset({"view_as", "reshape_as"})
"""Reshapes to the sizes of another tensor."""
SHAPING = frozenset({"view", "reshape", "unflatten"})
SILENT = SHAPING | frozenset(GROUPS) | {"split", "chunk", "__getitem__", "expand_as"}
SILENT |= words(
    "ndim dim dtype device layout is_meta is_cuda is_cpu is_mps is_sparse is_quantized requires_grad is_leaf grad is_complex is_nested "
    "is_floating_point is_contiguous get_device itemsize element_size is_mkldnn is_xla is_xpu is_inference detach detach_ linear "
    "batch_norm layer_norm group_norm normalize prelu embedding matmul __matmul__ __rmatmul__ mm bmm addmm baddbmm relu relu_ relu6 silu "
    "silu_ gelu hardswish hardswish_ hardsigmoid hardsigmoid_ hardtanh hardtanh_ leaky_relu leaky_relu_ elu elu_ celu mish mish_ softplus "
    "sigmoid sigmoid_ tanh tanh_ softmax log_softmax logsigmoid glu dropout dropout_ dropout1d dropout2d dropout3d max_pool1d max_pool2d "
    "max_pool3d avg_pool1d avg_pool2d avg_pool3d adaptive_avg_pool1d adaptive_avg_pool2d adaptive_avg_pool3d adaptive_max_pool1d "
    "adaptive_max_pool2d adaptive_max_pool3d interpolate upsample pad _pad grid_sample pixel_shuffle pixel_unshuffle instance_norm "
    "channel_shuffle unfold fold cat concat concatenate stack add add_ sub sub_ rsub mul mul_ multiply div div_ divide true_divide "
    "__add__ __radd__ __iadd__ __sub__ __rsub__ __isub__ __mul__ __rmul__ __imul__ __truediv__ __rtruediv__ __itruediv__ __div__ __rdiv__ "
    "__pow__ __neg__ __and__ __or__ __invert__ pow square neg negative exp sqrt rsqrt abs sin cos log erf reciprocal clamp clamp_ clip "
    "clamp_min clamp_max minimum maximum where masked_fill masked_fill_ lerp addcmul eq ne lt le gt ge __eq__ __ne__ __lt__ __le__ __gt__ "
    "__ge__ permute transpose swapaxes movedim t T mT mH H unsqueeze flatten unbind select flip mean sum amax amin max min var std "
    "var_mean norm cumsum argmax to float half double bfloat16 type_as contiguous clone zeros_like ones_like full_like empty_like"
)
"""Functions that compute with no width of their own accord."""
VALUED = SILENT - SHAPING - frozenset(GROUPS) - words("split __getitem__ pad _pad layer_norm group_norm instance_norm channel_shuffle")
VALUED |= words("topk roll")
"""Functions whose integers are counts, places or factors, and no sizes of what they are given."""
UNLESS: dict[str, Callable[[Sequence[Any], dict[str, Any]], bool]] = {
    "squeeze": lambda args, named: len(args) + len(named) > 1,  # without a dimension, those of length 1 go
    "einsum": lambda args, named: len(args) <= 3,  # of more factors, those are multiplied first that make the smallest product
    ATTENTION: lambda args, named: type(named.get("scale")) in (float, type(None)),  # by default the root of a width, see `Attended`
}
"""Further ones, by what they are given."""


def name_of(function: Any) -> str:
    """The name of a tensor function, or of the attribute that it gets."""
    name: str = getattr(function, "__name__", "")
    return getattr(getattr(function, "__self__", None), "__name__", "") if name == "__get__" else name


def is_silent(name: str, args: Sequence[Any], kwargs: dict[str, Any]) -> bool:
    """Whether a tensor function computes with no width of its own accord."""
    return name in SILENT or (name in UNLESS and UNLESS[name](args, kwargs))


NAMES: dict[Any, str] = {}
"""What `name_of` said before."""


CountedWidth = tuple[ReadWidth, Labels | None, int]
"""A width that became a size, with what it must count (None: what no cut changes), and the number of the operation."""


class Watch(KnownNumbers):
    """Gives a forward its widths while it runs, and notes what is done with them.

    `quiet`: it gives plain integers and notes nothing; `known`: the labels of a tensor; `attend`: attention divides by the root of the
    width of its query's last dimension; `rows`: the vectors that are known as rows; `made`: the identities of all tensors that the trace
    knows; `named`: the channels that attributes count; `valued`: widths that became counts, places or factors, and of what; `blind`: the
    sizes of another one were read; `kept`: a width was made a key.
    """

    def __init__(
        self,
        known: Callable[[Tensor], Known | None],
        attend: Callable[[Tensor, Sequence[Tensor]], None],
        rows: set[bytes],
        made: set[int],
        named: dict[WidthName, Labels],
    ) -> None:
        super().__init__()
        self.on = self.over = False
        self.quiet = True
        self.asked: tuple[str, Sequence[Any], dict[str, Any]] | None = None
        self.counted: list[CountedWidth] = []
        self.used: list[ReadWidth] = []
        self.valued: list[tuple[ReadWidth, str]] = []
        self._indexed: list[tuple[ReadWidth, tuple[FrameType, int]]] = []
        self.deciding: dict[int, Known] = {}
        self.known = known
        self.attend = attend
        self.rows = rows
        self.made = made
        self.named = named
        self.blind = self.kept = False

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run one tensor function."""
        try:
            name = NAMES[function]
        except KeyError:
            name = NAMES[function] = name_of(function)
        found: list[ReadWidth] = []
        if not self.quiet and name in OF_ANOTHER:  # PyTorch takes the sizes where no width is seen
            name, other = name.removesuffix("_as"), args[1] if len(args) > 1 else (kwargs or {})["other"]
            function, args, kwargs = getattr(Tensor, name), (args[0], self.sizes(other) or other.shape), {}
        given, named = args, kwargs or {}
        if not self.quiet:
            if name in READING:
                return self._read(name, function, args, named)
            if named or any(type(value) in NESTING for value in args):
                given, named = without_widths(args, found), without_widths(named, found)
            self._look(name, args, kwargs or {})
            if self._indexed:  # PyTorch asks for the number of an argument before it calls this
                frame = sys._getframe(1)
                mine = {id(one) for one in found}
                self.used += [one for one, place in self._indexed if id(one) not in mine or place != (frame, frame.f_lasti)]
                self._indexed.clear()
        self.asked, before = (name, args, kwargs or {}), len(self.counted)
        try:
            return super().__torch_function__(function, types, given, named)
        except Exception:  # the forward may catch it, and go on in another way
            if not self.quiet:
                self.note((*args, *(kwargs or {}).values()))
            raise
        finally:
            self.asked = None
            if found:
                sizes = {id(width) for width, *_ in self.counted[before:]}
                self.used += [one for one in found if id(one) not in sizes and not (name in GROUPS and isinstance(one.made[0], list))]
                self.valued += [(one, name) for one in found if name in VALUED and id(one) not in sizes]

    def _look(self, name: str, args: Sequence[Any], kwargs: dict[str, Any]) -> None:
        """Note a function that may decide by the sizes of its tensors, or has a fixed number where a width belongs."""
        if name == ATTENTION and kwargs.get("scale") is None:
            query, rest = (args[0], args[1:]) if args else (kwargs["query"], ())
            self.attend(query, tensors_in((*rest, *(value for key, value in kwargs.items() if key != "query"))))
        elif not is_silent(name, args, kwargs):
            self.note((*args, *kwargs.values()))
        elif name in GROUPS:
            groups = kwargs.get("groups", args[GROUPS[name]] if len(args) > GROUPS[name] else 1)
            computed = type(groups) is ReadWidth and not any(isinstance(part.made[0], WidthName) for part in groups.parts())
            if len(args) < 2 or (not computed and groups > 1 and groups in (args[0].shape[-1 - int(name[-2])], args[1].shape[0])):
                self.note((*args, *kwargs.values()))
        elif name == "expand_as":
            self._stretch(args[0], args[1] if len(args) > 1 else kwargs["other"])
        elif name == "__getitem__":
            self._reach(args[0], args[1] if isinstance(args[1], tuple) else (args[1],))
        elif name == "split" and len(args) > 1:
            before = [slice(None)] * (plain(kwargs.get("dim", args[2] if len(args) > 2 else 0)) % args[0].ndim)
            for size in args[1] if isinstance(args[1], (tuple, list)) else (args[1],):
                self._reach(args[0], (*before, slice(size)))

    def _reach(self, tensor: Tensor, index: Sequence[Any]) -> None:
        """Note what an attribute must count to which a slice goes that takes all of a dimension, and widths that are places in another."""
        labels = self.known(tensor)
        for dim, one in enumerate(index if isinstance(labels, Tensor) else ()):
            if type(one) not in (slice, int, ReadWidth) or not isinstance(labels, Tensor) or dim >= labels.ndim:
                return
            given: list[ReadWidth] = []
            without_widths(one, given)
            if not moves(labels, dim):
                self.valued += [(width, "an index") for width in given]
            elif len(given) == 1 and type(one) is slice and one.stop is given[0] and isinstance(one.stop.made[0], WidthName):
                self.counted += [(one.stop, vector_along(labels, dim), 0)] if one.stop.number == labels.shape[dim] else []

    def _stretch(self, tensor: Tensor, other: Tensor) -> None:
        """Note what the sizes of another tensor must count where a tensor is expanded to them."""
        labels, sizes = self.known(tensor), self.sizes(other)
        for dim, size in enumerate(sizes or (), start=tensor.ndim - other.ndim):
            if type(size) is ReadWidth:
                fits = isinstance(labels, Tensor) and dim >= 0 and moves(labels, dim)
                self.counted.append((size, vector_along(labels, dim) if fits and isinstance(labels, Tensor) else None, 0))

    def note(self, values: Sequence[Any]) -> None:
        """Note that something may be decided by the sizes of these tensors."""
        for tensor in tensors_in(tuple(values)):
            labels = self.known(tensor)
            if labels is not None:
                self.deciding[id(labels)] = labels

    def note_unseen(self, tensors: Sequence[Tensor]) -> None:
        """Note the tensors of an operation that no tensor function of the forward called."""
        if not self.quiet and self.asked is None:
            self.note(tensors)

    def end(self) -> None:
        """End to watch, and give plain integers from now on."""
        self.on, self.over, self.quiet = False, True, True
        self.used += [width for width, _ in self._indexed]
        self._indexed.clear()

    def forget(self) -> None:
        """Let go of the trace, which a width that a forward stored would keep in memory."""
        self.counted, self.valued = [], []
        self.used, self.deciding, self.made, self.known, self.attend = [], {}, set(), lambda tensor: None, lambda *_: None

    def note_returned(self, leaves: Iterable[Any]) -> None:
        """Note the widths in what a forward returned."""
        self.used += [one for leaf in leaves for one in (leaf if type(leaf) is Sizes else (leaf,)) if type(one) is ReadWidth]

    def begun(self) -> Watch:
        """Begin to watch."""
        self.on, self.quiet = True, False
        return self

    def use(self, width: ReadWidth) -> int:
        """The number of a width that is used for more than a size."""
        if not self.quiet:
            self.used.append(width)
        return width.number

    def index(self, width: ReadWidth, caller: FrameType) -> None:
        """Note that C code asked for the number of a width, unless it turns out to be a tensor function."""
        if not self.quiet:
            self._indexed.append((width, (caller, caller.f_lasti)))

    def keep(self) -> None:
        """Refuse to make a width a key.

        Raises:
            WidthKept: the forward does.
        """
        if not self.quiet:
            self.kept = True
            raise WidthKept

    def _read(self, name: str, function: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
        """What a forward asks of the sizes of a tensor."""
        sizes = self.sizes(args[0])
        if sizes is None:
            self.blind = self.blind or (args[0].is_meta and id(args[0]) not in self.made)
            return function(*args, **kwargs)
        if name == "__len__":  # Python makes an integer of it
            self.note(args[:1] if type(sizes[0]) is ReadWidth else ())
            return function(*args)
        if name not in ("shape", "size"):
            return sizes.numel()
        dim = plain(args[1] if len(args) > 1 else kwargs.get("dim"))
        return sizes if dim is None or name == "shape" else sizes[dim]

    def sizes(self, tensor: Tensor) -> Sizes | None:
        """The sizes of a tensor, with widths for those that may change; None where none may."""
        labels, shape = self.known(tensor), tensor.shape
        moving = [dim for dim in range(len(shape)) if moves(labels, dim)] if labels is not None else []
        return Sizes(ReadWidth(size, self, (labels, dim)) if dim in moving else size for dim, size in enumerate(shape)) if moving else None

    def follows(self, operation: int, result: Any, widths: Sequence[Labels], dim: int, by_place: bool) -> bool:
        """Whether the operation that runs has sizes that follow their channels, provided that those in `counted` do."""
        if self.over:
            return True
        if self.asked is None:
            return False
        name, args, kwargs = self.asked
        pairs: list[tuple[ReadWidth, Labels | None]] | None = [] if is_silent(name, args, kwargs) and not by_place else None
        if name == "__getitem__" and by_place:
            pairs = bounds(args, widths, dim)
        elif name in SHAPING:
            pairs = self._shaped(result, self._shape(name, args, kwargs, result))
        elif name == "split":
            pairs = parts(args[1], widths) if len(args) > 1 else None
        elif name == "chunk":
            pairs = [] if len({len(width) for width in widths}) == 1 else None
        self.counted += [(width, counted, operation) for width, counted in pairs or ()]
        return pairs is not None

    def _shape(self, name: str, args: Sequence[Any], kwargs: dict[str, Any], result: Tensor) -> Sequence[Any]:
        """The sizes that a forward gives to a reshape."""
        if kwargs or len(args) < 2:
            return ()
        if name == "unflatten":
            start, sizes = args[1] % args[0].ndim, args[2]
            return (*(OF_ITSELF,) * start, *sizes, *(OF_ITSELF,) * (result.ndim - start - len(sizes)))
        return args[1] if isinstance(args[1], (tuple, list)) else args[1:]

    def _shaped(self, result: Any, sizes: Sequence[Any]) -> list[tuple[ReadWidth, Labels | None]] | None:
        """What each width among the sizes of a reshape must count; None where channels have a fixed number."""
        labels = self.known(result)
        if not isinstance(labels, Tensor) or len(sizes) != labels.ndim:
            return None
        last = next((dim for dim in reversed(range(labels.ndim)) if varies(labels, dim)), -1)
        left = sizes[last] is OF_ITSELF or plain(sizes[last]) == -1
        if last >= 0 and type(sizes[last]) is not ReadWidth and not left:
            return None
        counting = -1 if left else last
        return [(size, vector_along(labels, dim) if dim == counting else None) for dim, size in enumerate(sizes) if type(size) is ReadWidth]

    def is_fixed(self, labels: Known, dim: int | None) -> bool:
        """Whether every cut leaves a dimension as long: where no labels change, or where it counts rows."""
        if not isinstance(labels, Tensor) or dim is None:
            return False
        return not varies(labels, dim) or (len(changing(labels)) > 1 and all_known(rows_of(labels.movedim(dim, 0)), self.rows))

    def decided(self) -> list[Labels] | None:
        """The labels of all channels by whose number the forward may decide; None where that is not known."""
        if self.blind:
            return None
        leaves = {(id(leaf[0]), leaf[1]): leaf for width in self.used for leaf in width.leaves()}
        found = {id(labels): labels for labels, dim in leaves.values() if not self.is_fixed(labels, dim)} | self.deciding
        return [vector for labels in found.values() for vector in vectors_of(labels)]


def all_known(vectors: Sequence[Labels], rows: set[bytes]) -> bool:
    """Whether each of these vectors is known as a row, or carries no channel."""
    return all(vector.tobytes() in rows or not vector.any() for vector in vectors)


@contextmanager
def widths_in_attributes(parts: Sequence[tuple[str, nn.Module]], watch: Watch, foreign: bool, naming: bool) -> Iterator[None]:
    """Have PyTorch's layers hold their widths as `ReadWidth`; note the channels of other modules whose attributes a cut updates.

    `foreign`: code that is neither PyTorch's nor of a known library runs, and may read an attribute of any module; `naming`: the integers
    of its own modules are such widths too, since a cut can rewrite what turns out to count channels.
    """
    changed: list[tuple[dict[str, Any], str, Any, Any]] = []
    known: dict[type, tuple[tuple[str, ...], bool, bool]] = {}
    for path, module in parts:
        kind, state = type(module), module.__dict__
        if kind not in known:
            names = next((names for layer, names in ATTRIBUTES.items() if issubclass(kind, layer)), ())
            known[kind] = names, own_adapter(module) is not None, any(base.__name__ in ADAPTERS for base in kind.__mro__)
        names, adapted, listed = known[kind]
        if (adapted and (foreign or not is_plain(module))) or (foreign and listed and nearest_base(module, ADAPTERS)):
            watch.note(list(module.parameters()))
        if "groups" in state and names and state["groups"] == state["in_channels"] > 1:
            names = (*names, "groups")
        if names:
            tensors = [*module._parameters.values(), *module._buffers.values(), *(module.parameters() if module._modules else ())]
            labels = [found for tensor in tensors if tensor is not None and (found := watch.known(tensor)) is not None]
            changed += [(state, name, state[name], ReadWidth(state[name], watch, (labels,))) for name in names]
        elif naming and not adapted and not is_plain(module):
            numbers = [(name, value) for name, value in state.items() if type(value) in NUMBERS and WidthName.fits(name)]
            held = ((name, value, held_in(value, path, name, watch)) for name, value in numbers)
            changed += [(state, name, value, widths) for name, value, widths in held if widths is not None]
    for state, name, _, widths in changed:
        state[name] = widths
    try:
        yield
    finally:
        for state, name, value, widths in changed:
            if state.get(name) is widths:  # unless the forward put something else there
                state[name] = value


NUMBERS = frozenset({int, tuple, list})
"""The types of attributes that may hold integers."""


def held_in(value: Any, path: str, name: str, watch: Watch) -> Any:
    """The integers in an attribute as widths that know where they are from; None where it holds none."""
    kind = type(value)
    if kind is int:
        return ReadWidth(value, watch, (WidthName(path, name),))
    if kind in (tuple, list) and any(type(one) is int for one in value):
        return kind(ReadWidth(one, watch, (WidthName(path, name, n),)) if type(one) is int else one for n, one in enumerate(value))
    return None
