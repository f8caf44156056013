"""Rules for element-wise operations, reductions, comparisons and spectral transforms, which do not mix channels."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from tui_pruner.core.tracing.coupling_map import Normalised
from tui_pruner.core.tracing.labels import LinkedLabels, all_channels, along, channel_vector, compact, flat, small, varies, vector_along
from tui_pruner.core.tracing.state import Call, Flow, rule


@rule(
    "silu relu sigmoid tanh hardtanh leaky_relu gelu hardswish hardsigmoid mish softplus elu relu6 exp log neg abs "
    "sqrt rsqrt erf sin cos reciprocal clamp clamp_min clamp_max dropout native_dropout logit floor round sign "
    "zeros_like ones_like full_like empty_like zero fill softshrink hardshrink threshold isnan isinf sinh cosh asin acos atan "
    "asinh acosh atanh expm1 log1p log2 log10 exp2 trunc ceil frac sgn erfc nan_to_num logical_not bitwise_not log_sigmoid_forward "
    "rrelu_with_noise celu sinc erfinv angle _conj _conj_physical"
)
def one_by_one(flow: Flow, call: Call) -> None:
    """Propagate channels through an element-wise function of one tensor."""
    source = call.args[0]
    for out in call.outputs:
        if out.shape == source.shape:
            flow.put(out, flow.elements(source))


@rule("rand_like randn_like randint_like bernoulli normal uniform exponential")
def drawn(flow: Flow, call: Call) -> None:
    """Random numbers in the shape of channels: a cut network would draw others for the channels that are left."""
    flow.lock(call, [call.args[0]], "random numbers are drawn for each of its channels", rank=2)
    if isinstance(call.result, Tensor) and call.result.shape == call.args[0].shape:
        flow.put(call.result, flow.elements(call.args[0]))


@rule("clone detach _to_copy contiguous alias lift_fresh")
def unchanged(flow: Flow, call: Call) -> None:
    """Propagate labels through an operation that returns its input's values; a weight remains a weight."""
    flow.put_same(call.result, call.args[0])


@rule("add sub rsub mul div maximum minimum pow where addcmul atan2 lerp _prelu_kernel")
def together(flow: Flow, call: Call) -> None:
    """Tie the channels that are combined at the same position; an unlabelled operand of length above 1 there locks them."""
    out = call.result
    if call.name.startswith("div") and isinstance(call.args[1], Tensor):
        flow.spare(call.args[1])
    present = [t for t in call.tensors if flow.has_labels(t)]
    present = [t for t in present if not lock_broadcast_channel(flow, call, t, present)]
    labels = [flow.elements(t).expand(out.shape) for t in present]
    if not labels:
        return
    merged = labels[0]
    for other in labels[1:]:
        flow.unify_tensors(call, merged, other)
        merged = where_present(merged, other)
    if not (len(labels) == len(call.tensors) and all(all_channels(small(one)) for one in labels)):
        for tensor in call.tensors:
            lock_combined_with_constant(flow, call, tensor, merged)
    flow.put(out, merged)


def lock_broadcast_channel(flow: Flow, call: Call, tensor: Tensor, present: Sequence[Tensor]) -> bool:
    """Lock a channel, or a row of them, that is broadcast over all channels of another tensor; return whether it is."""
    stretched = [d for d in range(1, call.result.ndim + 1) if d > tensor.ndim or tensor.shape[-d] == 1 < call.result.shape[-d]]
    met = any(varies(flow.elements(other), other.ndim - d) for other in present for d in stretched if d <= other.ndim)
    if met:
        flow.lock(call, [tensor], f"{call.name} applies it to all channels of another feature map", rank=3)
        lock_as_long(flow, call, tensor, [d for d in range(1, tensor.ndim + 1) if d not in stretched], present)
    return met


