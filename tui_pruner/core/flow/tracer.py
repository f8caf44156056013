"""Run a model's own forward on the meta device and let labels follow every operation."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook

from tui_pruner.core.deadline import TooLate, deadline
from tui_pruner.core.flow import contraction, elementwise, folding, movement, reduction  # noqa: F401  # they fill the table of rules
from tui_pruner.core.flow.assumed import hold_own_widths, link_equal_widths
from tui_pruner.core.flow.labels import Labels, along, flat
from tui_pruner.core.flow.record import FlowRecord
from tui_pruner.core.flow.state import Flow
from tui_pruner.core.predictions import seeing_inputs, tensors
from tui_pruner.core.skeleton import named_tensors
from tui_pruner.errors import TraceError

LONGEST_RUN = 120.0
"""Seconds that a forward may take without computing anything."""


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
    """Tell the flow which module is running, and keep the labels that each block hands out.

    Hooks of the process, as two for each of a thousand modules take longer to register than many a trace.
    """
    paths = {module: path for path, module in model.named_modules()}
    around: list[nn.Module] = []

    def enter(module: nn.Module, args: Any) -> None:
        if module in paths:
            flow.modules.append(paths[module])
            flow.entered.append(len(flow.record.operations))
            around.append(flow.running)
            flow.running = module

    def leave(module: nn.Module, args: Any, output: Any) -> None:
        if module not in paths:
            return
        path, flow.running = flow.modules.pop(), around.pop()
        flow.entered.pop()
        if module in blocks and isinstance(output, Tensor) and output.ndim > 1:
            flow.outputs[path] = flow.elements(output)

    handles = register_module_forward_pre_hook(enter), register_module_forward_hook(leave)
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
    start = flow.record.note("input", "")
    pixels = flow.record.source.fresh(shape[1])
    flow.put(image, along(pixels, 1, image.shape))
    flow.record.lock(start.index, pixels, "reads the image", 1, rank=1)
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
    end = flow.record.note("output", flow.modules[-1])
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
