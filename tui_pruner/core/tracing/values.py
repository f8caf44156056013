"""What a trace knows of values: the strands of labels on computed weights, what is zero in a removed channel, and equal constants."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor

from tui_pruner.core.model.predictions import storage_of
from tui_pruner.core.tracing.labels import Axis, Labels, SizedLabels, along, changing, channel_vector, has_channels, varies
from tui_pruner.core.tracing.meta_device import WORK, places_written

if TYPE_CHECKING:
    from tui_pruner.core.tracing.state import Call, Flow


Causes = frozenset[frozenset[Axis]]
"""Sets of parameter axes. Where all axes of any one set are zero at a channel, the values of that channel are zero too."""
NEVER: Causes = frozenset()
ALWAYS: Causes = frozenset([frozenset()])


def any_of(*causes: Causes) -> Causes:
    """What makes a product zero: anything that makes one of its factors zero."""
    return frozenset().union(*causes)


def all_of(*causes: Causes) -> Causes:
    """What makes a sum zero: all of its terms being zero."""
    return frozenset(frozenset().union(*sets) for sets in product(*causes)) if causes else NEVER


@dataclass(frozen=True)
class Strand:
    """One label for each element, and what makes the elements of a removed channel zero."""

    labels: Tensor
    zero: Causes = NEVER

    @cached_property
    def dims(self) -> tuple[int, ...]:
        """The dimensions along which the channel changes."""
        return tuple(changing(self.labels))

    @property
    def present(self) -> bool:
        """Whether any element belongs to a channel."""
        return has_channels(self.labels)

    def expanded(self, shape: tuple[int, ...]) -> Strand:
        """The same labels in a tensor that is broadcast to a shape."""
        return replace(self, labels=self.labels.expand(shape))


@dataclass(frozen=True)
class Computed:
    """The strands of a value that was computed from parameters."""

    strands: tuple[Strand, ...]

    @cached_property
    def changing(self) -> tuple[Strand, ...]:
        """The strands that have more than one channel."""
        return tuple(strand for strand in self.strands if strand.dims)

    @property
    def crossed(self) -> bool:
        """Whether elements belong to several channels."""
        return len(self.changing) > 1

    def as_elements(self) -> Tensor | None:
        """A label for each element where only one strand has several channels; None where an element would have two labels."""
        if self.crossed:
            return None
        return next((strand.labels for strand in (*self.changing, *self.strands)), None)


def words(text: str) -> frozenset[str]:
    """The names of operations in a text."""
    return frozenset(text.split())


ELSEWHERE_AT_ZERO = words("sigmoid hardsigmoid softplus exp cos log logit rsqrt reciprocal ones_like")
"""Element-wise operations that map zero to something else, those of weights among them."""
OF_FEATURES = words(
    "exp2 log2 log10 cosh acos acosh erfc log_sigmoid_forward logical_not full_like "
    "_softmax _safe_softmax _log_softmax logsumexp eq le ge bitwise_not threshold"
)
BOUNDED: dict[str, tuple[tuple[int, str, float | None], ...]] = {
    "clamp": ((1, "min", None), (2, "max", None)),
    "clamp_min": ((1, "min", None), (3, "", None)),
    "clamp_max": ((3, "", None), (1, "max", None)),
    "hardtanh": ((1, "min_val", -1.0), (2, "max_val", 1.0)),
}
"""Operations that keep zero if it is within their bounds: for each bound the argument's position, its name and its default."""
JOINING = words("add sub rsub maximum minimum fmin fmax where lerp addcmul addcdiv hypot complex copy logaddexp atan2 lt gt ne")
"""Operations whose result is zero where all operands are."""
QUOTIENTS = words("div true_divide floor_divide remainder fmod pow")
"""Operations whose result is zero where the first operand is."""
NORMS = words("native_batch_norm _native_batch_norm_legit _native_batch_norm_legit_no_training cudnn_batch_norm")
VALUES = {"fill": 1, "full": 1, "constant_pad_nd": 2, "pad": 2, "masked_fill": 2, "new_full": 2}
"""Operations that write a value, and the position of this argument."""
BLANK = words("zeros ones full empty new_zeros new_ones new_full new_empty zeros_like ones_like full_like empty_like")
"""Operations that make a tensor with the same value everywhere, or one without values that are to be written."""
VIEWS = words(
    "view _unsafe_view _reshape_alias reshape permute transpose t unbind select slice split split_with_sizes chunk squeeze unsqueeze "
    "alias detach"
)
"""Operations whose result shares the memory of what they read."""
ATTENTION = "scaled_dot_product_attention"
STAYING_BLANK = words("fill zero clone _to_copy repeat neg relu tanh sigmoid exp mul add sub div")
"""Operations on such a tensor alone, or on it and a number, after which it still is one."""


