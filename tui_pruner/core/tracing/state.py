"""The state of a trace while a forward runs, and the table of rules by operation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from tui_pruner.core.model.layers import rule_of
from tui_pruner.core.tracing.adapters import has_heads, is_adapted
from tui_pruner.core.tracing.labels import (
    BY_PLACE,
    Axis,
    AxisLabels,
    FlowRecord,
    Labels,
    LinkedLabels,
    ProductLabels,
    Role,
    SizedLabels,
    Step,
    all_channels,
    along,
    channel_vector,
    compact,
    flat,
    has_channels,
    nothing,
    small,
)
from tui_pruner.core.tracing.meta_device import WORK, Dependence, ShapeMode, tensors_in, written_by
from tui_pruner.core.tracing.values import NEVER, Attended, Computed, Strand, Values, words
from tui_pruner.core.tracing.watch import Watch, all_known
from tui_pruner.domain.errors import TraceError


@dataclass
class Call:
    """One operation that ran, with its arguments and results; `tensors` and `outputs` are the tensors among these."""

    index: int
    name: str
    module: str
    function: Any
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    result: Any
    tensors: list[Tensor]
    outputs: list[Tensor]

    def argument(self, position: int, name: str, default: Any = None) -> Any:
        """An argument by position or by name."""
        return self.args[position] if len(self.args) > position else self.kwargs.get(name, default)


Rule = Callable[["Flow", Call], None]
RULES: dict[str, Rule] = {}
KERNEL_RULES: dict[str, Rule] = {}
"""Rules of the same operations for weights, whose elements belong to several channels each."""


def kernel_rule(names: str) -> Callable[[Rule], Rule]:
    """Register a function as the rule of these operations on weights, for what happens to a weight before a layer reads it."""
    return into(KERNEL_RULES, names)


def rule(names: str) -> Callable[[Rule], Rule]:
    """Register a function as the rule of these aten operations (names between spaces), and of their in-place forms."""
    return into(RULES, names)


def into(table: dict[str, Rule], names: str) -> Callable[[Rule], Rule]:
    """Register a function in a table under these names and their in-place forms."""

    def register(function: Rule) -> Rule:
        for name in names.split():
            table[name] = table[f"{name}_"] = function
        return function

    return register


CHANNEL_DIMS = 2
UNSTEADY = {"detach"}
"""Operations that PyTorch inserts in one run of a network and leaves out in the next."""
ARITHMETIC = words(
    "add sub rsub mul div pow clamp clamp_min clamp_max lerp addcmul full full_like new_full fill constant_pad_nd masked_fill where "
    "softplus hardtanh leaky_relu elu celu threshold addmm baddbmm softshrink hardshrink rrelu logit nan_to_num remainder fmod "
    "floor_divide eq ne lt le gt ge norm linalg_vector_norm"
)
"""Operations whose numbers are values; the numbers of others are sizes and positions, which may well be computed from a width."""
ENDING = "output"
"""The name of the last step of a run, which has the numbers among what the forward returns."""


def step_of(name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Step:
    """An operation with the numbers that it computes with; a tensor without dimensions counts where its value is known."""
    if name.removesuffix("_") not in ARITHMETIC:
        return "slice" if name == "alias" else name, ()  # PyTorch makes an alias of a slice of everything
    given = (*args, *kwargs.values()) if kwargs else args
    known = (float(a) if isinstance(a, Tensor) else a for a in given if not isinstance(a, Tensor) or (not a.is_meta and a.ndim == 0))
    return name, tuple(number for number in known if isinstance(number, (int, float)))


def numbers_in(output: Any) -> tuple[float, ...]:
    """The numbers among what a forward returns, beside its tensors."""
    return tuple(leaf for leaf in tree_leaves(output) if isinstance(leaf, (int, float)))


def bounds_of(call: Call, size: int) -> tuple[int, int]:
    """Start and end of a slice along its dimension."""
    start, end, _ = slice(call.argument(2, "start"), call.argument(3, "end")).indices(size)
    return start, max(start, end)


def is_table(model: nn.Module, name: str, tensor: Tensor) -> bool:
    """Whether a tensor is of the shape [1, places, channels] and no kernel, as what a transformer adds to its tokens."""
    if tensor.ndim != CHANNEL_DIMS + 1 or tensor.shape[0] != 1:
        return False
    owner = model.get_submodule(name.rpartition(".")[0])
    return not (isinstance(owner, nn.modules.conv._ConvNd) or type(owner).__module__.startswith("torch.nn."))


Rows = tuple[Labels, int]
PRODUCING: tuple[Role, ...] = ("out", "depthwise")


class Flow(ShapeMode):  # type: ignore[no-untyped-call]
    """The state of one trace: which labels each live tensor carries, and the record so far."""

    whole = RULES

    def __init__(self, model: nn.Module, approximate: bool = False) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.record = FlowRecord()
        self.approximate = approximate
        self.modules: list[str] = [""]
        self.entered: list[int] = [0]
        self.given: list[tuple[Any, ...]] = [()]
        self.outputs: dict[str, Tensor] = {}
        self.given_labels = (0, 0)
        self.model = self.running = model
        self._labels: dict[int, Tensor | AxisLabels | Computed] = {}
        self._alive: list[Tensor] = []
        self._axis_of_label: dict[int, Axis] = {}
        self.dependence = Dependence(model)
        self._parameters = {name for name, tensor in self.dependence.tensors.items() if isinstance(tensor, nn.Parameter)}
        self._lost: list[Tensor] = []
        self._work = 0
        self._aside = False
        self.ended = False
        self._rows: set[bytes] = set()
        self._knowing: dict[nn.Module, bool] = {}
        known, made = (lambda tensor: self._labels.get(id(tensor))), self.dependence.made
        self.watch = Watch(known, self._attend, self._rows, made, self.record.named)
        self.values = Values(tensor for name, tensor in self.dependence.tensors.items() if name not in self._parameters)
        for name, tensor in self.dependence.tensors.items():
            self._label_parameter(name, tensor, CHANNEL_DIMS + is_table(model, name, tensor))

    def _label_parameter(self, name: str, tensor: Tensor, dims: int) -> None:
        shape, count, source = tuple(tensor.shape), tensor.numel(), self.record.source
        if not shape or not count:
            return
        vectors: list[Labels | None] = [None] * len(shape)
        for dim, size in enumerate(shape):
            if dim < dims or (size > 1 and count == size):
                axis = self._axis_of_label[source.count] = Axis(name, dim)
                vectors[dim] = source.for_axis(axis, size)
        self.put(tensor, AxisLabels(shape, tuple(vectors)))

    def observe(self, name: str, function: Any, args: tuple[Any, ...], kwargs: dict[str, Any], result: Any) -> None:
        """Label the results of an operation by its rule."""
        if self._aside:
            return
        given, made = tensors_in((*args, *kwargs.values()) if kwargs else args), tensors_in(result)
        call = Call(len(self.record.operations), name, self.modules[-1], function, args, kwargs, result, given, made)
        self.record.note(name, call.module)
        if name not in UNSTEADY and not self.ended:
            self.record.steps.append(step_of(name, args, kwargs))
        self.dependence.follow(given, made, tensors_in(written_by(function, args, kwargs)))
        self.watch.note_unseen(given)
        self._work += name in WORK
        known = RULES.get(name) if name not in KERNEL_RULES or not self._is_about_weights(call) else KERNEL_RULES[name]
        if known is not None:
            known(self, call)
        elif any(self.has_labels(t) for t in call.tensors):
            self.record.unknown[name] += 1
            self.lock(call, call.tensors, f"no rule for the operation {name}")
        if self._lost:
            self.lock(call, self._lost, f"belongs to a weight that the forward computes with {name}")
            self._lost = []
        self.values.follow(self, call)

    def _is_about_weights(self, call: Call) -> bool:
        """Whether an operation works on parameters only, or on a tensor whose elements belong to several channels each."""
        known = [labels for tensor in call.tensors if (labels := self._labels.get(id(tensor))) is not None]
        weights = [labels for labels in known if not isinstance(labels, Tensor)]
        return bool(weights) and (len(weights) == len(known) or any(labels.crossed for labels in weights))

    def put(self, tensor: Tensor, labels: Tensor | AxisLabels | Computed) -> None:
        """Attach labels to a tensor for the rest of the trace."""
        self._labels[id(tensor)] = labels
        self._alive.append(tensor)

    def put_same(self, tensor: Tensor, other: Tensor) -> None:
        """Attach another tensor's labels, in any form."""
        labels = self._labels.get(id(other))
        if labels is not None:
            self.put(tensor, labels)

    def has_labels(self, tensor: Tensor) -> bool:
        """Whether a tensor carries any channel."""
        labels = self._labels.get(id(tensor))
        if isinstance(labels, Computed):
            return any(strand.present for strand in labels.strands)
        return has_channels(labels) if isinstance(labels, Tensor) else labels is not None

    @property
    def place(self) -> str:
        """The path of the module that is running, or the model's class."""
        return self.modules[-1] or type(self.running).__name__

    def elements(self, tensor: Tensor) -> Tensor:
        """A tensor's labels element by element, zero where it has none; labels of a weight, whose elements have several, are locked."""
        labels = self._labels.get(id(tensor))
        if isinstance(labels, (AxisLabels, Computed)):
            if labels.crossed:
                self._lost.append(tensor)
            labels = labels.as_elements()
        return nothing(tensor.shape) if labels is None else labels

    def is_given(self, labels: Tensor) -> bool:
        """Whether these are labels of the forward's inputs only, which no cut removes, as it removes no constant."""
        own = small(labels)
        return bool(((own == 0) | ((own >= self.given_labels[0]) & (own < self.given_labels[1]))).all())

    def aside(self, tensor: Tensor) -> Tensor:
        """The same while the forward runs, without recording the operations that this takes."""
        self._aside = True
        try:
            return self.elements(tensor)
        finally:
            self._aside = False

    def weight(self, tensor: Tensor) -> AxisLabels | None:
        """The labels of a parameter's axes; None for any other tensor."""
        labels = self._labels.get(id(tensor))
        return labels if isinstance(labels, AxisLabels) else None

    def is_computed(self, tensor: Tensor) -> bool:
        """Whether a tensor was computed from parameters."""
        return isinstance(self._labels.get(id(tensor)), Computed)

    def strands(self, tensor: Tensor) -> tuple[Strand, ...]:
        """All labels of any tensor, a strand for each axis of a parameter."""
        labels = self._labels.get(id(tensor))
        if isinstance(labels, Computed):
            return labels.strands
        if isinstance(labels, Tensor):
            return (Strand(labels),) if has_channels(labels) else ()
        return tuple(self._strand_of(labels, dim) for dim, vector in enumerate(labels.vectors) if vector is not None) if labels else ()

    def _strand_of(self, labels: AxisLabels, dim: int) -> Strand:
        vector = labels.vectors[dim]
        assert vector is not None
        axis = self._axis_of_label.get(int(vector[0]))
        zero = frozenset([frozenset([axis])]) if axis is not None and axis.parameter in self._parameters else NEVER
        return Strand(along(vector, dim, labels.shape), zero)

    def vanishes(self, strand: Strand) -> bool:
        """Whether the values of a removed channel are zero in the masked twin."""
        return any(not cause & self.record.spared for cause in strand.zero)

    def rely(self, strand: Strand) -> None:
        """Record that the values of a removed channel must be zero."""
        usable = [sorted(cause) for cause in strand.zero if not cause & self.record.spared]
        self.record.relied.update(min(usable, default=[]))

    def spare(self, tensor: Tensor) -> None:
        """Record that something is divided by a tensor: in the masked twin the parameters that could make it zero keep their values."""
        for strand in self.strands(tensor):
            self.record.spared.update(*strand.zero)

    def note_work(self, call: Call, *factors: Labels | None) -> None:
        """Record which labels the work of a convolution or product is proportional to, where it has no stored weight."""
        if call.name in WORK:
            known = tuple(factor for factor in factors if factor is not None)
            self.record.products.append(ProductLabels(call.index, self._work - 1, known))

    def mark_vectors(self, vector: Labels, role: Role) -> None:
        """Record the role of the axes that these labels belong to."""
        axis = self._axis_of_label.get(int(vector[0]))
        whole = axis is not None and len(vector) == self.record.source.sizes[axis]
        for owner in [axis] if whole and axis is not None else self.record.source.owners(vector):
            if self.record.roles.get(owner) not in PRODUCING:  # of several uses, the one that produces the channels counts
                self.record.roles[owner] = role

    def unify(self, call: Call, left: Labels, right: Labels, dim: int = 1) -> None:
        """Tie two vectors; a channel on a weight's axis that meets a constant is locked."""
        if left.shape != right.shape:
            raise TraceError(f"{call.module}: {call.name} joins {left.shape[0]} with {right.shape[0]} channels at dimension {dim}")
        self.record.unify(call.index, left, right)
        if not all_channels(left):
            self.record.lock(call.index, right[left == 0], f"{call.name} reads a value that is not a channel", dim, rank=4)

    def unify_vector(self, call: Call, parameter: Tensor, vector: Labels, role: Role) -> None:
        """Tie a vector parameter (bias, norm weight, statistic) to the channels that it belongs to."""
        axes = self.weight(parameter)
        own = axes.vectors[0] if axes is not None and len(axes.shape) == 1 else channel_vector(self.elements(parameter), 0)
        if own is not None and parameter.ndim == 1:
            self.mark_vectors(own, role)
            self.unify(call, own, vector)

    def unify_tensors(self, call: Call, left: Tensor, right: Tensor) -> None:
        """Tie two tensors position by position."""
        a, b = compact(left, right)
        self.record.unify(call.index, a.reshape(-1).numpy(), b.reshape(-1).numpy())

    def unify_or_lock(self, call: Call, left: Tensor, right: Tensor, reason: str) -> None:
        """Tie two tensors position by position; a channel that meets none is locked."""
        self.unify_tensors(call, left, right)
        a, b = compact(left, right)
        for labels, other in ((a, b), (b, a)):
            self.record.lock(call.index, labels[(labels != 0) & (other == 0)].numpy(), reason, 1, rank=4)

    def link(self, call: Call, parts: Sequence[Labels], *, rows: bool = False) -> None:
        """Link parts of an axis: they must lose equally many channels, and each is a row from now on. `rows`: they are from a `view`."""
        self.note_rows(parts)
        if len({part.tobytes() for part in parts}) > 1:  # what has no channel in a part stays in its place
            channels = tuple(part[part != 0] for part in parts)
            self.record.links.append(LinkedLabels(call.index, channels, "" if not rows else "heads" if has_heads(self.running) else "rows"))

    def note_rows(self, parts: Sequence[Labels]) -> None:
        """Remember vectors whose channels stay next to each other, in order, whichever of them are removed."""
        self._rows.update(part.tobytes() for part in parts)

    def note_sizes(
        self, call: Call, labels: Tensor, widths: Sequence[Labels] = (), dim: int = 0, otherwise: str = "", rows: Rows | None = None
    ) -> bool:
        """Remember channels at sizes that a forward may fix; whether it may: PyTorch's layers and adapted modules do not."""
        if not has_channels(labels):
            return False
        place = self.place_of(call)
        follows = self.watch.follows(call.index, call.result, widths, dim, otherwise == BY_PLACE)
        if place is not None:
            sized = SizedLabels(call.index, flat(labels), place, tuple(widths), dim, otherwise, rows, follows)
            self.record.sized.append(sized)
        elif not follows and not self.watch.quiet:
            self.watch.note(call.tensors)
        return place is not None

    def place_of(self, call: Call) -> tuple[str, int] | None:
        """The class of the running module and how many operations it has run; None where a forward fixes no sizes that are not known."""
        if self.running not in self._knowing:
            self._knowing[self.running] = is_adapted(self.running) or rule_of(self.running) is not None
        return None if self._knowing[self.running] else (type(self.running).__name__, call.index - self.entered[-1])

    def note_slice(self, call: Call, labels: Tensor) -> bool:
        """Remember the bounds of a slice of a single vector of channels, which the forward may compute or have fixed; whether it is one."""
        dim = call.argument(1, "dim", 0) % labels.ndim
        vector, size = channel_vector(labels, dim), labels.shape[dim]
        start, end = bounds_of(call, size)
        if vector is None or call.argument(4, "step", 1) != 1:
            return False
        return self.note_sizes(call, labels, (vector[:start], vector[:end], vector), dim, BY_PLACE)

    def are_rows(self, parts: Sequence[Labels]) -> bool:
        """Whether each of these vectors is known as a row, or carries no channel."""
        return all_known(parts, self._rows)

    def lock(self, call: Call, tensors: Sequence[Tensor], reason: str, dim: int = 1, rank: int = 4) -> None:
        """Forbid removing any channel of these tensors."""
        self.lock_at(call.index, tensors, reason, dim, rank)

    def known(self, tensor: Tensor) -> Tensor | AxisLabels | Computed | None:
        """A tensor's labels in any form."""
        return self._labels.get(id(tensor))

    def axis_at(self, label: int) -> Axis | None:
        """The axis whose first label this is."""
        return self._axis_of_label.get(label)

    def _attend(self, query: Tensor, others: Sequence[Tensor]) -> None:
        self.values.attended.append(Attended(self.modules[-1], query, others))

    def lock_at(self, operation: int, tensors: Sequence[Tensor], reason: str, dim: int = 1, rank: int = 4) -> None:
        """The same for an operation by its number."""
        for tensor in tensors:
            for strand in self.strands(tensor):
                self.record.lock(operation, flat(strand.labels), reason, dim, rank)
