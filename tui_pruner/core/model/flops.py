"""FLOPs and parameters of a model, counted in one forward on the meta device, and the output shapes of its blocks."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from tui_pruner.core.model.copies import named_tensors
from tui_pruner.core.model.inputs import Inputs, as_inputs
from tui_pruner.core.tracing.labels import Axis
from tui_pruner.core.tracing.meta_device import WORK, ShapeMode


@dataclass(frozen=True)
class LayerWork:
    """The FLOPs of one layer for one image, 2 per multiply-add; they are proportional to the width of each of `axes`.

    `module` and `axes` are empty where no stored weight is involved.
    """

    module: str
    flops: int
    axes: tuple[Axis, ...]


@dataclass(frozen=True)
class Measurement:
    """What one forward of one image costs, and the output shape of every block that returns a tensor (without the batch)."""

    work: tuple[LayerWork, ...]
    output_shapes: dict[str, tuple[int, ...]]
    shape: tuple[int, ...]

    @property
    def flops(self) -> int:
        """All FLOPs: convolutions, linear layers and matrix products, counted as torchinfo and fvcore do (times 2)."""
        return sum(work.flops for work in self.work)


class WorkMode(ShapeMode):  # type: ignore[no-untyped-call]
    """Counts the FLOPs of convolutions, linear layers and matrix products while shapes flow through."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.work: list[LayerWork] = []
        self._alive: list[Tensor] = []
        self._names = {id(tensor): name for name, tensor in named_tensors(model)}

    def observe(self, name: str, function: Any, args: tuple[Any, ...], kwargs: dict[str, Any], result: Any) -> None:
        """Count one operation."""
        if name not in WORK:
            self._follow(name, args, result)
        elif name == "convolution":
            self._convolution(args[1], result, transposed=args[6], groups=args[8], image=args[0])
        else:
            left, right = args[1:3] if name in ("addmm", "baddbmm") else args[:2]
            self._product(left, right, result)

    def _follow(self, name: str, args: tuple[Any, ...], result: Any) -> None:
        """Recognise a weight after it was transposed."""
        if name in ("t", "transpose") and id(args[0]) in self._names:
            self._names[id(result)] = self._names[id(args[0])]
            self._alive.append(result)

    def _convolution(self, weight: Tensor, result: Tensor, *, transposed: bool, groups: int, image: Tensor) -> None:
        name = self._names.get(id(weight), "")
        positions = (image if transposed else result).shape[2:].numel() * result.shape[0]
        flops = 2 * weight.numel() * positions
        depthwise = groups == weight.shape[0] > 1
        axes = (Axis(name, 0), Axis(name, 1))[: (1 if depthwise else 2) if name else 0]
        self.work.append(LayerWork(axes[0].module if axes else "", flops, axes))

    def _product(self, left: Tensor, right: Tensor, result: Tensor) -> None:
        name = self._names.get(id(right), "")
        axes = (Axis(name, 0), Axis(name, 1)) if name else ()
        self.work.append(LayerWork(axes[0].module if axes else "", 2 * result.numel() * left.shape[-1], axes))


def measure(skeleton: nn.Module, given: Inputs | Sequence[int], blocks: Sequence[tuple[str, nn.Module]]) -> Measurement:
    """Measure one forward on the meta device, with these inputs, or with an image of a shape [1, channels, height, width]."""
    shapes: dict[str, tuple[int, ...]] = {}
    mode, inputs = WorkMode(skeleton), as_inputs(given).on_meta()
    with torch.no_grad(), recording_outputs(blocks, shapes), mode:
        inputs.run(skeleton)
    return Measurement(tuple(mode.work), shapes, next((tuple(tensor.shape) for tensor in inputs.tensors), ()))


@contextmanager
def recording_outputs(blocks: Sequence[tuple[str, nn.Module]], shapes: dict[str, tuple[int, ...]]) -> Any:
    """Record the shape of what each block returns; of a tuple or list, at any depth, the first tensor's."""

    def keep(path: str) -> Any:
        def hook(module: nn.Module, args: Any, output: Any) -> None:
            first = output
            while isinstance(first, (tuple, list)) and first:
                first = first[0]
            if isinstance(first, Tensor):
                shapes[path] = tuple(first.shape[1:])

        return hook

    handles = [module.register_forward_hook(keep(path)) for path, module in blocks]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def parameter_count(model: nn.Module) -> int:
    """The number of a model's parameters."""
    return sum(parameter.numel() for parameter in model.parameters())
