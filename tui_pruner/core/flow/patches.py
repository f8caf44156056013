"""Rules of operations that take feature maps apart and put them together again, or measure how far vectors of channels are apart."""

from __future__ import annotations

import math

import numpy as np

from tui_pruner.core.flow.folding import hold_places
from tui_pruner.core.flow.labels import along, channel_vector, varies
from tui_pruner.core.flow.rules import Call, rule
from tui_pruner.core.flow.state import Flow

IMAGE = 4
PATCHES = 3


@rule("im2col")
def unfolded(flow: Flow, call: Call) -> None:
    """[n, c, h, w] to [n, c k, places]: every channel becomes as many rows as its kernel has places."""
    image, kernel = call.args[:2]
    vector = channel_vector(flow.elements(image), 1) if image.ndim == IMAGE else None
    if vector is None:
        flow.lock(call, [image], "im2col mixes channels")
    else:
        flow.put(call.result, along(np.repeat(vector, math.prod(kernel)), 1, call.result.shape))


@rule("col2im")
def folded(flow: Flow, call: Call) -> None:
    """[n, c k, places] to [n, c, h, w]: the rows of one channel are summed, so they live or die together."""
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
    """Values go back to where a pooling found them, which belongs to the same channel."""
    values, places = call.args[:2]
    labels, sides = flow.elements(values), 2 if "2d" in call.name else 3
    flow.unify_or_hold(call, labels, flow.elements(places), "is put back to places that are no channels")
    if any(varies(labels, d) for d in range(labels.ndim - sides, labels.ndim)):
        flow.lock(call, [values, places], f"{call.name} mixes channels")
        return
    for d in range(labels.ndim - sides, labels.ndim):
        labels = labels.narrow(d, 0, 1)
    flow.put(call.result, labels.expand(call.result.shape))


@rule("roi_align")
def regions(flow: Flow, call: Call) -> None:
    """[n, c, h, w] and boxes to [boxes, c, height, width]: every box is cut out of all channels alike."""
    image, boxes = call.args[:2]
    flow.lock(call, [boxes], "roi_align reads where the boxes are")
    vector = channel_vector(flow.elements(image), 1)
    if vector is None:
        flow.lock(call, [image], "roi_align mixes channels")
    else:
        flow.put(call.result, along(vector, 1, call.result.shape))


@rule("_euclidean_dist _cdist_forward")
def distances(flow: Flow, call: Call) -> None:
    """[.., P, c] and [.., R, c]: a channel that is zero in both adds nothing to how far vectors are apart."""
    left, right = (flow.elements(tensor) for tensor in call.args[:2])
    summed = varies(left, left.ndim - 1) and varies(right, right.ndim - 1)
    if summed and not varies(left, left.ndim - 2) and not varies(right, right.ndim - 2):
        a, b = left.narrow(-2, 0, 1), right.narrow(-2, 0, 1)
        flow.unify_or_hold(call, a, b, "is compared with values that are no channels")
    else:
        flow.lock(call, call.args[:2], "is compared with other channels, or with values that are none", rank=3)


@rule("index_add scatter_add index_copy")
def gathered_into(flow: Flow, call: Call) -> None:
    """Rows added or written by an index: the channels along the other dimensions go on, place by place."""
    target, dim, index, source = call.args[0], call.args[1] % call.args[0].ndim, call.args[2], call.args[3]
    for tensor in (target, source):
        hold_places(flow, call, tensor, [dim])
    flow.lock(call, [index] if index.ndim < source.ndim else [], f"{call.name} picks by values of channels")
    into, given = (flow.elements(tensor).narrow(dim, 0, 1) for tensor in (target, source))
    if into.shape != given.shape:
        flow.lock(call, [target, source], f"{call.name} leaves some places alone", rank=3)
        return
    flow.unify_tensors(call, into, given)
    flow.put(call.result, (into if flow.has_labels(target) else given).expand(call.result.shape))
