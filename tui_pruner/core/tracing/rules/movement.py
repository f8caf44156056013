"""Rules for data movement: labels move like the data; splitting an axis into rows links the parts; unfold, fold and indexing."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils._pytree import tree_map

from tui_pruner.core.model.predictions import storage_of
from tui_pruner.core.tracing.adapters import is_adapted
from tui_pruner.core.tracing.labels import (
    Labels,
    along,
    changing,
    channel_vector,
    compact,
    condensed,
    flat,
    nothing,
    reshaped,
    rows_of,
    varies,
    vector_along,
)
from tui_pruner.core.tracing.meta_device import tensors_in
from tui_pruner.core.tracing.state import Call, Flow, rule


@rule("view _unsafe_view reshape _reshape_alias")
def reshape(flow: Flow, call: Call) -> None:
    """Reshape: a channel axis that is split becomes rows; merged axes join rows, or tie columns."""
    if not call.result.numel():
        flow.watch.blind = True  # no element has a label that would show a fixed size
        return
    before = flow.elements(call.args[0])
    old_dims = changing(before)
    after, dims = reshaped(before, old_dims, call.result.shape)
    flow.put(call.result, after)
    row = dims[-1:] if len(dims) < 2 or len(dims) > len(old_dims) else []
    rows = (vector_along(after, dims[0]), dims[0]) if len(dims) > 1 else None
    flow.note_sizes(call, before, [vector_along(after, dim) for dim in row], sum(row), rows=rows)
    if [before.shape[dim] for dim in old_dims] == [after.shape[dim] for dim in dims]:
        return
    if len(dims) > len(old_dims):
        flow.link(call, rows_of(after), rows=True)
    elif len(dims) < len(old_dims):
        join(flow, call, before, old_dims)
        flow.note_rows(rows_of(after))
    elif len(dims) > 1 and not flow.are_rows(rows_of(after)):
        old, new = condensed(before, old_dims), condensed(after, dims)
        if not is_widened(old, new) and not spread_out(flow, call, old, new):
            flow.lock(call, [call.args[0]], f"is folded from {list(old.shape)} to {list(new.shape)} channels")


def is_widened(old: Tensor, new: Tensor) -> bool:
    """Whether every row only repeats each of its channels, as when an image is flattened."""
    times = new.shape[-1] // old.shape[-1]
    return old.shape[:-1] == new.shape[:-1] and torch.equal(old.repeat_interleave(times, -1), new)


def spread_out(flow: Flow, call: Call, old: Tensor, new: Tensor) -> bool:
    """Tie the channels of each row, where every row is only spread over other places, as rows of four over an image twice as large."""
    rows = old.reshape(len(old), -1)
    if len(new) != len(old) or not all(torch.equal(a.unique(), b.unique()) for a, b in zip(rows, new.reshape(len(new), -1))):
        return False
    flow.unify_or_lock(call, rows, rows[:, :1].expand(rows.shape), "is spread with values that are no channels")
    return True


def join(flow: Flow, call: Call, before: Tensor, dims: Sequence[int]) -> None:
    """Join rows: consecutive ones stay independent, interleaved ones are tied position by position, anything else is locked."""
    if flow.are_rows(rows_of(before)):
        return
    columns = rows_of(before.transpose(*dims)) if len(dims) == 2 else []
    if columns and flow.are_rows(columns):
        tie(flow, call, columns)
    else:
        flow.lock(call, [call.args[0]], "is folded across channels that are not known to be rows")


def tie(flow: Flow, call: Call, rows: Sequence[Labels]) -> None:
    """Tie the k-th channels of all rows."""
    for other in rows[1:]:
        flow.unify_or_lock(call, torch.from_numpy(rows[0]), torch.from_numpy(other), "is dealt out with values that are no channels")


def is_row_dimension(flow: Flow, labels: Tensor, dim: int) -> bool:
    """Whether a dimension counts rows, so that no cut changes its length."""
    return len(changing(labels)) > 1 and flow.are_rows(rows_of(labels.movedim(dim, 0)))


def lock_positions(flow: Flow, call: Call, source: Tensor, dims: Sequence[int]) -> None:
    """Lock channels that an operation addresses by their position along a dimension: a cut would move others there."""
    labels = flow.elements(source)
    if any(varies(labels, d) and not is_row_dimension(flow, labels, d) for d in dims):
        flow.lock(call, [source], f"{call.name} takes channels by their place", rank=3)


def link_rows(flow: Flow, call: Call, part: Tensor) -> None:
    """Link the rows of this part where channels also vary along an earlier dimension (attention heads): all keep equally many."""
    flow.link(call, rows_of(part), rows=True)


@rule("channel_shuffle native_channel_shuffle")
def shuffle(flow: Flow, call: Call) -> None:
    """Channel shuffle: link the groups and tie the k-th channels of all, which it interleaves."""
    labels, groups = flow.elements(call.args[0]), int(call.args[1])
    vector = flat(labels.movedim(1, 0).reshape(labels.shape[1], -1)[:, 0])
    rows = list(vector.reshape(groups, -1))
    flow.link(call, rows)
    tie(flow, call, rows)
    flow.put(call.result, torch.channel_shuffle(labels.contiguous(), groups))


@rule("glu")
def gated(flow: Flow, call: Call) -> None:
    """Gated linear unit: tie the two halves position by position."""
    labels = flow.elements(call.args[0])
    first, second = labels.chunk(2, call.argument(1, "dim", -1))
    flow.link(call, [flat(first), flat(second)])
    flow.unify_or_lock(call, first, second, "gates a value that is not a channel, or is gated by one")
    flow.put(call.result, first)


@rule("t transpose permute")
def reorder(flow: Flow, call: Call) -> None:
    """Reorder the dimensions of a weight or an activation."""
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


@rule("expand unsqueeze squeeze repeat flip rot90 pixel_shuffle pixel_unshuffle movedim")
def move(flow: Flow, call: Call) -> None:
    """Apply the operation to the labels: its result consists of its inputs' values."""
    run_on_labels(flow, call, call.args)


