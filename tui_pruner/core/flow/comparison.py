"""Rules of operations that compare values and choose by what came of it: masks have the channels of what they were made from."""

from __future__ import annotations

import torch
from torch import Tensor

from tui_pruner.core.flow.elementwise import together
from tui_pruner.core.flow.rules import Call, rule
from tui_pruner.core.flow.state import Flow


@rule(
    "eq ne lt le gt ge logical_and logical_or logical_xor bitwise_and bitwise_or bitwise_xor "
    "fmin fmax hypot copysign logaddexp xlogy heaviside masked_fill"
)
def place_by_place(flow: Flow, call: Call) -> None:
    """What is compared, or filled by a mask, belongs to one channel, as what is added does."""
    together(flow, call)


@rule("remainder fmod floor_divide")
def remains(flow: Flow, call: Call) -> None:
    """Division without a rest, or the rest alone: what is divided by keeps its values in the masked twin."""
    if isinstance(call.args[1], Tensor):
        flow.spare(call.args[1])
    together(flow, call)


@rule("index_put")
def put_by_index(flow: Flow, call: Call) -> None:
    """One value put where a mask of the same shape says; anything else that is put by its place holds the channels."""
    target, indices, value = call.args[:3]
    mask = indices[0] if len(indices) == 1 else None
    if mask is None or mask.dtype != torch.bool or mask.shape != target.shape or value.numel() != 1 or flow.has_labels(value):
        flow.lock(call, call.tensors, "index_put writes values by their place", rank=3)
        return
    flow.unify_or_hold(call, flow.elements(target), flow.elements(mask), "is changed where values say that are no channels")
    flow.put(call.result, flow.elements(target))
