"""Rules of operations that sum over channels: convolutions, linear layers, matrix products, attention."""

from __future__ import annotations

import numpy as np
from torch import Tensor

from tui_pruner.core.flow.elementwise import hold_against_constant, where_present
from tui_pruner.core.flow.labels import AxisLabels, Labels, along, channel_vector, compact, flat, varies
from tui_pruner.core.flow.record import ProductLabels
from tui_pruner.core.flow.rules import Call, rule
from tui_pruner.core.flow.state import Flow


@rule("convolution _convolution")
def convolution(flow: Flow, call: Call) -> None:
    """Output channels are the weight's; each input channel is the weight's input index that reads it."""
    image, weight, bias = call.args[:3]
    transposed, groups = call.args[6], call.args[8]
    axes = flow.weight(weight)
    if axes is None:
        flow.lock(call, call.tensors, "is convolved with a weight that is computed, not stored")
        return
    written, read = axes.vectors[1 if transposed else 0], axes.vectors[0 if transposed else 1]
    assert written is not None and read is not None
    if groups > 1 and (image.shape[1] == groups if not transposed else len(read) == groups and len(written) == 1):
        out = depthwise(flow, call, weight, axes)
    else:
        out = in_groups(flow, call, axes)
    if bias is not None:
        flow.unify_vector(call, bias, out, "scale")
    flow.put(call.result, along(out, 1, call.result.shape))


def depthwise(flow: Flow, call: Call, weight: Tensor, axes: AxisLabels) -> Labels:
    """Every input channel is a group of its own and goes with the outputs that are computed from it."""
    own = axes.vectors[0]
    assert own is not None
    flow.mark_vectors(own, "depthwise")
    vector = channel_vector(flow.elements(call.args[0]), 1)
    if vector is None:
        flow.lock(call, [call.args[0], weight], "is convolved with other channels at the same place")
    else:
        flow.unify(call, np.repeat(vector, len(own) // len(vector)), own)
    return own


def in_groups(flow: Flow, call: Call, axes: AxisLabels) -> Labels:
    """One weight index for the inputs at one place of every group; the groups' outputs stay equally many. One group: the plain case."""
    image, transposed, groups = call.args[0], call.args[6], call.args[8]
    written, read = axes.vectors[1 if transposed else 0], axes.vectors[0 if transposed else 1]
    assert written is not None and read is not None
    flow.mark_vectors(written, "out")
    flow.mark_vectors(read, "in")
    if transposed:
        written = np.tile(written, groups)
    else:
        read = np.tile(read, groups)
    if groups > 1:
        flow.link(call, np.split(read if transposed else written, groups))
    unify_channels(flow, call, image, 1, read)
    return written


def unify_channels(flow: Flow, call: Call, image: Tensor, dim: int, read: Labels) -> None:
    """Every label that occurs at channel c of the input is the index c of what reads it."""
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
    weight_product(flow, call, call.args[0], flow.weight(call.args[1]), call.args[1], call.argument(2, "bias"))


@rule("addmm")
def addmm(flow: Flow, call: Call) -> None:
    """b + x W', the weight having been transposed just before."""
    bias, left, right = call.args[:3]
    axes = flow.weight(right)
    weight_product(flow, call, left, axes.permuted((1, 0)) if axes else None, right, bias)


@rule("mm matmul bmm")
def product(flow: Flow, call: Call) -> None:
    """A product with a weight on the right, or of two activations."""
    left, right = call.args[:2]
    axes = flow.weight(right)
    if axes is not None and right.ndim == 2:
        weight_product(flow, call, left, axes.permuted((1, 0)), right, None)
    else:
        activations(flow, call, left, right)


@rule("baddbmm")
def product_and_sum(flow: Flow, call: Call) -> None:
    """A batched product of two activations onto a third."""
    activations(flow, call, *call.args[1:3])
    add_onto(flow, call, call.args[0])


def add_onto(flow: Flow, call: Call, base: Tensor) -> None:
    """What a product is added onto: the same channels, place by place, as in a sum."""
    product, under = flow.elements(call.result), flow.elements(base).expand(call.result.shape)
    flow.unify_tensors(call, product, under)
    merged = where_present(product, under)
    for tensor in (base, call.result):
        hold_against_constant(flow, call, tensor, merged)
    flow.put(call.result, merged)


def weight_product(flow: Flow, call: Call, rows: Tensor, axes: AxisLabels | None, weight: Tensor, bias: Tensor | None) -> None:
    """Rows of features times a weight of [out, in]."""
    if axes is None:
        activations(flow, call, rows, weight)
        return
    out, read = axes.vectors
    assert out is not None and read is not None
    flow.mark_vectors(out, "out")
    flow.mark_vectors(read, "in")
    unify_channels(flow, call, rows, rows.ndim - 1, read)
    flow.put(call.result, along(out, call.result.ndim - 1, call.result.shape))
    if bias is not None and flow.weight(bias) is None:
        add_onto(flow, call, bias)
    elif bias is not None:
        flow.unify_vector(call, bias, out, "scale")


def work_labels(a: Tensor, b: Tensor) -> Labels:
    """The labels that the work of [.., N, K] x [.., K, M] is proportional to: of the contracted dimension, or of the one that is kept."""
    if varies(a, a.ndim - 1):
        return flat(a.narrow(-2, 0, 1))
    if varies(a, a.ndim - 2):
        return flat(a.narrow(-1, 0, 1))
    return flat(b.narrow(-2, 0, 1)) if varies(b, b.ndim - 1) else np.zeros(0, np.int64)


def activations(flow: Flow, call: Call, left: Tensor, right: Tensor) -> None:
    """[.., N, K] x [.., K, M]: the contracted dimension is unified pairwise, one of the others may carry channels on."""
    a, b = flow.elements(left), flow.elements(right)
    contracted = varies(a, a.ndim - 1), varies(b, b.ndim - 2)
    flow.record.products.append(ProductLabels(call.index, work_labels(a, b)))
    if all(contracted) and not varies(a, a.ndim - 2) and not varies(b, b.ndim - 1):
        flow.unify_tensors(call, a.narrow(-2, 0, 1).transpose(-1, -2), b.narrow(-1, 0, 1))
    elif any(contracted):
        flow.lock(call, [left, right], "is summed against values that are no channels")
        return
    rows, columns = varies(a, a.ndim - 2), varies(b, b.ndim - 1)
    if rows and columns:
        flow.lock(call, [left, right], "meets other channels in an outer product")
    elif columns:
        flow.put(call.result, b.narrow(-2, 0, 1).expand(call.result.shape))
    elif rows:
        flow.put(call.result, a.narrow(-1, 0, 1).expand(call.result.shape))
    elif not any(contracted):
        side_by_side(flow, call, a, b)


def side_by_side(flow: Flow, call: Call, left: Tensor, right: Tensor) -> None:
    """Channels that count the products of a batch, one for one."""
    a, b = (labels.narrow(-1, 0, 1).narrow(-2, 0, 1).expand(call.result.shape) for labels in (left, right))
    flow.unify_or_hold(call, a, b, "is multiplied with values that are no channels")
    flow.put(call.result, where_present(a, b))