def lock_as_long(flow: Flow, call: Call, tensor: Tensor, dims: Sequence[int], present: Sequence[Tensor]) -> None:
    """Lock the channels of other tensors that must stay as many as those of a locked one, along dimensions counted from the end."""
    own = flow.elements(tensor)
    for other in present:
        labels = flow.elements(other)
        if other is not tensor and any(
            d <= other.ndim and varies(own, tensor.ndim - d) and not flow.watch.is_fixed(labels, other.ndim - d) for d in dims
        ):
            flow.lock(call, [other], f"{call.name} applies a row of fixed length to it", rank=3)


def where_present(first: Tensor, second: Tensor) -> Tensor:
    """Merge labels: the first, or the second where the first have none."""
    if all_channels(small(first)):
        return first
    a, b = compact(first, second)
    return torch.where(a != 0, a, b).expand(first.shape)


def lock_combined_with_constant(flow: Flow, call: Call, constant: Tensor, merged: Tensor) -> None:
    """Lock channels that are combined with unlabelled values of a tensor whose length along their dimension is above 1."""
    shape = (1,) * (merged.ndim - constant.ndim) + tuple(constant.shape)
    extended = [d for d in range(merged.ndim) if shape[d] > 1 and varies(merged, d)]
    if not extended:
        return
    if flow.values.is_blank(constant):
        for d in extended:
            flow.values.meet(flow, constant, d - merged.ndim, vector_along(merged, d))
        return
    own = flow.elements(constant).expand(merged.shape)
    a, b = compact(merged, own)
    met = a[(a != 0) & (b == 0)]
    if len(met):
        flow.record.lock(call.index, met.numpy(), f"{call.name} with a constant of fixed extent", extended[0], rank=3)


@rule("native_batch_norm _native_batch_norm_legit_no_training cudnn_batch_norm batch_norm instance_norm")
def batch_norm(flow: Flow, call: Call) -> None:
    """Tie weight, bias and running statistics to their channels."""
    image, parameters = call.args[0], call.args[1:5]
    labels = flow.elements(image)
    if not varies(labels, 1) and channel_vector(labels, 1) is None:
        flow.lock(call, [image], "is normalised with other channels at the same place")
        return
    vector = vector_along(labels, 1)
    if channel_vector(labels, 1) is None:  # several channels of a layer before are one here, at other places
        flow.unify_or_lock(call, along(vector, 1, labels.shape), labels, "is normalised with values that are no channels")
    for parameter in parameters:
        if isinstance(parameter, Tensor):
            flow.unify_vector(call, parameter, vector, "norm")
    flow.put(call.outputs[0], labels)


@rule("native_layer_norm native_group_norm")
def across_channels(flow: Flow, call: Call) -> None:
    """Normalisation across channels: lock them, since removing one changes the others; on request treat it as approximate."""
    image = call.args[0]
    labels = flow.elements(image)
    dims = range(image.ndim - len(call.args[1]), image.ndim) if call.name == "native_layer_norm" else range(1, image.ndim)
    if any(varies(labels, d) for d in dims) and not normalise_over_remaining(flow, call, labels):
        flow.lock(call, call.tensors, f"{call.name.removeprefix('native_')} normalises across channels")
    flow.put(call.outputs[0], labels)


def normalise_over_remaining(flow: Flow, call: Call, labels: Tensor) -> bool:
    """Have a normalisation be over the channels that are left, where that was asked for and its module follows its weight.

    Groups of channels stay equally wide.
    """
    by_layer = call.name == "native_layer_norm"
    weight, *more = call.args[2:4] if by_layer else call.args[1:3]
    vector = channel_vector(labels, labels.ndim - 1 if by_layer else 1)
    name = f"{call.module}.weight".lstrip(".")
    known = isinstance(flow.running, nn.LayerNorm if by_layer else nn.GroupNorm) and weight is flow.running.weight
    known = known and flow.dependence.tensors.get(name) is weight  # no other module shares it
    if not flow.approximate or not known or weight is None or vector is None or weight.shape != vector.shape:
        return False
    for parameter in (weight, *more):
        if isinstance(parameter, Tensor):
            flow.unify_vector(call, parameter, vector, "norm")
    if not by_layer and call.args[6] > 1:
        flow.record.links.append(LinkedLabels(call.index, tuple(np.split(vector, call.args[6]))))
    flow.record.approximate[call.module] = Normalised(name)
    return True


