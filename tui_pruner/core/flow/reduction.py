"""Rules of operations that fold or resample dimensions: softmax, means, pooling, upsampling."""

from __future__ import annotations

import re
from collections.abc import Sequence

from torch import Tensor

from tui_pruner.core.flow.labels import varies
from tui_pruner.core.flow.rules import Call, rule
from tui_pruner.core.flow.state import Flow


@rule("_softmax _safe_softmax _log_softmax cumsum cumprod logcumsumexp")
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


@rule(
    "mean sum amax amin max min var std var_mean std_mean norm linalg_vector_norm prod argmax argmin any all "
    "logsumexp median nanmedian nansum aminmax"
)
def reduction(flow: Flow, call: Call) -> None:
    """Dimensions that carry no channels fold away; a reduction over channels locks them."""
    source, labels, folded = call.args[0], flow.elements(call.args[0]), folded_dims(call)
    across = [d for d in folded if varies(labels, d)]
    if across and not any(varies(labels, d) for d in range(labels.ndim) if d not in folded):
        flow.lock(call, [source], f"{call.name} mixes channels", rank=3)
        return
    for d in across:  # a sum over a stack of feature maps ties them, as an addition does
        first = labels.narrow(d, 0, 1)
        flow.unify_or_hold(call, first.expand(labels.shape), labels, f"{call.name} joins it with values that are no channels")
    for out in call.outputs:
        flow.put(out, without_dims(labels, folded, out.shape))


def folded_dims(call: Call) -> list[int]:
    """The dimensions that a reduction takes away or makes one long."""
    dims = call.argument(2 if "norm" in call.name else 1, "dim")
    ndim = call.args[0].ndim
    listed = [dims] if isinstance(dims, int) else list(dims or range(ndim))
    return sorted(d % ndim for d in listed)


def without_dims(labels: Tensor, folded: Sequence[int], shape: Sequence[int]) -> Tensor:
    """The labels after a reduction of these dimensions to a shape that may still have them, as long as one."""
    for d in folded:
        labels = labels.narrow(d, 0, 1)
    if len(shape) < labels.ndim:
        labels = labels.reshape([labels.shape[d] for d in range(labels.ndim) if d not in folded])
    return labels.expand(tuple(shape))


@rule(
    "max_pool2d_with_indices max_pool3d_with_indices avg_pool2d avg_pool3d adaptive_avg_pool2d _adaptive_avg_pool2d "
    "adaptive_max_pool2d upsample_nearest1d upsample_nearest2d upsample_bilinear2d upsample_bicubic2d "
    "upsample_nearest3d grid_sampler_2d upsample_linear1d upsample_trilinear3d _upsample_nearest_exact1d _upsample_nearest_exact2d "
    "_upsample_bilinear2d_aa _upsample_bicubic2d_aa grid_sampler_3d _adaptive_avg_pool3d adaptive_max_pool3d"
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
