"""Run a model's own forward on the meta device and let labels follow every operation."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from tui_pruner.core.adapters import equal_widths, has_heads, is_adapted
from tui_pruner.core.deadline import TooLate, deadline
from tui_pruner.core.flow.evaluate import ShapeMode
from tui_pruner.core.flow.labels import Axis, AxisLabels, Labels, along, channel_vector, compact, flat, nothing
from tui_pruner.core.flow.record import FlowRecord, LinkedLabels, Operation, Role, SizedLabels
from tui_pruner.core.flow.rules import RULES, Call
from tui_pruner.core.layers import keeps_own_widths, rule_of
from tui_pruner.core.predictions import seeing_inputs, tensors
from tui_pruner.core.skeleton import named_tensors
from tui_pruner.errors import TraceError

CHANNEL_DIMS = 2
PRODUCING: tuple[Role, ...] = ("out", "depthwise")
LONGEST_RUN = 120.0
"""Seconds that a forward may take without computing anything."""


class Flow(ShapeMode):  # type: ignore[no-untyped-call]
    """The state of one trace: which labels each live tensor carries, and the record that grows."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.record = FlowRecord()
        self.modules: list[str] = [""]
        self.entered: list[int] = [0]
        self.outputs: dict[str, Tensor] = {}
        self.running: nn.Module = model
        self._labels: dict[int, Tensor | AxisLabels] = {}
        self._alive: list[Tensor] = []
        self._axis_of_label: dict[int, Axis] = {}
        self._rows: set[bytes] = set()
        self._read: set[int] = set()
        self._detached: dict[int, int] = {}
        for name, tensor in named_tensors(model):
            self._label_parameter(name, tensor)

    def _label_parameter(self, name: str, tensor: Tensor) -> None:
        if tensor.ndim == 0:
            return
        vectors: list[Labels | None] = []
        for dim, size in enumerate(tensor.shape):
            channels = dim < CHANNEL_DIMS or (size > 1 and tensor.numel() == size)
            vectors.append(self.record.source.for_axis(Axis(name, dim), size) if channels else None)
            if vectors[-1] is not None:
                self._axis_of_label[int(vectors[-1][0])] = Axis(name, dim)
        self.put(tensor, AxisLabels(tuple(tensor.shape), tuple(vectors)))

    def observe(self, name: str, function: Any, args: tuple[Any, ...], kwargs: dict[str, Any], result: Any) -> None:
        """Label what came out of an operation by its rule."""
        call = Call(len(self.record.operations), name, self.modules[-1], function, args, kwargs, result)
        self.record.operations.append(Operation(call.index, name, call.module))
        self._read.update(map(id, call.tensors))
        if name == "detach":
            self._detached[id(result)] = id(args[0])
        known = RULES.get(name)
        if known is not None:
            known(self, call)
        elif any(self.has_labels(t) for t in call.tensors):
            self.record.unknown[name] += 1
            self.lock(call, call.tensors, f"no rule for the operation {name}")

    def put(self, tensor: Tensor, labels: Tensor | AxisLabels) -> None:
        """Attach labels to a tensor for as long as the trace lasts."""
        self._labels[id(tensor)] = labels
        self._alive.append(tensor)

    def was_read(self, tensor: Tensor) -> bool:
        """Whether an operation has read a parameter."""
        return id(tensor) in self._read

    def source_of(self, tensor: Tensor) -> int:
        """The identity of the tensor that this one is, but for its gradient."""
        return self._detached.get(id(tensor), id(tensor))

    def has_labels(self, tensor: Tensor) -> bool:
        """Whether a tensor carries any channel."""
        labels = self._labels.get(id(tensor))
        return self.has_labels_in(labels) if isinstance(labels, Tensor) else labels is not None

    @property
    def place(self) -> str:
        """The module that is running, by its path, or the model's class."""
        return self.modules[-1] or type(self.running).__name__

    @staticmethod
    def has_labels_in(labels: Tensor) -> bool:
        """Whether any of these labels is a channel."""
        (small,) = compact(labels)
        return bool((small != 0).any())

    def elements(self, tensor: Tensor) -> Tensor:
        """A tensor's labels element by element, zeros where it carries none."""
        labels = self._labels.get(id(tensor))
        if isinstance(labels, AxisLabels):
            labels = labels.as_elements()
        return nothing(tensor.shape) if labels is None else labels

    def weight(self, tensor: Tensor) -> AxisLabels | None:
        """The labels of a parameter's axes, or None for an activation."""
        labels = self._labels.get(id(tensor))
        return labels if isinstance(labels, AxisLabels) else None

    def mark(self, weight: Tensor, roles: dict[int, Role]) -> None:
        """Say what a weight's dimensions are for."""
        axes = self.weight(weight)
        for dim, role in roles.items():
            vector = axes.vectors[dim] if axes else None
            if vector is not None:
                self.mark_vectors(vector, role)

    def mark_vectors(self, vector: Labels, role: Role) -> None:
        """Say what the axis that owns these labels is for."""
        axis = self._axis_of_label.get(int(vector[0]))
        if axis is not None and self.record.roles.get(axis) not in PRODUCING:  # of tied uses, the one that writes the channels
            self.record.roles[axis] = role

    def unify(self, call: Call, left: Labels, right: Labels, dim: int = 1) -> None:
        """Make two vectors the same channels; a channel that meets a constant in a weight's axis stays as it is."""
        if left.shape != right.shape:
            raise TraceError(f"{call.module}: {call.name} joins {left.shape[0]} with {right.shape[0]} channels at dimension {dim}")
        self.record.unify(call.index, left, right)
        fixed = right[left == 0]
        if len(fixed):
            self.record.lock(call.index, fixed, f"{call.name} reads a value that is no channel", dim, rank=4)

    def unify_vector(self, call: Call, parameter: Tensor, vector: Labels, role: Role) -> None:
        """Tie a vector parameter (bias, norm weight, statistic) to the channels that it belongs to."""
        axes = self.weight(parameter)
        own = axes.vectors[0] if axes else channel_vector(self.elements(parameter), 0)
        if own is not None and own.any() and parameter.ndim == 1:
            self.mark_vectors(own, role)
            self.record.unify(call.index, vector, own)

    def unify_tensors(self, call: Call, left: Tensor, right: Tensor) -> None:
        """Unify position by position."""
        a, b = compact(left, right)
        self.record.unify(call.index, a.reshape(-1).numpy(), b.reshape(-1).numpy())

    def link(self, call: Call, parts: Sequence[Labels], *, rows: bool = False) -> None:
        """Demand that parts of an axis lose equally many channels; each is a row from now on. `rows` came out of a fold of the axis."""
        self.note_rows(parts)
        if len({part.tobytes() for part in parts}) > 1 and all((part != 0).all() for part in parts):
            self.record.links.append(LinkedLabels(call.index, tuple(parts), rows and has_heads(self.running)))

    def note_rows(self, parts: Sequence[Labels]) -> None:
        """Remember vectors whose channels stay together, in their order, whichever of them go."""
        self._rows.update(part.tobytes() for part in parts)

    def note_sizes(self, call: Call, labels: Tensor) -> None:
        """Remember channels that meet sizes which the forward may name; those of PyTorch's layers and of adapted modules are true."""
        if not is_adapted(self.running) and rule_of(self.running) is None and self.has_labels_in(labels):
            place = (type(self.running).__name__, call.index - self.entered[-1])
            self.record.sized.append(SizedLabels(call.index, np.unique(flat(labels)), place))

    def are_rows(self, parts: Sequence[Labels]) -> bool:
        """Whether each of these vectors was seen as a row, or carries no channel."""
        return all(part.tobytes() in self._rows or not part.any() for part in parts)

    def lock(self, call: Call, tensors: Sequence[Tensor], reason: str, dim: int = 1, rank: int = 4) -> None:
        """Forbid cutting any channel of these tensors."""
        for tensor in tensors:
            axes = self.weight(tensor)
            if axes is None:
                self.record.lock(call.index, flat(self.elements(tensor)), reason, dim, rank)
            else:
                for vector in axes.vectors:
                    if vector is not None:
                        self.record.lock(call.index, vector, reason, dim, rank)


