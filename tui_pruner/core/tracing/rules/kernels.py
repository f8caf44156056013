"""Rules for weights that a forward computes before it uses them: their layout, and what happens to their two axes."""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Real
from typing import Any

import torch
from torch import Tensor

from tui_pruner.core.tracing.adapters import is_adapted
from tui_pruner.core.tracing.labels import (
    channel_vector,
    flat,
    nothing,
)
from tui_pruner.core.tracing.meta_device import tensors_in
from tui_pruner.core.tracing.rules import contraction, movement
from tui_pruner.core.tracing.rules.elementwise import folded_dims, where_present, without_dims
from tui_pruner.core.tracing.state import Call, Flow, kernel_rule
from tui_pruner.core.tracing.values import (
    ALWAYS,
    NEVER,
    Causes,
    Computed,
    Strand,
    all_of,
    any_of,
    zero_stays,
)


def plain(call: Call) -> str:
    """The operation's name without the underscore of in-place operations."""
    return call.name.removesuffix("_")


def put(flow: Flow, out: Tensor, strands: Sequence[Strand], *, feature_map: bool = False) -> None:
    """Attach strands (labels by axis) to a tensor; a feature map with a single strand is treated like any other from here on."""
    changing = [strand for strand in strands if strand.dims]
    if feature_map and len(changing) < 2:
        for strand in changing:
            flow.put(out, strand.labels)
    elif strands:
        flow.put(out, Computed(tuple(strands)))


def hold(flow: Flow, call: Call, strand: Strand, reason: str) -> None:
    """Lock the channels of one strand."""
    flow.record.lock(call.index, flat(strand.labels), reason, rank=3)


@kernel_rule("t transpose permute")
def reorder(flow: Flow, call: Call) -> None:
    """Reorder dimensions; a stored weight remains one."""
    if flow.weight(call.args[0]) is not None:
        movement.reorder(flow, call)
    else:
        move(flow, call)


@kernel_rule("expand unsqueeze squeeze repeat flip movedim")
def move(flow: Flow, call: Call) -> None:
    """Apply the same data movement to every strand."""
    strands = flow.strands(call.args[0])
    moved = [tensors_in(call.function(strand.labels, *call.args[1:], **call.kwargs)) for strand in strands]
    for n, out in enumerate(call.outputs):
        put(flow, out, [Strand(parts[n], strand.zero) for strand, parts in zip(strands, moved, strict=True)])


@kernel_rule("slice select narrow unbind roll split split_with_sizes chunk tensor_split unsafe_split unsafe_chunk")
def move_by_place(flow: Flow, call: Call) -> None:
    """Values selected by position: channels along that dimension are locked, except for equal parts whose widths an adapter rewrites."""
    source = call.args[0]
    position = 2 if "split" in call.name or "chunk" in call.name or plain(call) == "roll" else 1
    dims = call.argument(position, "dims" if plain(call) == "roll" else "dim", 0)
    addressed = {d % source.ndim for d in ([dims] if isinstance(dims, int) else dims or range(source.ndim))}
    whole = plain(call) == "slice" and call.result.shape == source.shape
    equal = "split" in call.name and is_adapted(flow.running) and len({out.shape for out in call.outputs}) == 1
    for strand in flow.strands(source):
        if addressed & set(strand.dims) and equal:
            flow.link(call, [flat(part) for part in strand.labels.chunk(len(call.outputs), dims)])
        elif addressed & set(strand.dims) and not whole and not (plain(call) == "slice" and flow.note_slice(call, strand.labels)):
            hold(flow, call, strand, f"{call.name} takes channels by their place")
    move(flow, call)


@kernel_rule("view _unsafe_view reshape _reshape_alias")
def reshape(flow: Flow, call: Call) -> None:
    """Merge or split dimensions, whose sizes the forward may have fixed."""
    strands = flow.strands(call.args[0])
    for strand in strands:
        flow.note_sizes(call, strand.labels)
    put(flow, call.result, [Strand(folded(strand.labels, call.result.shape), strand.zero) for strand in strands])


def folded(labels: Tensor, shape: Sequence[int]) -> Tensor:
    """Labels in another shape; leading dimensions that stay, and along which they are constant, take no memory."""
    same = next((d for d, sides in enumerate(zip(labels.shape, shape)) if sides[0] != sides[1]), min(labels.ndim, len(shape)))
    for d in (d for d in range(same) if labels.stride(d) == 0):
        labels = labels.narrow(d, 0, 1)
    return labels.reshape([*labels.shape[:same], *shape[same:]]).expand(tuple(shape))


