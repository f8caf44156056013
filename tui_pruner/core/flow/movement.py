"""Rules of operations that move values without changing them: the same operation runs on the labels."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_map

from tui_pruner.core.adapters import is_adapted
from tui_pruner.core.flow.evaluate import tensors_in
from tui_pruner.core.flow.folding import hold_places, is_row_dimension, link_rows
from tui_pruner.core.flow.labels import changing, flat, varies
from tui_pruner.core.flow.rules import Call, rule
from tui_pruner.core.flow.state import Flow


@rule("t transpose permute")
def reorder(flow: Flow, call: Call) -> None:
    """Dimensions change places, in a weight as well as in an activation."""
    source = call.args[0]
    axes = flow.weight(source)
    if axes is None:
        run_on_labels(flow, call, call.args)
        return
    order = list(range(source.ndim))
    if call.name == "permute":
        order = [d % source.ndim for d in call.args[1]]
    elif source.ndim >= 2:
        first, second = (0, 1) if call.name == "t" else call.args[1:3]
        order[first], order[second] = order[second], order[first]
    flow.put(call.result, axes.permuted(order))


@rule("expand unsqueeze squeeze repeat flip pixel_shuffle pixel_unshuffle movedim")
def move(flow: Flow, call: Call) -> None:
    """Everything whose result is made of its inputs' values."""
    run_on_labels(flow, call, call.args)


@rule("slice select narrow unbind unfold roll")
def move_by_place(flow: Flow, call: Call) -> None:
    """Values found by where they are: along a dimension of channels, a cut would put others there."""
    source = call.args[0]
    dims = call.argument(2, "dims", ()) if call.name == "roll" else call.argument(1, "dim", 0)
    if not (call.name == "slice" and call.result.shape == source.shape):
        hold_places(flow, call, source, [d % source.ndim for d in ([dims] if isinstance(dims, int) else dims)])
    run_on_labels(flow, call, call.args)


@rule("stack")
def stack(flow: Flow, call: Call) -> None:
    """Feature maps side by side in a new dimension are rows of equal length."""
    run_on_labels(flow, call, call.args)
    flow.link(call, [flat(flow.elements(tensor)) for tensor in call.args[0]])


@rule("index gather index_select take_along_dim")
def pick(flow: Flow, call: Call) -> None:
    """Values picked by an index leave the channels of the other dimensions alone; those that an index was computed from meet them."""
    source = call.args[0]
    hold_places(flow, call, source, [d % source.ndim for d in picked_dims(call)])
    run_on_labels(flow, call, (source, *tree_map(anywhere, call.args[1:])))
    for index in (tensor for tensor in call.tensors[1:] if flow.has_labels(tensor)):
        if call.name in ("gather", "take_along_dim"):
            result = flow.elements(call.result)
            flow.unify_or_hold(call, result, flow.elements(index).expand(result.shape), f"{call.name} picks by or from a constant")
        else:
            flow.lock(call, [index], f"{call.name} picks by values of channels")


def anywhere(leaf: Any) -> Any:
    """In place of an index that the trace does not know, one that points at the first position."""
    return torch.zeros(leaf.shape, dtype=torch.int64) if isinstance(leaf, Tensor) and leaf.is_meta else leaf


def picked_dims(call: Call) -> list[int]:
    """The dimensions that an index runs over."""
    if call.name == "index":
        return [d for d, index in enumerate(call.args[1]) if index is not None]
    return [next(argument for argument in call.args[1:] if isinstance(argument, int))]


@rule("constant_pad_nd reflection_pad1d reflection_pad2d reflection_pad3d replication_pad1d replication_pad2d replication_pad3d pad")
def pad(flow: Flow, call: Call) -> None:
    """A border around an image belongs to its channel; padding along the channels adds places that are none."""
    labels, widths = flow.elements(call.args[0]), call.args[1]
    grown = [labels.ndim - 1 - n // 2 for n in range(0, len(widths), 2) if widths[n] or widths[n + 1]]
    across = [0] * len(widths)
    for d in grown:
        if varies(labels, d):
            place = 2 * (labels.ndim - 1 - d)
            across[place : place + 2] = widths[place : place + 2]
        else:
            labels = labels.narrow(d, 0, 1)
    flow.put(call.result, torch.constant_pad_nd(labels, across, 0).expand(call.result.shape))


@rule("copy")
def write_into(flow: Flow, call: Call) -> None:
    """Values written over others: the same channels may take their place, anything else holds both."""
    target, source = call.args[:2]
    over, written = flow.elements(target), flow.elements(source).expand(target.shape)
    flow.unify_or_hold(call, over, written, "is written over a constant, or by one")


@rule("split split_with_sizes chunk tensor_split unsafe_split unsafe_chunk")
def split(flow: Flow, call: Call) -> None:
    """Equal parts of a channel axis are linked; those of widths that the forward names are held, unless an adapter rewrites them."""
    source = call.args[0]
    dim = call.argument(2, "dim", 0) % source.ndim
    labels = flow.elements(source)
    widths = [out.shape[dim] for out in call.outputs]
    parts = torch.split(labels, widths, dim)
    for out, part in zip(call.outputs, parts, strict=True):
        flow.put(out, part)
    if not varies(labels, dim) or len(parts) < 2 or is_row_dimension(flow, labels, dim):
        return
    for part in parts:
        link_rows(flow, call, part)
    named = len(set(widths)) > 1 or call.name == "split_with_sizes"
    if named and not is_adapted(flow.running):
        flow.lock(call, [source], f"is split into fixed widths {widths}")
    elif len(set(widths)) == 1:
        flow.link(call, [flat(part) for part in parts])
        flow.note_sizes(call, labels)


@rule("cat")
def concatenate(flow: Flow, call: Call) -> None:
    """Channels side by side, constant dimensions kept narrow."""
    tensors = [t for t in call.args[0] if t.ndim == call.result.ndim]
    dim = call.argument(1, "dim", 0) % call.result.ndim
    labels = [flow.elements(t) for t in tensors]
    across = [label for label in labels if any(d != dim % label.ndim for d in changing(label))]
    for label in across[1:]:  # channels along another dimension go on side by side
        flow.unify_tensors(call, across[0].narrow(dim, 0, 1), label.narrow(dim, 0, 1))
    for d in range(call.result.ndim):
        if d != dim and all(label.stride(d) == 0 for label in labels):
            labels = [label.narrow(d, 0, 1) for label in labels]
    flow.put(call.result, torch.cat(labels, dim).expand(call.result.shape))


def run_on_labels(flow: Flow, call: Call, args: tuple[Any, ...]) -> None:
    """Do to the labels what was done to the values."""
    if any(flow.has_labels(tensor) for tensor in call.tensors):
        moved = call.function(*tree_map(lambda leaf: label_argument(flow, leaf), args))
        for out, labels in zip(call.outputs, tensors_in(moved), strict=True):
            flow.put(out, labels)


def label_argument(flow: Flow, leaf: Any) -> Any:
    """The labels in place of a tensor that the trace follows; an index that is known, and everything else, as it is."""
    return flow.elements(leaf) if isinstance(leaf, Tensor) and leaf.is_meta else leaf
