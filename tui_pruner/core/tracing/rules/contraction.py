"""Rules of operations that sum over channels: convolutions, linear layers, matrix products, attention."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from torch import Tensor

from tui_pruner.core.model.predictions import storage_of
from tui_pruner.core.tracing.labels import (
    AxisLabels,
    Labels,
    ScaledLabels,
    along,
    channel_vector,
    compact,
    flat,
    nothing,
    varies,
    vector_along,
)
from tui_pruner.core.tracing.rules.elementwise import lock_combined_with_constant, where_present
from tui_pruner.core.tracing.state import CHANNEL_DIMS, Call, Flow, rule
from tui_pruner.core.tracing.values import ATTENTION, Attended, Strand

COMPUTED = "is convolved with a weight that is computed, not stored"
MULTIPLIED = "is multiplied with a weight that is computed, not stored"


@rule("convolution _convolution")
def convolution(flow: Flow, call: Call) -> None:
    """Label output channels by the weight's output axis; tie each input channel to the weight's input index that reads it."""
    image, weight, bias = call.args[:3]
    transposed, groups = call.args[6], call.args[8]
    one_each = 1 < groups == (weight.shape[0] if transposed else image.shape[1])
    axes = kernel(flow, call, weight, COMPUTED, None if one_each else 0 if transposed else 1)
    out = depthwise(flow, call, weight, axes) if one_each else in_groups(flow, call, axes)
    if out is None:
        flow.lock(call, [bias] if bias is not None else [], COMPUTED)
        return
    if bias is not None:
        flow.unify_vector(call, bias, out, "scale")
    flow.put(call.result, along(out, 1, call.result.shape))


def kernel(flow: Flow, call: Call, weight: Tensor, reason: str, reads: int | None) -> AxisLabels:
    """The labels of a weight's axes, stored or computed; channels that cannot be separated by axis are locked.

    `reads`: the dimension that is summed over, along which a computed weight must be zero where a channel is gone.
    """
    return flow.weight(weight) or axes_of(flow, call, flow.strands(weight), weight.shape, reason, reads)


def axes_of(flow: Flow, call: Call, computed: Sequence[Strand], shape: Sequence[int], reason: str, reads: int | None) -> AxisLabels:
    """The labels of the axes of a computed weight of this shape."""
    vectors: list[Labels | None] = [None] * len(shape)
    strands = sorted(computed, key=lambda strand: not strand.dims)  # single channels take what is left
    for strand in strands:
        dim = next((d for d in strand.dims or range(CHANNEL_DIMS) if d < CHANNEL_DIMS and vectors[d] is None), None)
        vector = channel_vector(strand.labels, dim) if dim is not None and (strand.dims or shape[dim] == 1) else None
        if dim is None or vector is None or (dim == reads and not flow.vanishes(strand)):
            flow.record.lock(call.index, flat(strand.labels), reason)
        elif dim == reads:
            flow.rely(strand)
        if dim is not None:
            vectors[dim] = vector
    return AxisLabels(tuple(shape), tuple(vectors))


def depthwise(flow: Flow, call: Call, weight: Tensor, axes: AxisLabels) -> Labels | None:
    """Depthwise: every input channel is a convolution group of its own, tied to the outputs that are computed from it."""
    own = axes.vectors[0]
    if own is None:
        flow.lock(call, [call.args[0], weight], COMPUTED)
        return None
    flow.mark_vectors(own, "depthwise")
    note_work(flow, call, weight, own)
    vector = channel_vector(flow.elements(call.args[0]), 1)
    if vector is None:
        flow.lock(call, [call.args[0], weight], "is convolved with other channels at the same place")
    else:
        flow.unify(call, np.repeat(vector, len(own) // len(vector)), own)
    return np.repeat(own, weight.shape[1]) if call.args[6] else own  # a transposed one has its outputs of each input side by side


def in_groups(flow: Flow, call: Call, axes: AxisLabels) -> Labels | None:
    """Grouped convolution: tie each weight index to the inputs at that position of every group; all groups keep equally many outputs."""
    image, weight, transposed, groups = call.args[0], call.args[1], call.args[6], call.args[8]
    written, read = axes.vectors[1 if transposed else 0], axes.vectors[0 if transposed else 1]
    note_work(flow, call, weight, written, read)
    if written is not None:
        flow.mark_vectors(written, "out")
        written = np.tile(written, groups) if transposed else written
    if read is not None:
        flow.mark_vectors(read, "in")
        read = read if transposed else np.tile(read, groups)
    for split in (part for part in [read if transposed else written] if groups > 1 and part is not None):
        flow.link(call, np.split(split, groups))
    if read is None:
        flow.lock(call, [image], COMPUTED)
    else:
        unify_channels(flow, call, image, 1, read)
    return written


def note_work(flow: Flow, call: Call, weight: Tensor, *factors: Labels | None) -> None:
    """Record the labels that the FLOPs are proportional to, where a stored weight's widths do not determine them."""
    if flow.weight(weight) is None:
        flow.note_work(call, *factors)


