"""Rules of operations that fold or resample dimensions: softmax, means, pooling, upsampling."""

from __future__ import annotations

import re

from tui_pruner.core.flow.labels import varies
from tui_pruner.core.flow.rules import Call, rule
from tui_pruner.core.flow.state import Flow


@rule("_softmax _safe_softmax _log_softmax cumsum")
def along_dimension(flow: Flow, call: Call) -> None:
    """Passes channels on, unless it works across them."""
    labels = flow.elements(call.args[0])
    if varies(labels, call.args[1] % labels.ndim):
        flow.lock(call, [call.args[0]], f"{call.name.strip('_')} mixes channels")
    flow.put(call.result, labels)


@rule("topk sort")
def order(flow: Flow, call: Call) -> None:
    """Ordering along a dimension leaves the channels of the others alone."""
    labels = flow.elements(call.args[0])
    dim = call.argument(2 if call.name == "topk" else 1, "dim", -1) % labels.ndim
    if varies(labels, dim):
        flow.lock(call, [call.args[0]], f"{call.name} orders channels")
    else:
        for out in call.outputs:
            flow.put(out, labels.narrow(dim, 0, 1).expand(out.shape))


@rule("mean sum amax amin max min var std linalg_vector_norm prod argmax argmin any all")
def reduction(flow: Flow, call: Call) -> None:
    """Dimensions that carry no channels fold away; a reduction over channels locks them."""
    source, dims = call.args[0], call.argument(1, "dim")
    if call.name == "linalg_vector_norm":
        dims = call.argument(2, "dim")
    labels = flow.elements(source)
    listed = [dims] if isinstance(dims, int) else list(dims or range(labels.ndim))
    folded = sorted(d % labels.ndim for d in listed)
    across = [d for d in folded if varies(labels, d)]
    if across and not any(varies(labels, d) for d in range(labels.ndim) if d not in folded):
        flow.lock(call, [source], f"{call.name} mixes channels", rank=3)
        return
    for d in across:  # a sum over a stack of feature maps ties them, as an addition does
        first = labels.narrow(d, 0, 1)
        flow.unify_or_hold(call, first.expand(labels.shape), labels, f"{call.name} joins it with values that are no channels")
    for d in folded:
        labels = labels.narrow(d, 0, 1)
    for out in call.outputs:
        if out.ndim < labels.ndim:
            kept = [d for d in range(labels.ndim) if d not in folded]
            flow.put(out, labels.reshape([labels.shape[d] for d in kept]).expand(out.shape))
        else:
            flow.put(out, labels.expand(out.shape))


@rule(
    "max_pool2d_with_indices max_pool3d_with_indices avg_pool2d avg_pool3d adaptive_avg_pool2d _adaptive_avg_pool2d "
    "adaptive_max_pool2d upsample_nearest1d upsample_nearest2d upsample_bilinear2d upsample_bicubic2d "
    "upsample_nearest3d grid_sampler_2d"
)
def over_space(flow: Flow, call: Call) -> None:
    """Pooling and upsampling change the sides of the image and leave its channels alone."""
    labels = flow.elements(call.args[0])
    sides = int(re.findall(r"(\d)d", call.name)[0])
    for d in range(labels.ndim - sides, labels.ndim):
        if varies(labels, d):
            flow.lock(call, [call.args[0]], f"{call.name} mixes channels")
            return
        labels = labels.narrow(d, 0, 1)
    for out in call.outputs:
        flow.put(out, labels.expand(out.shape))