def in_words(error: Exception, place: str) -> str:
    """What a failed forward is about."""
    said = str(error).splitlines()[0] if str(error) else type(error).__name__
    if "item() cannot be called on meta" in said or "with Meta tensors" in said:
        return f"{place} decides by a computed value, which a trace of the shapes does not have: such a forward cannot be followed ({said})"
    return f"the forward stopped in {place}: {said}"


def first_place(labels: Tensor) -> Labels:
    """The labels of all channels of a feature map at one place."""
    rest = labels.narrow(0, 0, 1).movedim(1, 0)
    for _ in range(rest.ndim - 1):
        rest = rest.select(1, 0)
    return np.ascontiguousarray(rest.numpy())


@contextmanager
def following_modules(model: nn.Module, flow: Flow, blocks: dict[nn.Module, str]) -> Iterator[None]:
    """Tell the flow which module is running, and keep the labels that each block hands out."""
    handles: list[Any] = []

    def leave(path: str, is_block: bool) -> Callable[..., None]:
        def hook(module: nn.Module, args: Any, output: Any) -> None:
            flow.modules.pop()
            flow.entered.pop()
            flow.running = model.get_submodule(flow.modules[-1])
            if is_block and isinstance(output, Tensor) and output.ndim > 1:
                flow.outputs[path] = flow.elements(output)

        return hook

    def enter(path: str) -> Callable[..., None]:
        def hook(module: nn.Module, args: Any) -> None:
            flow.modules.append(path)
            flow.entered.append(len(flow.record.operations))
            flow.running = module

        return hook

    for path, module in model.named_modules():
        if path:
            handles.append(module.register_forward_pre_hook(enter(path)))
            handles.append(module.register_forward_hook(leave(path, module in blocks)))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def trace(skeleton: nn.Module, shape: Sequence[int], blocks: Sequence[tuple[str, nn.Module]] = ()) -> FlowRecord:
    """Follow the channels of a model through one forward.

    Args:
        skeleton: the model on the meta device, in evaluation mode (`skeleton.without_weights`).
        shape: of a legal input, [batch, channels, height, width]; as small as the model allows.
        blocks: path and module of the model's blocks, the head last. Tensors that the head hands through from its inputs are features for
            the loss and no predictions.

    Raises:
        TraceError: the forward failed.
    """
    flow = Flow(skeleton)
    image = torch.empty(tuple(shape), device="meta")
    start = Operation(0, "input", "")
    flow.record.operations.append(start)
    pixels = flow.record.source.fresh(shape[1])
    flow.put(image, along(pixels, 1, image.shape))
    flow.record.lock(0, pixels, "reads the image", 1, rank=1)
    head = blocks[-1][1] if blocks else None
    with (
        torch.no_grad(),
        following_modules(skeleton, flow, {m: p for p, m in blocks}),
        seeing_inputs(head) as features,
    ):
        try:
            with deadline(LONGEST_RUN), flow:
                outputs = [skeleton(image)]
                with training_paths(skeleton, flow) as found:
                    if found:
                        outputs.append(skeleton(image))
        except TraceError:
            raise
        except TooLate:
            late = f"the forward of {type(skeleton).__name__} had not ended after {LONGEST_RUN:g} seconds, in {flow.place}"
            raise TraceError(f"{late}: trace a model that ends") from None
        except Exception as error:
            raise TraceError(in_words(error, flow.place)) from error
    flow.record.block_outputs.update({path: first_place(labels) for path, labels in flow.outputs.items()})
    link_equal_widths(flow, skeleton)
    hold_own_widths(flow, skeleton)
    end = Operation(len(flow.record.operations), "output", flow.modules[-1])
    flow.record.operations.append(end)
    for leaf in tensors(outputs):
        if flow.source_of(leaf) not in features:
            flow.record.lock(end.index, flat(flow.elements(leaf)), "feeds the model's predictions", 1, rank=0)
    return flow.record


