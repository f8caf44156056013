"""What a cut would leave: arithmetic over widths, and a dry run on the meta device."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from tui_pruner.core.model.analysis import Analysis
from tui_pruner.core.model.copies import named_tensors
from tui_pruner.core.pruning.classes import shape_with_fewer
from tui_pruner.core.pruning.removal import NOTHING, Removal
from tui_pruner.core.pruning.surgery import cut
from tui_pruner.core.tracing.coupling_map import Indices
from tui_pruner.core.tracing.inner_blocks import Dropped, inside
from tui_pruner.core.tracing.labels import Axis
from tui_pruner.core.tracing.meta_device import OnMeta

Kernel = Callable[..., Any]
DECIDED = "__dynamo_disable"
"""Where `torch._compile` stores the function to call instead; with a PyTorch that stores it elsewhere a dry run is only slower."""


@cache
def spare_compiler() -> None:
    """Make PyTorch's meta kernels skip the check for its compiler, which this process never uses."""
    from torch._compile import _disable_dynamo
    from torch._decomp import global_decomposition_table

    def anything() -> None: ...

    wrapper = getattr(_disable_dynamo(anything), "__code__", None)
    known: set[int] = set()
    waiting: list[Kernel] = [kernel for table in global_decomposition_table.values() for kernel in table.values()]
    while waiting:
        kernel = waiting.pop()
        if id(kernel) in known:
            continue
        known.add(id(kernel))
        inner = list(enclosed(kernel))
        waiting += inner
        if getattr(kernel, "__code__", None) is wrapper:
            for function in inner:
                setattr(function, DECIDED, function)


def enclosed(kernel: Kernel) -> Iterator[Kernel]:
    """The functions in the closure of a decorated function."""
    for cell in getattr(kernel, "__closure__", None) or ():
        try:
            content = cell.cell_contents
        except ValueError:  # an empty cell
            continue
        if hasattr(content, "__code__"):
            yield content


HALF_PRECISION = 2


@dataclass(frozen=True)
class Size:
    """A model's parameters, floating-point operations for one image, and bytes of its weights in half precision."""

    parameters: int
    flops: int
    bytes: int


@dataclass(frozen=True)
class Widths:
    """The widths of every axis under a removal, and the numbers that follow from them."""

    arithmetic: Arithmetic
    counts: Indices
    of_axis: Indices
    dropped: Dropped = frozenset()

    def axis(self, axis: Axis) -> int:
        """The width of one axis."""
        return int(self.of_axis[self.arithmetic.number[axis]])

    def losing(self, groups: Sequence[int], change: Indices) -> Widths:
        """The widths after each of these groups lost `change` more channels; a negative number gives some back."""
        numbers, counts = list(groups), self.counts.copy()
        counts[numbers] += change
        return Widths(self.arithmetic, counts, self.of_axis - self.arithmetic.shares[:, numbers] @ change, self.dropped)

    @cached_property
    def elements(self) -> Indices:
        """The number of elements that are left of every parameter and buffer."""
        left: Indices = self.arithmetic.elements(self.of_axis) * self.arithmetic.tensors_left(self.dropped)
        return left

    @cached_property
    def size(self) -> Size:
        """The whole model's size."""
        arithmetic, values = self.arithmetic, self.elements
        return Size(
            parameters=int(values[arithmetic.trainable].sum()),
            flops=round(float(self.work.sum())),
            bytes=HALF_PRECISION * int(values[arithmetic.floating].sum()),
        )

    @cached_property
    def work(self) -> NDArray[np.float64]:
        """The FLOPs of every operation that is counted."""
        return self.arithmetic.operations(self.of_axis, self.counts) * self.arithmetic.work_left(self.dropped)

    def work_inside(self, path: str) -> int:
        """The FLOPs of a module and everything in it."""
        return round(float((self.work * self.arithmetic.work_below(path)).sum()))

    def parameters_inside(self, path: str) -> int:
        """The parameters of a module and everything in it."""
        return int((self.elements * self.arithmetic.parameters_below(path)).sum())

    @cached_property
    def parameters_of_layers(self) -> dict[str, int]:
        """Parameters by layer name: a layer's own and those of the norm beside it in its block."""
        arithmetic = self.arithmetic
        sums = np.bincount(arithmetic.owner_of_tensor, weights=self.elements * arithmetic.trainable, minlength=len(arithmetic.owners) + 1)
        return {name: int(total) for name, total in zip(arithmetic.owners, sums)}

    @cached_property
    def flops_of_paths(self) -> dict[str, int]:
        """FLOPs by the module path of the layer."""
        arithmetic = self.arithmetic
        sums = np.bincount(arithmetic.place_of_work, weights=self.work, minlength=len(arithmetic.places))
        return {path: round(float(total)) for path, total in zip(arithmetic.places, sums)}

    def block_shape(self, path: str) -> tuple[int, ...]:
        """The output shape of a block, without the batch."""
        shape = self.arithmetic.analysis.measurement.output_shapes.get(path, ())
        row = self.arithmetic.block_rows.get(path)
        if row is None or not shape:
            classes = self.arithmetic.analysis.coupling.classes
            lost = 0 if classes is None else int(self.counts[classes])
            return shape_with_fewer(self.arithmetic.analysis.skeleton, path, shape, lost)
        return (shape[0] - int(row @ self.counts), *shape[1:])