def unify_channels(flow: Flow, call: Call, image: Tensor, dim: int, read: Labels) -> None:
    """Tie every label that occurs at channel c of the input to index c of the axis that reads it."""
    flow.values.give_channels(flow, image, dim)
    labels = flow.elements(image)
    vector = channel_vector(labels, dim)
    if vector is not None:
        flow.unify(call, vector, read, dim)
        return
    if not varies(labels, dim):
        mixed = np.concatenate((flat(labels), read))
        flow.record.lock(call.index, mixed, "carries channels along another dimension than the layer reads", dim, rank=3)
        return
    (small,) = compact(labels)
    columns = small.movedim(dim, -1).reshape(-1, small.shape[dim]).numpy()
    for row in np.unique(columns, axis=0):
        flow.unify(call, row, np.broadcast_to(read, row.shape), dim)


@rule("linear")
def linear(flow: Flow, call: Call) -> None:
    """x W' + b."""
    weight_product(flow, call, call.args[0], matrix(flow, call, call.args[1], 1), call.args[1], call.argument(2, "bias"))


@rule("addmm")
def addmm(flow: Flow, call: Call) -> None:
    """b + x W', with a weight that was transposed before."""
    bias, left, right = call.args[:3]
    axes = matrix(flow, call, right, 0)
    weight_product(flow, call, left, axes.permuted((1, 0)) if axes else None, right, bias)


@rule("mm matmul bmm")
def product(flow: Flow, call: Call) -> None:
    """A product with a weight on the right, or of two activations."""
    left, right = call.args[:2]
    axes = matrix(flow, call, right, 0)
    if axes is not None:
        weight_product(flow, call, left, axes.permuted((1, 0)), right, None)
    else:
        activations(flow, call, left, right)


def matrix(flow: Flow, call: Call, right: Tensor, reads: int) -> AxisLabels | None:
    """The labels of a matrix that is a weight, stored or computed, or one weight for a whole batch; None for an activation."""
    if not (flow.is_computed(right) or flow.weight(right)):
        return None
    if right.ndim == 2:
        return kernel(flow, call, right, MULTIPLIED, reads)
    strands = flow.strands(right)
    if right.ndim != 3 or call.name != "bmm" or any(0 in strand.dims for strand in strands):
        return None
    return axes_of(flow, call, [Strand(s.labels.select(0, 0), s.zero) for s in strands], right.shape[1:], MULTIPLIED, reads)


@rule("baddbmm")
def product_and_sum(flow: Flow, call: Call) -> None:
    """A batched product of two activations, added to a third."""
    activations(flow, call, *call.args[1:3])
    add_onto(flow, call, call.args[0])


def add_onto(flow: Flow, call: Call, base: Tensor) -> None:
    """Tie the addend of a product to its channels, position by position, as in a sum."""
    product, under = flow.elements(call.result), flow.elements(base).expand(call.result.shape)
    flow.unify_tensors(call, product, under)
    merged = where_present(product, under)
    for tensor in (base, call.result):
        lock_combined_with_constant(flow, call, tensor, merged)
    flow.put(call.result, merged)


def weight_product(flow: Flow, call: Call, rows: Tensor, axes: AxisLabels | None, weight: Tensor, bias: Tensor | None) -> None:
    """Multiply rows of features by a weight of [out, in]."""
    if axes is None:
        activations(flow, call, rows, weight)
        return
    out, read = axes.vectors
    note_work(flow, call, weight, out, read)
    if read is None:
        flow.lock(call, [rows], MULTIPLIED)
    else:
        flow.mark_vectors(read, "in")
        unify_channels(flow, call, rows, rows.ndim - 1, read)
    if out is None:
        flow.lock(call, [bias] if bias is not None else [], "is added to what a computed weight writes")
        return
    flow.mark_vectors(out, "out")
    flow.put(call.result, along(out, call.result.ndim - 1, call.result.shape))
    if flow.weight(weight) is not None and (bias is None or flow.weight(bias) is not None):
        flow.values.products[storage_of(call.result)] = weight, bias
    if bias is not None and flow.weight(bias) is None:
        add_onto(flow, call, bias)
    elif bias is not None:
        flow.unify_vector(call, bias, out, "scale")


def work_labels(a: Tensor, b: Tensor) -> Labels:
    """The labels that the FLOPs of [.., N, K] x [.., K, M] are proportional to: of the contracted dimension, or of the remaining one."""
    if varies(a, a.ndim - 1):
        return flat(a.narrow(-2, 0, 1))
    if varies(a, a.ndim - 2):
        return flat(a.narrow(-1, 0, 1))
    return flat(b.narrow(-2, 0, 1)) if varies(b, b.ndim - 1) else np.zeros(0, np.int64)


