"""Rules of operations that work channel by channel: activations, sums, products, norms."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from tui_pruner.core.flow.labels import along, channel_vector, compact, varies
from tui_pruner.core.flow.rules import Call, rule
from tui_pruner.core.flow.state import Flow


@rule(
    "silu relu sigmoid tanh hardtanh leaky_relu gelu hardswish hardsigmoid mish softplus elu relu6 exp log neg abs "
    "sqrt rsqrt erf sin cos reciprocal clamp clamp_min clamp_max dropout native_dropout logit floor round sign "
    "zeros_like ones_like full_like empty_like zero fill softshrink hardshrink threshold isnan isinf sinh cosh asin acos atan "
    "asinh acosh atanh expm1 log1p log2 log10 exp2 trunc ceil frac sgn erfc nan_to_num logical_not bitwise_not log_sigmoid_forward "
    "rrelu_with_noise celu sinc erfinv angle _conj _conj_physical"
)
def one_by_one(flow: Flow, call: Call) -> None:
    """Every element for itself: channels pass through."""
    source = call.args[0]
    for out in call.outputs:
        if out.shape == source.shape:
            flow.put(out, flow.elements(source))


@rule("clone detach _to_copy contiguous alias lift_fresh")
def the_same(flow: Flow, call: Call) -> None:
    """The same values once more: a weight stays one."""
    flow.put_same(call.result, call.args[0])


@rule("add sub rsub mul div maximum minimum pow where addcmul atan2 lerp _prelu_kernel")
def together(flow: Flow, call: Call) -> None:
    """Channels that meet at one position become one; a constant of fixed extent holds the channels that it meets."""
    out = call.result
    if call.name.startswith("div") and isinstance(call.args[1], Tensor):
        flow.spare(call.args[1])
    present = [t for t in call.tensors if flow.has_labels(t)]
    present = [t for t in present if not hold_shared(flow, call, t, present)]
    labels = [flow.elements(t).expand(out.shape) for t in present]
    if not labels:
        return
    merged = labels[0]
    for other in labels[1:]:
        flow.unify_tensors(call, merged, other)
        merged = where_present(merged, other)
    for tensor in call.tensors:
        hold_against_constant(flow, call, tensor, merged)
    flow.put(out, merged)


def hold_shared(flow: Flow, call: Call, tensor: Tensor, present: Sequence[Tensor]) -> bool:
    """Lock a single channel that meets all channels of another tensor; whether it is one."""
    stretched = [d for d in range(1, call.result.ndim + 1) if d > tensor.ndim or tensor.shape[-d] == 1 < call.result.shape[-d]]
    met = any(varies(flow.elements(other), other.ndim - d) for other in present for d in stretched if d <= other.ndim)
    if met:
        flow.lock(call, [tensor], f"{call.name} applies it to all channels of another feature map", rank=3)
    return met


def where_present(first: Tensor, second: Tensor) -> Tensor:
    """The first labels, and the second where the first are none."""
    a, b = compact(first, second)
    if bool((a != 0).all()):
        return first
    return torch.where(a != 0, a, b).expand(first.shape)


def hold_against_constant(flow: Flow, call: Call, constant: Tensor, merged: Tensor) -> None:
    """Lock the channels that meet an unlabelled value along a dimension where that value has an extent of its own."""
    shape = (1,) * (merged.ndim - constant.ndim) + tuple(constant.shape)
    extended = [d for d in range(merged.ndim) if shape[d] > 1 and varies(merged, d)]
    if not extended:
        return
    own = flow.elements(constant).expand(merged.shape)
    a, b = compact(merged, own)
    met = a[(a != 0) & (b == 0)]
    if len(met):
        flow.record.lock(call.index, met.numpy(), f"{call.name} with a constant of fixed extent", extended[0], rank=3)


@rule("native_batch_norm _native_batch_norm_legit_no_training cudnn_batch_norm batch_norm instance_norm")
def batch_norm(flow: Flow, call: Call) -> None:
    """Weight, bias and statistics belong to their channel."""
    image, parameters = call.args[0], call.args[1:5]
    labels = flow.elements(image)
    vector = channel_vector(labels, 1)
    if vector is None:
        flow.lock(call, [image], "is normalised with other channels at the same place")
        return
    for parameter in parameters:
        if isinstance(parameter, Tensor):
            flow.unify_vector(call, parameter, vector, "norm")
    flow.put(call.outputs[0], labels)


@rule("native_layer_norm native_group_norm")
def across_channels(flow: Flow, call: Call) -> None:
    """Normalisation over a dimension that carries channels cannot lose one without changing the others."""
    image = call.args[0]
    labels = flow.elements(image)
    dims = range(image.ndim - len(call.args[1]), image.ndim) if call.name == "native_layer_norm" else range(1, image.ndim)
    if any(varies(labels, d) for d in dims):
        flow.lock(call, call.tensors, f"{call.name.removeprefix('native_')} normalises across channels")
    flow.put(call.outputs[0], labels)


@rule("embedding")
def looked_up(flow: Flow, call: Call) -> None:
    """Vectors picked from a table carry the table's columns."""
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
    """A fresh constant that takes only its type from the input carries no channel."""