@rule("slice select narrow unbind unfold roll")
def move_by_place(flow: Flow, call: Call) -> None:
    """Select values by position; channels along that dimension are locked, since a cut would move others there."""
    source = call.args[0]
    dims = call.argument(2, "dims", ()) if call.name == "roll" else call.argument(1, "dim", 0)
    if call.name == "slice" and (call.result.shape == source.shape or sliced(flow, call, source)):
        pass
    else:
        lock_positions(flow, call, source, [d % source.ndim for d in ([dims] if isinstance(dims, int) else dims)])
    run_on_labels(flow, call, call.args)


def sliced(flow: Flow, call: Call, source: Tensor) -> bool:
    """Whether a slice is along channels and its bounds can be tried."""
    labels, dim = flow.elements(source), call.argument(1, "dim", 0) % source.ndim
    return varies(labels, dim) and not is_row_dimension(flow, labels, dim) and flow.note_slice(call, labels)


@rule("stack")
def stack(flow: Flow, call: Call) -> None:
    """Stack feature maps in a new dimension: they become rows of equal length."""
    run_on_labels(flow, call, call.args)
    flow.link(call, [flat(flow.elements(tensor)) for tensor in call.args[0]])


@rule("index _unsafe_index gather index_select take_along_dim")
def pick(flow: Flow, call: Call) -> None:
    """Select values by an index: channels of the other dimensions pass through; those of the index are tied (gather) or locked."""
    source = call.args[0]
    lock_positions(flow, call, source, [d % source.ndim for d in picked_dims(call)])
    run_on_labels(flow, call, (source, *tree_map(anywhere, call.args[1:])))
    for index in (tensor for tensor in call.tensors[1:] if flow.has_labels(tensor)):
        if call.name in ("gather", "take_along_dim"):
            result = flow.elements(call.result)
            flow.unify_or_lock(call, result, flow.elements(index).expand(result.shape), f"{call.name} picks by or from a constant")
        else:
            flow.lock(call, [index], f"{call.name} picks by values of channels")


def anywhere(leaf: Any) -> Any:
    """An index that the trace does not know, replaced by the first position."""
    return torch.zeros(leaf.shape, dtype=torch.int64) if isinstance(leaf, Tensor) and leaf.is_meta else leaf


def picked_dims(call: Call) -> list[int]:
    """The dimensions that an index selects from."""
    if call.name in ("index", "_unsafe_index"):
        return [d for d, index in enumerate(call.args[1]) if index is not None]
    return [next(argument for argument in call.args[1:] if isinstance(argument, int))]


