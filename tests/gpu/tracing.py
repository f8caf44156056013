"""Tracing while a GPU is pretended: the graph is made on the CPU, and a script remembers the device that it was traced on."""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from tests.gpu.moving import place_of, put
from tests.gpu.tensor import PretendedTensor, held, tensors_in

Function = Callable[..., Any]
PLACE = "traced_on.txt"
"""A file in a script's archive."""


class Script:
    """A traced network whose constants are on a GPU: it takes tensors that are there, and gives such."""

    def __init__(self, graph: Any, place: torch.device, reads_from: torch.device) -> None:
        self._graph, self._place, self._reads_from = graph, place, reads_from

    def __call__(self, *arguments: Tensor) -> Any:
        for tensor in tensors_in(arguments):
            if tensor.device != self._place or self._reads_from != self._place:
                raise RuntimeError(
                    f"Expected all tensors to be on the same device, but found at least two devices, {self._place} and {tensor.device}!"
                )
        return outside(self._graph(*held(list(arguments))), self._place)

    def save(self, file: Any, _extra_files: dict[str, Any] | None = None) -> None:
        """Write the archive."""
        self._graph.save(file, _extra_files={**(_extra_files or {}), PLACE: str(self._place)})

    def __getattr__(self, name: str) -> Any:
        return getattr(self._graph, name)


def outside(result: Any, place: torch.device) -> Any:
    """What a graph gives, on a device."""
    if isinstance(result, Tensor):
        return put(result, place)
    return type(result)(outside(one, place) for one in result) if isinstance(result, (list, tuple)) else result


def on_the_cpu(module: Any, example: Any) -> tuple[Any, Any]:
    """A module and what it is traced with, in plain memory."""
    bare = held(list(example)) if isinstance(example, tuple) else held(example)
    return copy.deepcopy(module).to("cpu"), tuple(bare) if isinstance(example, tuple) else bare


def trace(stock: Function) -> Function:
    """`torch.jit.trace`."""

    @functools.wraps(stock)
    def traced(module: Any, example: Any, *args: Any, **kwargs: Any) -> Any:
        ours = [tensor for tensor in tensors_in(example) if isinstance(tensor, PretendedTensor)]
        if not ours:
            return stock(module, example, *args, **kwargs)
        module(*example) if isinstance(example, tuple) else module(example)  # two devices that meet are found here
        return Script(stock(*on_the_cpu(module, example), *args, **kwargs), ours[0].device, ours[0].device)

    return traced


def load(stock: Function) -> Function:
    """`torch.jit.load`."""

    @functools.wraps(stock)
    def loaded(file: Any, map_location: Any = None, _extra_files: dict[str, Any] | None = None, **named: Any) -> Any:
        extra = {**(_extra_files or {}), PLACE: ""}
        graph = stock(file, map_location="cpu", _extra_files=extra, **named)
        if _extra_files is not None:
            _extra_files.update({name: content for name, content in extra.items() if name != PLACE})
        said = extra[PLACE].decode() if isinstance(extra[PLACE], bytes) else extra[PLACE]
        wanted = None if map_location is None else place_of(map_location)
        if not said and (wanted is None or wanted.type == "cpu"):
            return graph
        place = torch.device(said or "cpu")
        return Script(graph, place, place if wanted is None else wanted)

    return loaded


def export_onnx(stock: Function) -> Function:
    """`torch.onnx.export`: constants of a GPU become plain numbers in the file."""

    @functools.wraps(stock)
    def exported(module: Any, args: Any, *rest: Any, **kwargs: Any) -> Any:
        if not any(isinstance(tensor, PretendedTensor) for tensor in tensors_in(args)):
            return stock(module, args, *rest, **kwargs)
        module(*args) if isinstance(args, tuple) else module(args)
        return stock(*on_the_cpu(module, args), *rest, **kwargs)

    return exported