class Arithmetic:
    """The numbers of one analysis as arrays, so that a preview is a few matrix products. Immutable after construction.

    `shares[axis, group]` is how many positions of an axis one channel of a group takes.
    """

    def __init__(self, analysis: Analysis) -> None:
        coupling = analysis.coupling
        self.analysis = analysis
        self.number: dict[Axis, int] = {axis: n for n, axis in enumerate(coupling.sizes)}
        self.sizes = np.fromiter(coupling.sizes.values(), dtype=np.int64, count=len(coupling.sizes))
        self.shares = np.zeros((len(self.number), len(coupling.groups)), dtype=np.int64)
        for group in coupling.groups:
            for member in group.members:
                self.shares[self.number[member.axis], group.number] = member.indices.shape[1]
        self.block_rows = {path: self._row(groups) for path, groups in coupling.block_outputs.items()}
        self._describe_tensors()
        self._describe_work()
        self._below: dict[tuple[str, str], NDArray[np.bool_]] = {}
        self._left: dict[tuple[str, Dropped], NDArray[np.bool_]] = {}

    def _row(self, groups: Indices) -> Indices:
        channels = np.array([group.channels for group in self.analysis.coupling.groups])
        row: Indices = np.bincount(groups[groups >= 0], minlength=len(channels)) // channels
        return row

    def _describe_tensors(self) -> None:
        tensors = list(named_tensors(self.analysis.skeleton))
        self.tensor_modules = [Axis(name, 0).module for name, _ in tensors]
        self.first, self.second, self.rest = (np.zeros(len(tensors), dtype=np.int64) for _ in range(3))
        self.trainable = np.array([isinstance(tensor, torch.nn.Parameter) for _, tensor in tensors])
        self.floating = np.array([tensor.is_floating_point() for _, tensor in tensors])
        for n, (name, tensor) in enumerate(tensors):
            long = [d for d, side in enumerate(tensor.shape) if side > 1 and Axis(name, d) in self.number][:2]
            self.first[n], self.second[n] = [*(self.number[Axis(name, d)] for d in long), -1, -1][:2]
            self.rest[n] = tensor.numel() // max(1, int(np.prod([tensor.shape[d] for d in long])))

    def _describe_work(self) -> None:
        work = self.analysis.measurement.work
        products = {product.place: product for product in self.analysis.coupling.products}
        axes = [() if n in products else w.axes for n, w in enumerate(work)]
        self.work_first, self.work_second = (
            np.array([self.number.get(own[k], -1) if len(own) > k else -1 for own in axes], dtype=np.int64) for k in range(2)
        )
        self.work_full = np.array([w.flops for w in work], dtype=np.float64)
        self.work_module = [products[n].module if n in products else w.module for n, w in enumerate(work)]
        made = [(n, product.factors) for n, product in products.items() if n < len(work)]  # a trace may continue on the paths of training
        depth = max((len(factors) for _, factors in made), default=0)
        self.work_rows = np.zeros((depth, len(work), len(self.analysis.coupling.groups)), dtype=np.int64)
        self.work_channels = np.ones((depth, len(work)), dtype=np.int64)
        for n, factors in made:
            for k, groups in enumerate(factors):
                self.work_rows[k, n] = self._row(groups)
                self.work_channels[k, n] = max(1, len(groups))

    def elements(self, widths: Indices) -> Indices:
        """The number of elements of every parameter and buffer."""
        padded = np.append(widths, 1)
        product: Indices = padded[self.first] * padded[self.second] * self.rest
        return product

    def operations(self, widths: Indices, counts: Indices) -> NDArray[np.float64]:
        """The FLOPs of every counted operation: of a layer by its widths, of a product of activations by its factors' channels."""
        share = np.append(widths / np.maximum(1, self.sizes), 1.0)
        left = np.prod(1.0 - (self.work_rows @ counts) / self.work_channels, axis=0)
        product: NDArray[np.float64] = self.work_full * share[self.work_first] * share[self.work_second] * left
        return product

    def work_below(self, path: str) -> NDArray[np.bool_]:
        """Which counted operations run in a module or anything in it."""
        return self._inside("work", self.work_module, path)

    def parameters_below(self, path: str) -> NDArray[np.bool_]:
        """Which tensors are parameters of a module or anything in it."""
        below: NDArray[np.bool_] = self.trainable & self._inside("tensors", self.tensor_modules, path)
        return below

    def _inside(self, what: str, modules: Sequence[str], path: str) -> NDArray[np.bool_]:
        if (what, path) not in self._below:
            self._below[what, path] = np.array([bool(inside(module, (path,))) for module in modules], dtype=bool)
        return self._below[what, path]

    def tensors_left(self, dropped: Dropped) -> NDArray[np.bool_]:
        """Which parameters and buffers are outside all dropped blocks."""
        return self._outside("tensors", self.tensor_modules, dropped)

    def work_left(self, dropped: Dropped) -> NDArray[np.bool_]:
        """Which counted operations run outside all dropped blocks."""
        return self._outside("work", self.work_module, dropped)

    def _outside(self, what: str, modules: Sequence[str], dropped: Dropped) -> NDArray[np.bool_]:
        if (what, dropped) not in self._left:
            self._left[what, dropped] = np.array([not inside(module, dropped) for module in modules], dtype=bool)
        return self._left[what, dropped]

    def widths(self, removal: Removal) -> Widths:
        """Every width under a removal."""
        return self.widths_at(removal.counts(self.analysis.coupling), removal.dropped)

    def widths_at(self, counts: Indices, dropped: Dropped) -> Widths:
        """Every width after each group lost `counts` channels."""
        return Widths(self, counts, self.sizes - self.shares @ counts, dropped)

    @cached_property
    def whole(self) -> Widths:
        """The widths of the uncut model."""
        return self.widths(NOTHING)

    @cached_property
    def owners(self) -> list[str]:
        """The names of the layers that have parameters."""
        return list(self.analysis.layers)

    @cached_property
    def owner_of_tensor(self) -> Indices:
        """The layer of every tensor, as a number among the owners; for a tensor outside layers the number after the last."""
        numbers = {name: number for number, name in enumerate(self.owners)}
        layers = self.analysis.layers.values()
        of_module = {layer.name: numbers[layer.name] for layer in layers} | {layer.path: numbers[layer.name] for layer in layers}
        none_of_them = len(numbers)
        found = [of_module.get(module, of_module.get(module.rpartition(".")[0], none_of_them)) for module in self.tensor_modules]
        return np.array(found, dtype=np.int64)

    @cached_property
    def places(self) -> list[str]:
        """The modules in which counted operations run."""
        return list(dict.fromkeys(self.work_module))

    @cached_property
    def place_of_work(self) -> Indices:
        """The module of every counted operation, as a number among `places`."""
        numbers = {path: number for number, path in enumerate(self.places)}
        return np.array([numbers[module] for module in self.work_module], dtype=np.int64)