def zero_stays(call: Call) -> bool:
    """Whether an element-wise operation maps zero to zero."""
    name = call.name.removesuffix("_")
    if name not in BOUNDED:
        return name not in ELSEWHERE_AT_ZERO
    low, high = (call.argument(*argument) for argument in BOUNDED[name])
    return not any(isinstance(bound, Tensor) for bound in (low, high)) and (low is None or low <= 0) and (high is None or high >= 0)


def is_positive(exponent: Any) -> bool:
    """Whether it is a number by which zero stays zero when it is raised to it."""
    return isinstance(exponent, (int, float)) and exponent > 0


def normalises_channels(flow: Flow, call: Call) -> bool:
    """Whether a layer's normalisation is across channels, so that its weight and bias have one value for each."""
    labels = flow.elements(call.args[0])
    return any(varies(labels, dim) for dim in range(labels.ndim - len(call.args[1]), labels.ndim))


@dataclass(frozen=True)
class Blank:
    """A constant that is the same everywhere: as it was made, by which operation, and where if a forward may fix its sizes there."""

    tensor: Tensor
    operation: int
    place: tuple[str, int] | None

    def dim_of(self, view: Tensor, dim: int) -> int | None:
        """The dimension of the constant that a dimension of a view of it runs along."""
        found = (
            d for d in range(self.tensor.ndim) if self.tensor.stride(d) == view.stride(dim) and self.tensor.shape[d] >= view.shape[dim]
        )
        return next(found, None)

    def note(self, flow: Flow, vector: Labels, dim: int) -> None:
        """Remember that its length along a dimension is the number of these channels, which the forward may compute or have fixed."""
        if self.place is not None:
            others = [entry for entry in flow.record.sized if entry.operation != self.operation]
            entry = SizedLabels(self.operation, vector, self.place, (vector,), dim)
            flow.record.sized = [*others, entry]


@dataclass
class Attended:
    """Attention that divides by the root of a width, in the module at a path: its query, what else it reads, and the steps of the run
    that it takes."""

    path: str
    query: Tensor
    others: Sequence[Tensor]
    steps: list[int] = field(default_factory=list)


