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
from tui_pruner.core.flow import contraction, elementwise, folding, kernels, movement, reduction  # noqa: F401  # they fill the table of rules
from tui_pruner.core.flow.assumed import hold_own_widths, link_equal_widths
from tui_pruner.core.flow.labels import Labels, along
from tui_pruner.core.flow.record import FlowRecord
from tui_pruner.core.flow.state import Flow
from tui_pruner.core.predictions import seeing_inputs, tensors
from tui_pruner.core.skeleton import named_tensors
from tui_pruner.errors import TraceError

LONGEST_RUN = 120.0
"""Seconds that a forward may take without computing anything."""


NO_VALUES = (
    "on meta",
    "meta device",
    "meta tensor",
    "Meta tensor",
    "out of meta",
    "data-independent",
    "data-dependent",
    "'meta'",
    "fake value",
)
"""How PyTorch says that a tensor without values was asked for one."""
LONGEST_QUOTE = 160


def in_words(error: Exception, place: str) -> str:
    """What a failed forward is about."""
    said = quoted(error)
    if any(phrase in said for phrase in NO_VALUES):
        return f"{place} decides by a computed value, which a trace of the shapes does not have: such a forward cannot be followed ({said})"
    return f"the forward stopped in {place}: {said}"


def quoted(error: Exception) -> str:
    """The first line of what an exception says."""
    said = " ".join((str(error).splitlines() or [""])[0].split()) or type(error).__name__
    said = f"{type(error).__name__}: {said}" if isinstance(error, LookupError) else said
    return said if len(said) <= LONGEST_QUOTE else f"{said[:LONGEST_QUOTE]}..."


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
            flow.given.append(args)
            around.append(flow.running)
            flow.running = module

    def leave(module: nn.Module, args: Any, output: Any) -> None:
        if module not in paths:
            return
        path, flow.running = flow.modules.pop(), around.pop()
        flow.entered.pop()
        flow.given.pop()
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
                with training_paths(skeleton, flow) as idle:
                    if idle:
                        outputs += trained_outputs(skeleton, flow, image, idle)
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
    hold_contradictions(flow)
    end = flow.record.note("output", flow.modules[-1])
    for leaf in tensors(outputs):
        if flow.source_of(leaf) not in features:
            flow.lock_at(end.index, [leaf], "feeds the model's predictions", 1, rank=0)
    return flow.record


def hold_contradictions(flow: Flow) -> None:
    """Lock parameters that one operation divides by and another needs to be zero where a channel is gone."""
    for axis in sorted(flow.record.spared & flow.record.relied):
        operation = flow.record.note("division", axis.module)
        labels = flow.record.source.labels_of(axis)
        flow.record.lock(operation.index, labels, "is divided by in one place and summed over in another", axis.dim)


@contextmanager
def training_paths(model: nn.Module, flow: Flow) -> Iterator[set[nn.Module]]:
    """Have the modules above parameters that evaluation never read take the paths of training; the modules that own those parameters.

    An auxiliary head runs in training alone, yet it reads channels that a cut takes away. Layers stay in evaluation mode, so that
    normalisation and dropout do what they did.
    """
    unread = [name for name, tensor in named_tensors(model) if tensor.ndim and not flow.was_read(tensor)]
    above = {model.get_submodule(path) for name in unread for path in ancestors(name)}
    switched = [module for module in above if next(module.children(), None) is not None]
    for module in switched:
        module.training = True
    try:
        yield {model.get_submodule(name.rpartition(".")[0]) for name in unread} if switched else set()
    finally:
        for module in switched:
            module.training = False


def trained_outputs(model: nn.Module, flow: Flow, image: Tensor, idle: set[nn.Module]) -> list[Any]:
    """What the paths of training give. Where they stop, as an auxiliary head does for which the image is too small, its inputs are held."""
    depth = len(flow.modules)
    try:
        return [model(image)]
    except (TraceError, TooLate):
        raise
    except Exception as error:
        said, place = quoted(error), flow.place
        read = next((n for n in range(depth, len(flow.modules)) if only_in_training(model.get_submodule(flow.modules[n]), idle)), None)
        if read is not None:
            place = flow.modules[read]
            flow.lock_at(
                flow.record.note("training", place).index, tensors(flow.given[read]), f"is read in training only, where it stops: {said}"
            )
        left = "what it reads stays as it is" if read is not None else "layers that only training runs may not fit the pruned model"
        flow.record.remarks.append(f"the forward of training cannot be followed, as it stops in {place} ({said}): {left}")
        del flow.modules[depth:], flow.entered[depth:], flow.given[depth:]
        return []


def only_in_training(module: nn.Module, idle: set[nn.Module]) -> bool:
    """Whether evaluation reads no parameter of a module and of those below it."""
    owners = [part for part in module.modules() if part._parameters]
    return bool(owners) and idle.issuperset(owners)


def ancestors(name: str) -> list[str]:
    """The paths of all modules above a parameter, the model's own among them."""
    parts = name.split(".")[:-1]
    return [".".join(parts[:depth]) for depth in range(len(parts) + 1)]
