"""Try what a trace cannot see: whether a forward computes the sizes that it gives to a `view`, or names them.

The labels say that a channel axis may shrink; a forward with the width in an attribute that no adapter knows disagrees. Runs of the cut
network on the meta device tell: where one stops, the channels that meet this place are held, in PyTorch's words. Only networks with such
a `view` are tried, and most of those run at once.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from tui_pruner.core.flow.coupling import couple
from tui_pruner.core.flow.evaluate import ShapeMode
from tui_pruner.core.flow.record import FlowRecord
from tui_pruner.core.groups import ChannelGroup, CouplingMap
from tui_pruner.core.linking import Wishes, ask_alone
from tui_pruner.core.removal import Removal
from tui_pruner.core.skeleton import forget_caches
from tui_pruner.core.surgery import cut

UNSTEADY = {"detach"}
"""What PyTorch inserts in one run of a network and leaves out in the next."""
SMALL_SHARE = 0.01
"""Of each group that is tried, and one channel at least; where links make several groups round it apart, they are raised to agree."""


class Counting(ShapeMode):  # type: ignore[no-untyped-call]
    """Counts the operations of a run, so that the one that failed can be found in the trace of the uncut network."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.count = 0

    def observe(self, name: str, *_: object) -> None:
        """One more went well."""
        self.count += name not in UNSTEADY


def couple_and_try(record: FlowRecord, skeleton: nn.Module, shape: Sequence[int]) -> CouplingMap:
    """The coupling map with what the forward names locked; `shape` is that of a legal input."""
    coupling = couple(record)
    while suspects := list(sized_groups(record, coupling)):
        stopped, reason = run_without(skeleton, coupling, suspects, shape)
        if not reason:
            break
        steady = [operation.index for operation in record.operations if operation.name not in UNSTEADY]
        hold(record, steady[min(stopped, len(steady) - 1)], reason)
        coupling = couple(record)
    return coupling


def sized_groups(record: FlowRecord, coupling: CouplingMap) -> Iterator[ChannelGroup]:
    """The prunable groups that went through an operation with sizes in its arguments."""
    sized = np.unique(np.concatenate([entry.labels for entry in record.sized] or [np.zeros(0, np.int64)]))
    axes, starts = list(record.source.starts), list(record.source.starts.values())
    met = {axes[number] for number in np.unique(np.searchsorted(starts, sized, side="right") - 1).tolist() if number >= 0}
    for group in coupling.groups:
        if group.prunable and any(m.axis in met and np.isin(record.source.starts[m.axis] + m.indices, sized).any() for m in group.members):
            yield group


def hold(record: FlowRecord, stopped: int, reason: str) -> None:
    """Lock the channels at the place where a run stopped, wherever the same class has it; all that were tried, where no trace knows it."""
    place = next((entry.place for entry in record.sized if entry.operation == stopped), None)
    for entry in record.sized:
        if place in (None, entry.place):
            record.lock(entry.operation, entry.labels, f"the forward names this width: {reason}", rank=3)


def run_without(skeleton: nn.Module, coupling: CouplingMap, groups: Sequence[ChannelGroup], shape: Sequence[int]) -> tuple[int, str]:
    """Which operation stops without the first channels of these groups (counted as in a trace), and PyTorch's words; ("" where none)."""
    running = Counting()
    try:
        pruned = cut(skeleton, coupling, smallest_removal(coupling, groups))
        forget_caches(pruned)  # what a head remembers spares it operations
        image: Tensor = torch.empty(tuple(shape), device="meta")
        with torch.no_grad(), running:
            pruned(image)
    except (RuntimeError, ValueError, IndexError, AssertionError) as error:
        return running.count + 1, str(error).splitlines()[0] if str(error) else type(error).__name__
    return 0, ""


def smallest_removal(coupling: CouplingMap, groups: Sequence[ChannelGroup]) -> Removal:
    """A few channels of each of these groups, as their links allow, with what is linked to them."""
    wishes = Wishes()
    for group in groups:
        if group.number not in wishes.demands:
            ask_alone(coupling, group, SMALL_SHARE, wishes)
    free = {n: demands[0].count for n, demands in wishes.demands.items() if n not in wishes.contradictions}
    return Removal({n: np.arange(count) for n, count in free.items() if 0 < count < coupling.groups[n].channels})