class Values:
    """Follows values through a trace. A tensor is known by its memory, so that views and in-place changes are followed too.

    `filled`: a removed channel need not be zero there in the masked twin. `blank`: the constants that are the same everywhere; `written`:
    those into which channels were written since. `products`: the weight and bias that a layer computed a tensor with; `reads`: how often a
    tensor was read, views and attention without a scale of its own left out.
    """

    def __init__(self, constants: Iterable[Tensor]) -> None:
        self.filled = {storage_of(tensor) for tensor in constants}
        self.blank: dict[int, Blank] = {}
        self.written: dict[int, Blank] = {}
        self.products: dict[int, tuple[Tensor, Tensor | None]] = {}
        self.reads: Counter[int] = Counter()
        self.attended: list[Attended] = []

    def is_filled(self, tensor: Tensor) -> bool:
        """Whether the values of a removed channel may be other than zero."""
        return storage_of(tensor) in self.filled

    def is_blank(self, tensor: Tensor) -> bool:
        """Whether it is a constant that is the same everywhere, so that a cut may take any part of it."""
        return storage_of(tensor) in self.blank

    def follow(self, flow: Flow, call: Call) -> None:
        """Record one operation, after its rule."""
        name = call.name.removesuffix("_")
        if flow.approximate and flow.watch.on and not flow.ended:
            self.count(flow, call)
        if self.fills(flow, call, name):
            self.filled.update(map(storage_of, call.outputs))
        if call.name in BLANK and not flow.has_labels(call.result):
            self.blank[storage_of(call.result)] = Blank(call.result, call.index, flow.place_of(call))
        elif self.blank:
            self.follow_blank(flow, call, name)

    def count(self, flow: Flow, call: Call) -> None:
        """Count what an operation reads, or note that it is part of attention without a scale of its own."""
        asked = flow.watch.asked
        if self.attended and not flow.watch.quiet and asked is not None and asked[0] == ATTENTION and asked[2].get("scale") is None:
            self.attended[-1].steps.append(len(flow.record.steps) - 1)
        elif call.name not in VIEWS:
            self.reads.update(map(storage_of, call.tensors))

    def follow_blank(self, flow: Flow, call: Call, name: str) -> None:
        """Record what an operation leaves of the constants that are the same everywhere."""
        inside, given = bool(places_written(call.function)), call.tensors
        if name in STAYING_BLANK and len(given) == 1 and self.is_blank(given[0]):
            made = storage_of(call.result)
            if not inside:
                source = self.blank[storage_of(given[0])]
                same = source.tensor.shape == call.result.shape
                own = replace(source, tensor=call.result) if same else Blank(call.result, call.index, flow.place_of(call))
                self.blank.setdefault(made, own)
            elif call.result.numel() != self.blank[made].tensor.numel():
                del self.blank[made]
        elif inside:
            for tensor in (*call.outputs, *given[:1]):
                self.blank.pop(storage_of(tensor), None)

    def meet(self, flow: Flow, tensor: Tensor, dim: int, vector: Labels) -> None:
        """Have a constant that is the same everywhere be as long along a dimension as the channels that it is combined with are many."""
        made = self.blank[storage_of(tensor)]
        whole = made.dim_of(tensor, dim)
        if whole is not None and made.tensor.shape[whole] == len(vector):
            made.note(flow, vector, whole)

    def give_channels(self, flow: Flow, tensor: Tensor, dim: int) -> None:
        """Give a constant that is the same everywhere new channels along a dimension that is read, or put beside others."""
        if self.blank and self.is_blank(tensor) and not flow.has_labels(tensor) and tensor.shape[dim] > 1:
            vector = flow.record.source.fresh(tensor.shape[dim])
            self.meet(flow, tensor, dim, vector)
            flow.put(tensor, along(vector, dim, tensor.shape))

    def fills(self, flow: Flow, call: Call, name: str) -> bool:
        """Whether the values of a removed channel may be other than zero in the result of an operation."""
        if name in ELSEWHERE_AT_ZERO or name in OF_FEATURES:
            return True
        if name in BOUNDED and not zero_stays(call):
            return True
        if name in JOINING:
            return any(self.is_not_zero(flow, value) for value in call.args[name == "where" :])
        if name == "mul":
            return all(self.is_not_zero(flow, value) for value in call.args[:2])
        if name in QUOTIENTS:
            return self.is_not_zero(flow, call.args[0]) or (name == "pow" and not is_positive(call.args[1]))
        if name in NORMS:
            return call.args[1] is None
        if name in ("ones", "new_ones"):
            return True
        if name == "native_layer_norm" and call.args[3] is not None and not normalises_channels(flow, call):
            return True
        if name in VALUES:
            value = call.argument(VALUES[name], "value", 0)
            return bool(isinstance(value, Tensor) or value) or any(map(self.is_filled, call.tensors[:1]))
        if name in WORK and any(flow.weight(tensor) is not None for tensor in call.tensors):
            return False
        if name in WORK and any(flow.is_computed(tensor) for tensor in call.tensors):
            return not all(flow.vanishes(strand) for t in call.tensors if flow.is_computed(t) for strand in flow.strands(t) if strand.dims)
        return any(map(self.is_filled, call.tensors)) if self.filled else False

    def is_not_zero(self, flow: Flow, value: Any) -> bool:
        """Whether an operand may be other than zero where a channel is removed."""
        if isinstance(value, Tensor):
            return self.is_filled(value) or not flow.has_labels(value)
        return isinstance(value, (int, float, complex)) and value != 0

    def write(self, flow: Flow, call: Call, target: Tensor, labels: Tensor) -> bool:
        """Label a constant into which an operation writes channels along one dimension; whether it is such a write.

        `labels` are those of what is written, in the shape of `target`, which is a view of the constant. Places of a channel that are not
        written keep the constant's value, which is the same for all channels.
        """
        memory = storage_of(target)
        made, dims = self.blank.pop(memory, None) or self.written.get(memory), changing(labels)
        if made is None or len(dims) != 1 or (vector := channel_vector(labels, dims[0])) is None:
            return False
        base, dim = made.tensor, made.dim_of(target, dims[0])
        known = channel_vector(flow.elements(base), dim) if dim is not None else None
        if dim is None or known is None or not base.is_contiguous():
            return False
        start = (target.storage_offset() - base.storage_offset()) // base.stride(dim) % base.shape[dim]
        part, joined = slice(start, start + len(vector)), known.copy()
        flow.record.unify(call.index, known[part], vector)
        joined[part] = np.where(known[part] != 0, known[part], vector)
        made.note(flow, joined, dim)
        flow.put(base, along(joined, dim, base.shape))
        self.written[memory] = made
        return True