@rule("constant_pad_nd reflection_pad1d reflection_pad2d reflection_pad3d replication_pad1d replication_pad2d replication_pad3d pad")
def pad(flow: Flow, call: Call) -> None:
    """Pad: spatial padding keeps the channel's label; padding along the channel dimension adds unlabelled positions."""
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
    """Overwrite values: those of the same channels may replace each other, and one value those of all channels; else both are locked."""
    target, source = call.args[:2]
    over, written = flow.elements(target), flow.elements(source).expand(target.shape)
    if flow.has_labels(source) and not flow.has_labels(target) and flow.values.write(flow, call, target, written):
        flow.put(target, written)
    elif flow.has_labels(source) or any(varies(over, d) for d in extents_of(source, over.ndim)):
        flow.unify_or_lock(call, over, written, "is written over a constant, or by one")


def extents_of(tensor: Tensor, ndim: int) -> list[int]:
    """The dimensions along which a tensor that is broadcast to `ndim` dimensions has more than one place."""
    return [d for d in range(ndim - tensor.ndim, ndim) if tensor.shape[d - ndim] > 1 and tensor.stride(d - ndim) > 0]


@rule("split split_with_sizes chunk tensor_split unsafe_split unsafe_chunk")
def split(flow: Flow, call: Call) -> None:
    """Split a channel axis: equal parts are linked, parts of fixed widths are locked unless an adapter rewrites these widths."""
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
        reason = f"is split into fixed widths {widths}"
        if not flow.note_sizes(call, labels, [vector_along(part, dim) for part in parts], dim, reason):
            flow.lock(call, [source], reason)
    elif len(set(widths)) == 1:
        flow.link(call, [flat(part) for part in parts])
        flow.note_sizes(call, labels, [vector_along(part, dim) for part in parts], dim)


@rule("cat")
def concatenate(flow: Flow, call: Call) -> None:
    """Concatenate labels; dimensions along which they are constant are stored with length 1."""
    tensors = [t for t in call.args[0] if t.ndim == call.result.ndim]
    dim = call.argument(1, "dim", 0) % call.result.ndim
    for tensor in tensors:
        flow.values.give_channels(flow, tensor, dim)
    labels = [flow.elements(t) for t in tensors]
    if any(varies(label, dim) for label in labels):  # an input [batch, places, channels] beside features: its places are taken for channels
        labels = [nothing(label.shape) if not varies(label, dim) and flow.is_given(label) else label for label in labels]
    across = [label for label in labels if any(d != dim % label.ndim for d in changing(label))]
    for label in across[1:]:  # channels along another dimension stay side by side
        flow.unify_tensors(call, across[0].narrow(dim, 0, 1), label.narrow(dim, 0, 1))
    if len(across) == len(labels) and (shared := the_same_at(across, dim)) is not None:
        flow.put(call.result, shared.expand(call.result.shape))
        return
    for d in range(call.result.ndim):
        if d != dim and all(label.stride(d) == 0 for label in labels):
            labels = [label.narrow(d, 0, 1) for label in labels]
    flow.put(call.result, torch.cat(labels, dim).expand(call.result.shape))


def the_same_at(labels: Sequence[Tensor], dim: int) -> Tensor | None:
    """The labels of the first tensor at its first place along a dimension, where all tensors have channels at the same places and none
    has others along it."""
    if any(varies(label, dim) for label in labels):
        return None
    first, *others = compact(*(label.narrow(dim, 0, 1) for label in labels))
    return labels[0].narrow(dim, 0, 1) if all(torch.equal(first != 0, other != 0) for other in others) else None


def run_on_labels(flow: Flow, call: Call, args: tuple[Any, ...]) -> None:
    """Apply the operation to the labels."""
    if any(flow.has_labels(tensor) for tensor in call.tensors):
        moved = call.function(*tree_map(lambda leaf: label_argument(flow, leaf), args))
        for out, labels in zip(call.outputs, tensors_in(moved), strict=True):
            flow.put(out, labels)


def label_argument(flow: Flow, leaf: Any) -> Any:
    """The labels of a tensor that the trace follows; a known index, or any other argument, as it is."""
    return flow.elements(leaf) if isinstance(leaf, Tensor) and leaf.is_meta else leaf


@rule("as_strided")
def restrided(flow: Flow, call: Call) -> None:
    """Change of memory layout. PyTorch's pooling to 1x1 uses it in place to mark its result as channels last, which moves no value."""
    source, shape = call.args[0], tuple(call.args[1])
    usual = torch.empty(shape, device="meta").stride()
    same = all(a == b for side, a, b in zip(shape, call.args[2], usual) if side > 1)
    if call.name == "as_strided_" and same and flow.elements(source).shape == shape:
        flow.put(call.result, flow.elements(source))
    else:
        flow.lock(call, [source], "as_strided reads memory by its place", rank=3)