@contextmanager
def training_paths(model: nn.Module, flow: Flow) -> Iterator[bool]:
    """Have the modules above parameters that evaluation never read take the paths of training; whether there are any.

    An auxiliary head runs in training alone, yet it reads channels that a cut takes away. Layers stay in evaluation mode, so that
    normalisation and dropout do what they did.
    """
    idle = [name for name, tensor in named_tensors(model) if tensor.ndim and not flow.was_read(tensor)]
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
    """The paths of all modules above a parameter, the model's own among them."""
    parts = name.split(".")[:-1]
    return [".".join(parts[:depth]) for depth in range(len(parts) + 1)]


def link_equal_widths(flow: Flow, model: nn.Module) -> None:
    """Links that no operation shows: widths that a module's forward takes from its input's shape and demands of something else."""
    own = dict(named_tensors(model))
    for path, module in model.named_modules():
        for pair in equal_widths(module):
            vectors = []
            for name, dim in pair:
                axes = flow.weight(own[f"{path}.{name}"])
                vectors.append(axes.vectors[dim] if axes else None)
            operation = Operation(len(flow.record.operations), "same width", path)
            flow.record.operations.append(operation)
            flow.record.links.append(LinkedLabels(operation.index, tuple(vector for vector in vectors if vector is not None)))


def hold_own_widths(flow: Flow, model: nn.Module) -> None:
    """Lock the parameters of PyTorch's modules that keep widths in attributes which nothing rewrites."""
    for path, module in model.named_modules():
        name = keeps_own_widths(module)
        for tensor in module.parameters(recurse=False) if name else ():
            operation = Operation(len(flow.record.operations), name, path)
            flow.record.operations.append(operation)
            for vector in axes.vectors if (axes := flow.weight(tensor)) else ():
                if vector is not None:
                    flow.record.lock(operation.index, vector, f"PyTorch's {name} keeps its widths in attributes", 0, rank=2)


def load_rules() -> None:
    """Import the modules that fill the table of rules."""
    from tui_pruner.core.flow import contraction, elementwise, folding, movement, reduction  # noqa: F401


load_rules()