@kernel_rule("constant_pad_nd pad")
def pad(flow: Flow, call: Call) -> None:
    """Label the padding of a kernel with its channels."""
    source, widths, value = call.args[0], call.args[1], call.argument(2, "value", 0)
    grown = [source.ndim - 1 - n // 2 for n in range(0, len(widths), 2) if widths[n] or widths[n + 1]]
    kept = []
    for strand in flow.strands(source):
        if set(grown) & set(strand.dims):
            hold(flow, call, strand, f"{call.name} puts constants beside channels")
            continue
        labels = strand.labels
        for d in grown:
            labels = labels.narrow(d, 0, 1)
        kept.append(Strand(labels.expand(call.result.shape), strand.zero if not value else NEVER))
    put(flow, call.result, kept)


@kernel_rule("cat stack")
def join(flow: Flow, call: Call) -> None:
    """Concatenate weights: each keeps its own channels along that dimension; along the others their channels are tied."""
    tensors, ndim, shape = call.args[0], call.result.ndim, tuple(call.result.shape)
    dim = call.argument(1, "dim", 0) % ndim
    strands = [list(flow.strands(tensor)) for tensor in tensors]
    if plain(call) == "stack":
        strands = [[Strand(strand.labels.unsqueeze(dim), strand.zero) for strand in own] for own in strands]
    kept = []
    for dims in dict.fromkeys(strand.dims for own in strands for strand in own if strand.dims):
        found = [[strand for strand in own if strand.dims == dims] for own in strands]
        present = [strand for own in found for strand in own]
        zero = all_of(*(strand.zero for strand in present))
        if dims == (dim,) and all(len(own) < 2 for own in found):
            parts = [own[0].labels if own else nothing(tensor.shape) for own, tensor in zip(found, tensors, strict=True)]
            kept.append(Strand(torch.cat(parts, dim), zero))
        elif dim not in dims and all(len(own) == 1 for own in found):
            shared = [strand.labels.narrow(dim, 0, 1).expand(shape) for strand in present]
            for other in shared[1:]:
                flow.unify_tensors(call, shared[0], other)
            kept.append(Strand(shared[0], zero))
        else:
            for strand in present:
                hold(flow, call, strand, f"{call.name} puts weights of other channels beside it")
    put(flow, call.result, kept)


INFINITE_AT_ZERO = frozenset({"log", "logit", "rsqrt", "reciprocal"})
ADDING = frozenset({"sum", "norm", "linalg_vector_norm"})
"""Reductions that zeros do not change."""
COUNTING = frozenset({"argmax", "argmin"})


@kernel_rule(
    "silu relu tanh hardtanh leaky_relu gelu hardswish mish elu relu6 neg abs sqrt erf sin clamp clamp_min clamp_max dropout "
    "native_dropout floor round sign zeros_like sigmoid hardsigmoid softplus exp cos log logit rsqrt reciprocal ones_like"
)
def one_by_one(flow: Flow, call: Call) -> None:
    """Propagate channels through an element-wise function, and their zeros where it maps zero to zero."""
    source = call.args[0]
    if plain(call) in INFINITE_AT_ZERO:
        flow.spare(source)
    flow.lock(call, call.tensors[1:], f"bounds a weight by {call.name}")
    kept = zero_stays(call)
    for out in call.outputs:
        if out.shape == source.shape:
            put(flow, out, [strand if kept else Strand(strand.labels) for strand in flow.strands(source)])


@kernel_rule("add sub rsub mul div maximum minimum pow where addcmul lerp atan2 _prelu_kernel")
def together(flow: Flow, call: Call) -> None:
    """Tie the channels of weights, masks and scales that are combined, along each axis."""
    shape = call.result.shape
    divisor = call.args[1] if plain(call) == "div" else call.args[0] if plain(call) == "pow" and not raises(call.args[1]) else None
    if isinstance(divisor, Tensor):
        flow.spare(divisor)
    operands = list(dict.fromkeys(call.tensors))
    strands = {tensor: [strand.expanded(shape) for strand in flow.strands(tensor)] for tensor in operands}
    leading = sorted(operands, key=lambda tensor: -sum(bool(strand.zero) for strand in strands[tensor]))
    feature_map = any(strands[tensor] and not (flow.is_computed(tensor) or flow.weight(tensor)) for tensor in operands)
    kept = [strand for strand in strands[leading[0]] if not strand.dims]
    for dims in dict.fromkeys(strand.dims for tensor in leading for strand in strands[tensor] if strand.dims):
        found = met_along(flow, call, leading, strands, dims)
        if found is not None or not feature_map:
            kept.append(found or next(strand for tensor in leading for strand in strands[tensor] if strand.dims == dims))
    put(flow, call.result, kept, feature_map=feature_map)


def met_along(
    flow: Flow, call: Call, operands: Sequence[Tensor], strands: dict[Tensor, list[Strand]], dims: tuple[int, ...]
) -> Strand | None:
    """The tied channels of all operands along these dimensions; None where an operand has none, which locks the others."""
    meeting = {tensor: [strand for strand in strands[tensor] if strand.dims == dims] for tensor in operands}
    present = [strand for tensor in operands for strand in meeting[tensor]]
    crossing = [s for tensor in operands for s in strands[tensor] if s.dims != dims and set(s.dims) & set(dims)]
    fixed = [tensor for tensor in operands if not meeting[tensor] and extends(tensor, dims, call.result.ndim)]
    if crossing or fixed or any(len(found) > 1 for found in meeting.values()):
        for strand in present:
            hold(flow, call, strand, f"{call.name} with a constant of fixed extent")
        return None
    labels = present[0].labels
    for other in present[1:]:
        flow.unify_or_lock(call, labels, other.labels, f"{call.name} with values that are no channels")
        labels = where_present(labels, other.labels)
    return Strand(labels, zero_of(call, {id(tensor): found[0].zero for tensor, found in meeting.items() if found}))


def extends(tensor: Tensor, dims: Sequence[int], ndim: int) -> bool:
    """Whether a tensor that is broadcast to `ndim` dimensions has a length above 1 along any of these."""
    return any(d >= ndim - tensor.ndim and tensor.shape[d - ndim] > 1 for d in dims)


def raises(exponent: Any) -> bool:
    """Whether zero raised to this power is zero."""
    return isinstance(exponent, Real) and float(exponent) > 0


def zero_of(call: Call, zeros: dict[int, Causes]) -> Causes:
    """The causes that make the result of an operation on several values zero: those of any operand, or of all."""

    def of(value: Any) -> Causes:
        return zeros.get(id(value), NEVER) if isinstance(value, Tensor) else ALWAYS if value == 0 else NEVER

    first, second = call.args[:2]
    match plain(call):
        case "mul":
            return any_of(of(first), of(second))
        case "add" | "sub" | "rsub" | "maximum" | "minimum" | "lerp":
            return all_of(of(first), of(second))
        case "where":
            return all_of(of(second), of(call.args[2]))
        case "addcmul":
            return all_of(of(first), any_of(of(second), of(call.args[2])))
        case "pow":
            return of(first) if raises(second) else NEVER
        case "div" | "_prelu_kernel":
            return of(first)
    return NEVER


@kernel_rule("mean sum amax amin max min var std var_mean std_mean norm linalg_vector_norm prod argmax argmin any all")
def reduction(flow: Flow, call: Call) -> None:
    """Allow sums and norms over channels, which ignore the zeros of removed ones; lock channels under any other reduction."""
    folded, kept = folded_dims(call), []
    for strand in flow.strands(call.args[0]):
        if not set(strand.dims) & set(folded):
            kept.append(Strand(strand.labels, NEVER if plain(call) in COUNTING else strand.zero))
        elif set(strand.dims) <= set(folded) and plain(call) in ADDING and adds(call) and flow.vanishes(strand):
            flow.rely(strand)
        else:
            hold(flow, call, strand, f"{call.name} mixes channels")
    for out in call.outputs:
        put(flow, out, [Strand(without_dims(strand.labels, folded, out.shape), strand.zero) for strand in kept])


def adds(call: Call) -> bool:
    """Whether zeros do not change a reduction: any sum, and a norm of positive order."""
    return plain(call) == "sum" or raises(call.argument(1, "p" if plain(call) == "norm" else "ord", 2))


@kernel_rule("_weight_norm_interface")
def weight_norm(flow: Flow, call: Call) -> None:
    """g v / |v|, with a norm for each index of one dimension: removed channels of the other dimensions add nothing to it."""
    direction, length, dim = call.args[0], call.args[1], call.argument(2, "dim", 0)
    kept = [strand for strand in flow.strands(direction) if dim not in strand.dims]
    for strand in flow.strands(direction):
        if dim in strand.dims:
            flow.record.spared.update(*strand.zero)
            scaled = [other for other in flow.strands(length) if other.dims == strand.dims]
            for other in scaled:
                flow.unify_tensors(call, strand.labels, other.labels.expand(direction.shape))
            kept.append(Strand(strand.labels, any_of(strand.zero, *(other.zero for other in scaled))))
        elif strand.dims and flow.vanishes(strand):
            flow.rely(strand)
        elif strand.dims:
            hold(flow, call, strand, "weight_norm takes values that are no zeros where a channel is gone")
    put(flow, call.outputs[0], kept)


@kernel_rule("_softmax _safe_softmax _log_softmax cumsum")
def along_dimension(flow: Flow, call: Call) -> None:
    """Lock the channels along the dimension that the operation works on."""
    kept = []
    for strand in flow.strands(call.args[0]):
        if call.args[1] % call.args[0].ndim in strand.dims:
            hold(flow, call, strand, f"{call.name.strip('_')} mixes channels")
        kept.append(strand if plain(call) == "cumsum" else Strand(strand.labels))
    put(flow, call.result, kept)


@kernel_rule("native_batch_norm _native_batch_norm_legit native_layer_norm native_group_norm")
def standardisation(flow: Flow, call: Call) -> None:
    """Lock the channels that mean and deviation of a standardised weight are computed over."""
    source, name = call.args[0], plain(call)
    first = source.ndim - len(call.args[1]) if name == "native_layer_norm" else 1
    kept = 1 if "batch_norm" in name else None
    affine = [tensor for tensor in call.tensors[1:] if flow.has_labels(tensor)]
    flow.lock(call, affine, f"scales a weight in {name.removeprefix('native_')}")
    strands = flow.strands(source)
    for strand in strands:
        if any(d >= first and d != kept for d in strand.dims) or (kept == 1 and 0 in strand.dims):
            hold(flow, call, strand, f"{name.removeprefix('native_')} normalises across channels")
    put(flow, call.outputs[0], [strand if len(call.tensors) == 1 else Strand(strand.labels) for strand in strands])


@kernel_rule("mm matmul bmm mv dot vdot")
def product(flow: Flow, call: Call) -> None:
    """Product of weights: tie the contracted axes of both sides; the other axes keep their channels."""
    left, right = call.args[:2]
    if plain(call) in ("mm", "matmul", "bmm") and not (flow.weight(left) or flow.is_computed(left)):
        contraction.product(flow, call)
        return
    inner, other = left.ndim - 1, max(0, right.ndim - 2)
    summed = [s for s in flow.strands(left) if inner in s.dims], [s for s in flow.strands(right) if other in s.dims]
    factors = [flat(strand.labels) for strand in summed[0][:1]]
    meet(flow, call, *summed)
    kept: list[Strand] = []
    for tensor, dim, place in ((left, inner, -1), (right, other, -2)):
        for strand in (s for s in flow.strands(tensor) if dim not in s.dims):
            labels = strand.labels.select(dim, 0)
            labels = labels if min(left.ndim, right.ndim) < 2 else labels.unsqueeze(place)
            kept.append(Strand(labels.expand(call.result.shape), strand.zero))
    for strand in kept:
        if sum(strand.dims == one.dims for one in kept if one.dims) > 1:
            hold(flow, call, strand, f"{call.name} of weights meets other channels at the same place")
    flow.note_work(call, *factors, *(flat(strand.labels) for strand in kept if strand.dims))
    put(flow, call.result, kept)


def meet(flow: Flow, call: Call, left: Sequence[Strand], right: Sequence[Strand]) -> None:
    """Tie the channels that a product sums over; one side must be zero where they are removed."""
    strands = [*left, *right]
    vectors = [channel_vector(strand.labels, strand.dims[0]) for strand in strands if len(strand.dims) == 1]
    zero = next((strand for strand in strands if flow.vanishes(strand)), None)
    if len(left) == len(right) == 1 and len(vectors) == 2 and vectors[0] is not None and vectors[1] is not None and zero is not None:
        flow.unify(call, vectors[0], vectors[1])
        flow.rely(zero)
        return
    for strand in strands:
        hold(flow, call, strand, f"{call.name} sums it against values that are no channels")