RMS = "rms_norm"
"""PyTorch's function that divides by the root of a mean of squares."""


def mean_over_remaining(flow: Flow, call: Call, labels: Tensor, dim: int) -> bool:
    """Have a mean over channels be over those that are left, where that was asked for: a response normalisation (GRN) takes one.

    Its module has a parameter with a value for each channel, which no other module shares, and no parts; what is removed is zero there.
    """
    asked, vector = flow.watch.asked, channel_vector(labels, dim)
    by_rms = isinstance(flow.running, nn.RMSNorm)
    known = asked is not None and call.name == "mean" and asked[0] == (RMS if by_rms else "mean")
    if not flow.approximate or flow.running._modules or vector is None or not known:
        return False
    found = (one for one in flow.running._parameters.items() if one[1] is not None and one[1].numel() == len(vector))
    own, parameter = next(found, ("", None))
    name = f"{call.module}.{own}".lstrip(".")
    if parameter is None or flow.values.is_filled(call.args[0]) or flow.dependence.tensors.get(name) is not parameter:
        return False
    flow.unify(call, flat(flow.elements(parameter)), vector, dim)
    flow.record.approximate[call.module] = Normalised(name) if by_rms else Normalised(name, labels.ndim, dim)
    return True


@rule("embedding")
def looked_up(flow: Flow, call: Call) -> None:
    """Label embedding vectors with the channels of the table's columns."""
    table, index = call.args[:2]
    axes = flow.weight(table)
    vector = axes.vectors[1] if axes else channel_vector(flow.elements(table), 1)
    flow.lock(call, [index], "is looked up in a table")
    if vector is None:
        flow.lock(call, [table], "is looked up by its place")
    else:
        flow.put(call.result, along(vector, call.result.ndim - 1, call.result.shape))


@rule("new_full new_zeros new_ones new_empty new_empty_strided size is_same_size")
def makes_constant(flow: Flow, call: Call) -> None:
    """Leave a new constant unlabelled: it takes only its dtype from the input."""


@rule("_softmax _safe_softmax _log_softmax cumsum cumprod logcumsumexp")
def along_dimension(flow: Flow, call: Call) -> None:
    """Propagate channels, unless the operation works along their dimension, which locks them."""
    labels = flow.elements(call.args[0])
    if varies(labels, call.args[1] % labels.ndim):
        flow.lock(call, [call.args[0]], f"{call.name.strip('_')} mixes channels")
    flow.put(call.result, labels)


@rule("topk sort")
def order(flow: Flow, call: Call) -> None:
    """Sort along a dimension: the channels of the other dimensions are unaffected."""
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
    """Remove reduced dimensions without channels; lock channels that are reduced over."""
    source, labels, folded = call.args[0], flow.elements(call.args[0]), folded_dims(call)
    across = [d for d in folded if varies(labels, d)]
    if across and len(folded) == 1 and mean_over_remaining(flow, call, labels, folded[0]):
        return
    if across and not any(varies(labels, d) for d in range(labels.ndim) if d not in folded):
        flow.lock(call, [source], f"{call.name} mixes channels", rank=3)
        return
    for d in across:  # a sum over a stack of feature maps ties them, as an addition does
        first = labels.narrow(d, 0, 1)
        flow.unify_or_lock(call, first.expand(labels.shape), labels, f"{call.name} joins it with values that are no channels")
    for out in call.outputs:
        flow.put(out, without_dims(labels, folded, out.shape))


def folded_dims(call: Call) -> list[int]:
    """The dimensions that a reduction removes, or reduces to length one."""
    dims = call.argument(2 if "norm" in call.name else 1, "dim")
    ndim = call.args[0].ndim
    listed = [dims] if isinstance(dims, int) else list(dims or range(ndim))
    return sorted(d % ndim for d in listed)