IMAGE = 4
PATCHES = 3


@rule("im2col")
def unfolded(flow: Flow, call: Call) -> None:
    """Unfold [n, c, h, w] to [n, c k, positions]: every channel becomes as many rows as the kernel has positions."""
    image, kernel = call.args[:2]
    vector = channel_vector(flow.elements(image), 1) if image.ndim == IMAGE else None
    if vector is None:
        flow.lock(call, [image], "im2col mixes channels")
    else:
        flow.put(call.result, along(np.repeat(vector, math.prod(kernel)), 1, call.result.shape))


@rule("col2im")
def folded(flow: Flow, call: Call) -> None:
    """Fold [n, c k, positions] to [n, c, h, w]: the rows of one channel are summed, so they are removed together."""
    rows, kernel = call.args[0], call.args[2]
    vector = channel_vector(flow.elements(rows), 1) if rows.ndim == PATCHES else None
    if vector is None:
        flow.lock(call, [rows], "col2im mixes channels")
        return
    parts = vector.reshape(-1, math.prod(kernel))
    for place in range(1, parts.shape[1]):
        flow.unify(call, parts[:, 0], parts[:, place])
        flow.unify(call, parts[:, place], parts[:, 0])
    flow.put(call.result, along(parts[:, 0].copy(), 1, call.result.shape))


@rule("max_unpool2d max_unpool3d")
def unpooled(flow: Flow, call: Call) -> None:
    """Max-unpooling: values return to their positions before pooling, within the same channel."""
    values, places = call.args[:2]
    labels, sides = flow.elements(values), 2 if "2d" in call.name else 3
    flow.unify_or_lock(call, labels, flow.elements(places), "is put back to places that are no channels")
    if any(varies(labels, d) for d in range(labels.ndim - sides, labels.ndim)):
        flow.lock(call, [values, places], f"{call.name} mixes channels")
        return
    for d in range(labels.ndim - sides, labels.ndim):
        labels = labels.narrow(d, 0, 1)
    flow.put(call.result, labels.expand(call.result.shape))


@rule("roi_align")
def regions(flow: Flow, call: Call) -> None:
    """RoI pooling of [n, c, h, w] and boxes to [boxes, c, height, width]: every box is cropped from all channels."""
    image, boxes = call.args[:2]
    flow.lock(call, [boxes], "roi_align reads where the boxes are")
    vector = channel_vector(flow.elements(image), 1)
    if vector is None:
        flow.lock(call, [image], "roi_align mixes channels")
    else:
        flow.put(call.result, along(vector, 1, call.result.shape))


@rule("_euclidean_dist _cdist_forward")
def distances(flow: Flow, call: Call) -> None:
    """Pairwise distances of [.., P, c] and [.., R, c]: tie c on both sides; a channel that is zero in both adds nothing."""
    left, right = (flow.elements(tensor) for tensor in call.args[:2])
    summed = varies(left, left.ndim - 1) and varies(right, right.ndim - 1)
    zero = storage_of(call.args[0]) == storage_of(call.args[1]) or not any(map(flow.values.is_filled, call.args[:2]))
    if summed and zero and not varies(left, left.ndim - 2) and not varies(right, right.ndim - 2):
        a, b = left.narrow(-2, 0, 1), right.narrow(-2, 0, 1)
        flow.unify_or_lock(call, a, b, "is compared with values that are no channels")
    else:
        flow.lock(call, call.args[:2], "is compared with other channels, or with values that are none", rank=3)


@rule("index_add scatter_add index_copy")
def gathered_into(flow: Flow, call: Call) -> None:
    """Add or write rows by an index: tie the channels along the other dimensions position by position."""
    target, dim, index, source = call.args[0], call.args[1] % call.args[0].ndim, call.args[2], call.args[3]
    for tensor in (target, source):
        lock_positions(flow, call, tensor, [dim])
    flow.lock(call, [index] if index.ndim < source.ndim else [], f"{call.name} picks by values of channels")
    into, given = (flow.elements(tensor).narrow(dim, 0, 1) for tensor in (target, source))
    if into.shape != given.shape:
        flow.lock(call, [target, source], f"{call.name} leaves some places alone", rank=3)
        return
    flow.unify_tensors(call, into, given)
    flow.put(call.result, (into if flow.has_labels(target) else given).expand(call.result.shape))
