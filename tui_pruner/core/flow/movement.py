"""Rules of operations that move values without changing them: the same operation runs on the labels."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves, tree_map

from tui_pruner.core.adapters import is_adapted
from tui_pruner.core.flow.labels import flat, varies
from tui_pruner.core.flow.rules import Call, rule
from tui_pruner.core.flow.tracer import Flow


@rule("t transpose permute")
def reorder(flow: Flow, call: Call) -> None:
    """Dimensions change places, in a weight as well as in an activation."""
    source = call.args[0]
    axes = flow.weight(source)
    if axes is None:
        run_on_labels(flow, call)
        return
    order = list(range(source.ndim))
    if call.name == "permute":
        order = [d % source.ndim for d in call.args[1]]
    elif source.ndim >= 2:
        first, second = (0, 1) if call.name == "t" else call.args[1:3]
        order[first], order[second] = order[second], order[first]
    flow.put(call.result, axes.permuted(order))


@rule(
    "slice select expand unsqueeze squeeze unbind stack index_select repeat flip roll unfold pixel_shuffle "
    "pixel_unshuffle narrow "
    "index gather native_channel_shuffle channel_shuffle movedim squeeze_ constant_pad_nd pad"
)
def move(flow: Flow, call: Call) -> None:
    """Everything whose result is made of its inputs' values."""
    run_on_labels(flow, call)


@rule("view _unsafe_view reshape _reshape_alias")
def reshape(flow: Flow, call: Call) -> None:
    """A channel axis that is cut into rows must keep its rows of equal length."""
    before = flow.elements(call.args[0])
    after = before.reshape(call.result.shape)
    flow.put(call.result, after)
    cut = [d for d in range(after.ndim) if varies(after, d)]
    if len(cut) >= 2 and sum(varies(before, d) for d in range(before.ndim)) < len(cut):
        rows = after
        for d in range(after.ndim):
            if d not in cut:
                rows = rows.narrow(d, 0, 1)
        flow.link(call, [flat(row) for row in rows.unbind(cut[0])])


@rule("split split_with_sizes chunk tensor_split unsafe_split unsafe_chunk")
def split(flow: Flow, call: Call) -> None:
    """Equal parts of a channel axis are linked; unequal ones are of a fixed width."""
    source = call.args[0]
    dim = call.argument(2, "dim", 0) % source.ndim
    labels = flow.elements(source)
    widths = [out.shape[dim] for out in call.outputs]
    parts = torch.split(labels, widths, dim)
    for out, part in zip(call.outputs, parts, strict=True):
        flow.put(out, part)
    if not varies(labels, dim) or len(parts) < 2:
        return
    for part in parts:
        link_rows(flow, call, part, dim)
    if len(set(widths)) == 1:
        flow.link(call, [flat(part) for part in parts])
    elif not is_adapted(flow.running):
        flow.lock(call, [source], f"is split into fixed widths {widths}")


def link_rows(flow: Flow, call: Call, part: Tensor, dim: int) -> None:
    """Where channels also vary along an earlier dimension (attention heads), each of its rows keeps equally many in this part."""
    rows = [d for d in range(dim) if varies(part, d)]
    if rows:
        flow.link(call, [flat(row) for row in part.unbind(rows[0])])


@rule("cat")
def concatenate(flow: Flow, call: Call) -> None:
    """Channels side by side, constant dimensions kept narrow."""
    tensors = [t for t in call.args[0] if t.ndim == call.result.ndim]
    dim = call.argument(1, "dim", 0) % call.result.ndim
    labels = [flow.elements(t) for t in tensors]
    for d in range(call.result.ndim):
        if d != dim and all(label.stride(d) == 0 for label in labels):
            labels = [label.narrow(d, 0, 1) for label in labels]
    flow.put(call.result, torch.cat(labels, dim).expand(call.result.shape))


def run_on_labels(flow: Flow, call: Call) -> None:
    """Do to the labels what was done to the values; where that needs values that are not there, lock."""
    if not any(flow.has_labels(t) for t in call.tensors):
        return
    args = tree_map(lambda leaf: label_argument(flow, leaf), call.args)
    try:
        moved = torch.ops.aten.constant_pad_nd(args[0], args[1], 0) if call.name == "constant_pad_nd" else call.function(*args)
        outputs = [leaf for leaf in tree_leaves(moved) if isinstance(leaf, Tensor)]
    except (RuntimeError, NotImplementedError, TypeError):
        flow.lock(call, call.tensors, f"{call.name} picks channels by a computed index")
        return
    for out, labels in zip(call.outputs, outputs, strict=True):
        flow.put(out, labels)


def label_argument(flow: Flow, leaf: Any) -> Any:
    """The labels in place of an activation; indices and everything else as they are."""
    if isinstance(leaf, Tensor) and (leaf.is_floating_point() or flow.has_labels(leaf)):
        return flow.elements(leaf)
    return leaf