def activations(flow: Flow, call: Call, left: Tensor, right: Tensor) -> None:
    """[.., N, K] x [.., K, M]: the contracted dimension is tied pairwise; one of the other dimensions may carry channels."""
    a, b = flow.elements(left), flow.elements(right)
    contracted = varies(a, a.ndim - 1), varies(b, b.ndim - 2)
    flow.note_work(call, work_labels(*(without_given(flow, one) for one in (a, b))))
    if all(contracted) and flow.values.is_filled(left) and flow.values.is_filled(right):
        flow.lock(call, [left, right], "is summed over where neither factor is zero without a channel")
    if all(contracted):
        a, b = summed(flow, call, a, -2), summed(flow, call, b, -1)
        flow.unify_or_lock(call, a.transpose(-1, -2), b, "is summed against values that are no channels")
    elif any(contracted):  # what is not summed of the other factor passes
        flow.lock(call, [left if contracted[0] else right], "is summed against values that are no channels")
        a, b = (nothing(one.shape) if across else one for one, across in zip((a, b), contracted))
    if varies(a, a.ndim - 2) and varies(b, b.ndim - 1):  # a matrix among the inputs, such as a graph's, has no channels
        a, b = (without_given(flow, one) for one in (a, b))
    rows, columns = varies(a, a.ndim - 2), varies(b, b.ndim - 1)
    if rows and columns:
        flow.lock(call, [left, right], "meets other channels in an outer product")
    elif columns:
        flow.put(call.result, b.narrow(-2, 0, 1).expand(call.result.shape))
    elif rows:
        flow.put(call.result, a.narrow(-1, 0, 1).expand(call.result.shape))
    elif not any(contracted):
        side_by_side(flow, call, a, b)


def without_given(flow: Flow, labels: Tensor) -> Tensor:
    """No labels in place of those of the forward's inputs only, which no cut removes."""
    return nothing(labels.shape) if flow.is_given(labels) else labels


def summed(flow: Flow, call: Call, labels: Tensor, dim: int) -> Tensor:
    """Tie the channels that all rows or columns of a factor (of several heads) are summed over, and return those of the first."""
    first = labels.narrow(dim, 0, 1)
    if varies(labels, labels.ndim + dim):
        flow.unify_or_lock(call, labels, first.expand(labels.shape), "is summed against values that are no channels")
    return first


def side_by_side(flow: Flow, call: Call, left: Tensor, right: Tensor) -> None:
    """Tie channels along the batch dimension of two factors, one by one."""
    a, b = (labels.narrow(-1, 0, 1).narrow(-2, 0, 1).expand(call.result.shape) for labels in (left, right))
    flow.unify_or_lock(call, a, b, "is multiplied with values that are no channels")
    flow.put(call.result, where_present(a, b))


def make_up_for_roots(flow: Flow, scaling: bool) -> None:
    """Lock the width that attention divides by the root of, or have the query's weights make up for it.

    The quotient with the root of a smaller width is the same where the query is smaller by as much. `scaling`: a cut may change weights.
    """
    for attended in flow.values.attended:
        labels = flow.known(attended.query)
        if labels is None or (isinstance(labels, Tensor) and not varies(labels, -1)):
            continue
        scaled = scaled_rows(flow, attended, labels) if scaling and isinstance(labels, Tensor) else None
        if scaled is None:
            operation, reason = flow.record.note(ATTENTION, attended.path), "divides by the root of this width, since it is given no scale"
            flow.lock_at(operation.index, [attended.query], reason, attended.query.ndim - 1, rank=3)
            continue
        if not any(np.array_equal(scaled.rows, other.rows) for other in flow.record.scaled):
            flow.record.scaled.append(scaled)
        for step in attended.steps:
            flow.record.steps[step] = flow.record.steps[step][0], None


def scaled_rows(flow: Flow, attended: Attended, labels: Tensor) -> ScaledLabels | None:
    """The rows of the weight and bias that a query is the product of; None where a change of them would also change something else."""
    values, rows = flow.values, flat(labels)
    made, owners = values.products.get(storage_of(attended.query)), flow.record.source.owners(rows)
    if made is None or values.reads[storage_of(attended.query)] or len(owners) != 1 or owners[0].dim != 0 or not rows.all():
        return None
    weights = [tensor for tensor in made if tensor is not None]
    others = [other for one in values.attended for other in one.others]
    others += [one.query for one in values.attended if storage_of(one.query) != storage_of(attended.query)]
    read = [flat(known) for other in others if isinstance(known := flow.known(other), Tensor)]
    used = [other.rows for other in flow.record.scaled if not np.array_equal(other.rows, rows)]
    if any(values.reads[storage_of(tensor)] != 1 for tensor in weights) or any(np.isin(rows, other).any() for other in (*read, *used)):
        return None
    bias = flow.record.source.owners(flat(flow.elements(weights[1]))) if len(weights) > 1 else []
    return ScaledLabels((*owners, *bias), rows, vector_along(labels, labels.ndim - 1))