def without_dims(labels: Tensor, folded: Sequence[int], shape: Sequence[int]) -> Tensor:
    """The labels after reducing these dimensions to a shape that may keep them with length one."""
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
    """Pooling and upsampling: spatial sizes change, channels pass through; those on the last axis of a sampling grid are locked."""
    labels = flow.elements(call.args[0])
    if call.name.startswith("grid_sampler") and varies(flow.elements(call.args[1]), -1):
        flow.lock(call, [call.args[1]], f"{call.name} takes one channel for each side of the image")
    sides = int(re.findall(r"(\d)d", call.name)[0])
    for d in range(labels.ndim - sides, labels.ndim):
        if varies(labels, d):
            flow.lock(call, [call.args[0]], f"{call.name} mixes channels")
            return
        labels = labels.narrow(d, 0, 1)
    for out in call.outputs:
        flow.put(out, labels.expand(out.shape))


@rule(
    "eq ne lt le gt ge logical_and logical_or logical_xor bitwise_and bitwise_or bitwise_xor "
    "fmin fmax hypot copysign logaddexp xlogy heaviside masked_fill"
)
def place_by_place(flow: Flow, call: Call) -> None:
    """Tie the channels of tensors that are compared, or filled by a mask, position by position, as in an addition."""
    together(flow, call)


@rule("remainder fmod floor_divide")
def integer_division(flow: Flow, call: Call) -> None:
    """Division without remainder, or the remainder: the divisor keeps its values in the masked twin."""
    if isinstance(call.args[1], Tensor):
        flow.spare(call.args[1])
    together(flow, call)


@rule("index_put")
def put_by_index(flow: Flow, call: Call) -> None:
    """Propagate channels where one value is written by a mask of the same shape; lock them for any other write by index."""
    target, indices, value = call.args[:3]
    mask = indices[0] if len(indices) == 1 else None
    if mask is None or mask.dtype != torch.bool or mask.shape != target.shape or value.numel() != 1 or flow.has_labels(value):
        flow.lock(call, call.tensors, "index_put writes values by their place", rank=3)
        return
    flow.unify_or_lock(call, flow.elements(target), flow.elements(mask), "is changed where values say that are no channels")
    flow.put(call.result, flow.elements(target))


@rule("_fft_r2c _fft_c2c _fft_c2r")
def transformed(flow: Flow, call: Call) -> None:
    """Fourier transforms: lock channels along the transformed dimensions, since every value depends on all of them."""
    source = call.args[0]
    flow_along(flow, call, source, [d % source.ndim for d in call.args[1]])


@rule("tril triu")
def triangle(flow: Flow, call: Call) -> None:
    """Triangular masks address the last two dimensions by position: lock channels along them."""
    source = call.args[0]
    flow_along(flow, call, source, [source.ndim - 2, source.ndim - 1])


def flow_along(flow: Flow, call: Call, source: Tensor, dims: Sequence[int]) -> None:
    """Propagate channels; lock those along these dimensions."""
    labels = flow.elements(source)
    if any(varies(labels, d) for d in dims):
        flow.lock(call, [source], f"{call.name.strip('_')} mixes channels")
        return
    for d in dims:
        labels = labels.narrow(d, 0, 1)
    flow.put(call.result, labels.expand(call.result.shape))


@rule("view_as_real")
def parts(flow: Flow, call: Call) -> None:
    """Label real and imaginary parts with the channel of the complex number."""
    flow.put(call.result, flow.elements(call.args[0]).unsqueeze(-1).expand(call.result.shape))


@rule("view_as_complex")
def whole(flow: Flow, call: Call) -> None:
    """Combine two values into a complex number: those of one channel keep it, others are locked."""
    labels = flow.elements(call.args[0])
    if varies(labels, labels.ndim - 1):
        flow.lock(call, [call.args[0]], "view_as_complex makes one number of two channels")
    else:
        flow.put(call.result, labels.select(-1, 0))


@rule("complex polar")
def joined(flow: Flow, call: Call) -> None:
    """Tie the channels of the two parts at each position, as in a sum."""
    together(flow, call)
