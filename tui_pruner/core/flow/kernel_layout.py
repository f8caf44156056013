"""Rules of operations that rearrange a weight, or what was computed from weights: every strand of labels is rearranged likewise."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from tui_pruner.core.flow import movement
from tui_pruner.core.flow.evaluate import tensors_in
from tui_pruner.core.flow.labels import flat, nothing
from tui_pruner.core.flow.rules import Call, kernel_rule
from tui_pruner.core.flow.state import Flow
from tui_pruner.core.flow.strands import NEVER, Computed, Strand, all_of


def plain(call: Call) -> str:
    """The operation's name without the mark of working in place."""
    return call.name.removesuffix("_")


def put(flow: Flow, out: Tensor, strands: Sequence[Strand], *, feature_map: bool = False) -> None:
    """Attach strands to a tensor; a feature map that has only one is like any other from here on."""
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
    """Dimensions change places; a stored weight stays one."""
    if flow.weight(call.args[0]) is not None:
        movement.reorder(flow, call)
    else:
        move(flow, call)


@kernel_rule("expand unsqueeze squeeze repeat flip movedim")
def move(flow: Flow, call: Call) -> None:
    """What is done to the values is done to every strand."""
    strands = flow.strands(call.args[0])
    moved = [tensors_in(call.function(strand.labels, *call.args[1:], **call.kwargs)) for strand in strands]
    for n, out in enumerate(call.outputs):
        put(flow, out, [Strand(parts[n], strand.zero) for strand, parts in zip(strands, moved, strict=True)])


@kernel_rule("slice select narrow unbind roll split split_with_sizes chunk tensor_split unsafe_split unsafe_chunk")
def move_by_place(flow: Flow, call: Call) -> None:
    """Values found by where they are: channels along that dimension are held."""
    source = call.args[0]
    position = 2 if "split" in call.name or "chunk" in call.name or plain(call) == "roll" else 1
    dims = call.argument(position, "dims" if plain(call) == "roll" else "dim", 0)
    addressed = {d % source.ndim for d in ([dims] if isinstance(dims, int) else dims or range(source.ndim))}
    whole = plain(call) == "slice" and call.result.shape == source.shape
    for strand in flow.strands(source):
        if addressed & set(strand.dims) and not whole:
            hold(flow, call, strand, f"{call.name} takes channels by their place")
    move(flow, call)


@kernel_rule("view _unsafe_view reshape _reshape_alias")
def reshape(flow: Flow, call: Call) -> None:
    """Dimensions merged or cut apart, where the forward may name their sizes."""
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
    """A border around a kernel belongs to its channels."""
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
    """Weights side by side: along the dimension of the join every one has its own channels, along the others they share theirs."""
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
