"""Channel axes that are folded into rows (heads, halves, groups) and unfolded again.

Where an axis is cut into rows, each row keeps its channels in their order, and all rows must stay equally long; which channels go may
differ from row to row. That freedom ends where an operation goes across the rows: unfolded the other way round (a channel shuffle), the
k-th channels of all rows stand side by side, so that they live or die together.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from tui_pruner.core.flow.labels import Labels, changing, flat, rows_of, spread, varies
from tui_pruner.core.flow.rules import Call, rule
from tui_pruner.core.flow.state import Flow


@rule("view _unsafe_view reshape _reshape_alias")
def reshape(flow: Flow, call: Call) -> None:
    """More dimensions that carry channels: rows. Fewer: rows joined again, or columns tied."""
    before = flow.elements(call.args[0])
    after = before.reshape(call.result.shape)
    flow.put(call.result, after)
    old, new = spread(before), spread(after)
    flow.note_sizes(call, before)
    if old.shape == new.shape:
        return
    if new.ndim > old.ndim:
        flow.link(call, rows_of(after), rows=True)
    elif new.ndim < old.ndim:
        join(flow, call, before, old)
        flow.note_rows(rows_of(after))
    elif new.ndim > 1 and not flow.are_rows(rows_of(after)):
        flow.lock(call, [call.args[0]], f"is folded from {list(old.shape)} to {list(new.shape)} channels")


def join(flow: Flow, call: Call, before: Tensor, core: Tensor) -> None:
    """Rows one after the other stay free; rows that are interleaved are tied place by place; anything else is held."""
    if flow.are_rows(rows_of(before)):
        return
    columns = rows_of(before.transpose(*changing(before))) if core.ndim == 2 else []
    if columns and flow.are_rows(columns):
        tie(flow, call, columns)
    else:
        flow.lock(call, [call.args[0]], "is folded across channels that are not known to be rows")


def tie(flow: Flow, call: Call, rows: Sequence[Labels]) -> None:
    """Make the k-th channels of all rows one."""
    for other in rows[1:]:
        flow.unify_or_hold(call, torch.from_numpy(rows[0]), torch.from_numpy(other), "is dealt out with values that are no channels")


def is_row_dimension(flow: Flow, labels: Tensor, dim: int) -> bool:
    """Whether a dimension counts rows, so that no cut changes its length."""
    return len(changing(labels)) > 1 and flow.are_rows(rows_of(labels.movedim(dim, 0)))


def hold_places(flow: Flow, call: Call, source: Tensor, dims: Sequence[int]) -> None:
    """Lock channels that an operation addresses by their place along a dimension: a cut would move others there."""
    labels = flow.elements(source)
    if any(varies(labels, d) and not is_row_dimension(flow, labels, d) for d in dims):
        flow.lock(call, [source], f"{call.name} takes channels by their place", rank=3)


def link_rows(flow: Flow, call: Call, part: Tensor) -> None:
    """Where channels also vary along an earlier dimension (attention heads), each of its rows keeps equally many in this part."""
    flow.link(call, rows_of(part), rows=True)


@rule("channel_shuffle native_channel_shuffle")
def shuffle(flow: Flow, call: Call) -> None:
    """Groups of channels dealt out in turn: the k-th of each group belong together."""
    labels, groups = flow.elements(call.args[0]), int(call.args[1])
    vector = flat(labels.movedim(1, 0).reshape(labels.shape[1], -1)[:, 0])
    rows = list(vector.reshape(groups, -1))
    flow.link(call, rows)
    tie(flow, call, rows)
    flow.put(call.result, torch.channel_shuffle(labels.contiguous(), groups))


@rule("glu")
def gated(flow: Flow, call: Call) -> None:
    """The second half gates the first, place by place."""
    labels = flow.elements(call.args[0])
    first, second = labels.chunk(2, call.argument(1, "dim", -1))
    flow.link(call, [flat(first), flat(second)])
    flow.unify_or_hold(call, first, second, "gates a value that is no channel, or is gated by one")
    flow.put(call.result, first)