@dataclass(frozen=True)
class DryRunReport:
    """The result of the pruned model's own forward on the meta device: whether PyTorch accepts the shapes."""

    ok: bool
    seconds: float
    error: str = ""


def dry_run(analysis: Analysis, removal: Removal) -> DryRunReport:
    """Run the pruned model's forward at the real input size on the meta device; no weight is copied."""
    started = time.perf_counter()
    spare_compiler()
    pruned = cut(analysis.skeleton, analysis.coupling, removal)
    running: list[str] = []
    given = analysis.inputs.on_meta()
    try:
        with torch.no_grad(), noting_layers(pruned, running), OnMeta():  # type: ignore[no-untyped-call]
            given.run(pruned)
    except (RuntimeError, ValueError, AssertionError) as error:
        message = f"{running[-1] if running else 'the model'}: {str(error).splitlines()[0]}"
        return DryRunReport(False, time.perf_counter() - started, message)
    return DryRunReport(True, time.perf_counter() - started)


@contextmanager
def noting_layers(model: nn.Module, running: list[str]) -> Iterator[None]:
    """Append the path of every innermost module as it starts, so that a failure can be located."""

    def note(path: str) -> Callable[..., None]:
        return lambda module, args: running.append(path)

    handles = [m.register_forward_pre_hook(note(path)) for path, m in model.named_modules() if not any(True for _ in m.children())]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
