"""Try what a trace cannot see: widths that a forward names, computes with, or decides by.

The labels say that a channel axis may shrink; a forward with the width in an attribute that no adapter knows disagrees. Runs of the cut
network on the meta device tell: where one stops, the channels that meet this place are held, in PyTorch's words. Only networks with such
a `view` are tried, and most of those run at once. A module from outside the libraries may also divide by the root of a width, or take
another path for an odd one: there the steps of the cut network are compared with those of the whole one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import nn

from tui_pruner.core.model.copies import forget_caches, sharing_weights
from tui_pruner.core.model.inputs import Inputs, asked
from tui_pruner.core.pruning.links import Wishes, ask_alone
from tui_pruner.core.pruning.removal import Removal
from tui_pruner.core.pruning.surgery import cut
from tui_pruner.core.tracing.adapters import LIBRARIES
from tui_pruner.core.tracing.coupling import couple
from tui_pruner.core.tracing.coupling_map import ChannelGroup, CouplingMap
from tui_pruner.core.tracing.labels import FlowRecord
from tui_pruner.core.tracing.meta_device import ShapeMode

UNSTEADY = {"detach"}
"""What PyTorch inserts in one run of a network and leaves out in the next."""
ARITHMETIC = frozenset(
    {"add", "sub", "rsub", "mul", "div", "pow", "clamp", "clamp_min", "clamp_max", "lerp", "addcmul", "full_like", "fill"}
)
"""Operations whose numbers are values; those of others are sizes and places, which may well be computed from a width."""
SMALL_SHARE = 0.01
"""Of each group that is tried, and one channel at least; where links make several groups round it apart, they are raised to agree."""
Step = tuple[str, tuple[float, ...]]


class Running(ShapeMode):  # type: ignore[no-untyped-call]
    """Notes the operations of a run, with the numbers that they compute with."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.steps: list[Step] = []

    def observe(self, name: str, function: object, args: tuple[object, ...], *_: object) -> None:
        """One more went well."""
        if name not in UNSTEADY:
            numbers = [a for a in args if isinstance(a, (int, float))] if name.removesuffix("_") in ARITHMETIC else []
            self.steps.append((name, tuple(numbers)))


def couple_and_try(record: FlowRecord, skeleton: nn.Module, given: Inputs | Sequence[int]) -> CouplingMap:
    """The coupling map with what the forward names or computes with locked; `given`: the inputs, or the shape of an image."""
    inputs = asked(given)
    coupling = couple(record)
    while suspects := sized_groups(record, coupling):
        steps, reason = run(without(skeleton, coupling, suspects), inputs)
        if not reason:
            break
        hold(record, operation_at(record, len(steps)), reason)
        coupling = couple(record)
    known = ("torch.nn.", *LIBRARIES)  # whose modules compute with no width but in ways that adapters know (`docs/coverage.md`)
    if all(type(module).__module__.startswith(known) for module in skeleton.modules()):
        return coupling
    usual, reason = run(sharing_weights(skeleton), inputs)
    while not reason and (found := list(disturbing(skeleton, coupling, free_groups(coupling), usual, inputs))):
        for group, place, words in found:
            for member in group.members:
                labels = record.source.starts[member.axis] + member.indices.reshape(-1)
                record.lock(operation_at(record, place), labels, f"the forward computes with this width: {words}", member.axis.dim, rank=3)
        coupling = couple(record)
    return coupling


def free_groups(coupling: CouplingMap) -> list[ChannelGroup]:
    """All groups that could be cut."""
    return [group for group in coupling.groups if group.prunable]


def sized_groups(record: FlowRecord, coupling: CouplingMap) -> list[ChannelGroup]:
    """The prunable groups that went through an operation with sizes in its arguments."""
    if not record.sized:
        return []
    sized = np.zeros(record.source.count, dtype=bool)
    for entry in record.sized:
        sized[entry.labels] = True
    starts = record.source.starts
    return [g for g in free_groups(coupling) if any(sized[starts[m.axis] + m.indices].any() for m in g.members)]


def operation_at(record: FlowRecord, place: int) -> int:
    """The number of the operation in a trace that came as this one of a run."""
    steady = [operation.index for operation in record.operations[1:] if operation.name not in UNSTEADY]
    return steady[min(place, len(steady) - 1)]


def hold(record: FlowRecord, stopped: int, reason: str) -> None:
    """Lock the channels at the place where a run stopped, wherever the same class has it; all that were tried, where no trace knows it."""
    place = next((entry.place for entry in record.sized if entry.operation == stopped), None)
    for entry in record.sized:
        if place in (None, entry.place):
            record.lock(entry.operation, entry.labels, f"the forward names this width: {reason}", rank=3)


def run(network: nn.Module, inputs: Inputs) -> tuple[list[Step], str]:
    """The steps of a run on the meta device, and why it stopped where it did not come to its end."""
    running, given = Running(), inputs.on_meta()
    forget_caches(network)  # what a head remembers spares it operations
    try:
        with torch.no_grad(), running:
            given.run(network)
    except Exception as error:  # a foreign forward may raise anything about a width that it does not like
        return running.steps, str(error).splitlines()[0] if str(error) else type(error).__name__
    return running.steps, ""


def disturbing(
    skeleton: nn.Module, coupling: CouplingMap, groups: Sequence[ChannelGroup], usual: Sequence[Step], inputs: Inputs
) -> Iterator[tuple[ChannelGroup, int, str]]:
    """The groups whose cut changes what the forward computes with, each with the place of the first such step and what it is."""
    if not groups:
        return
    place, words = difference(usual, *run(without(skeleton, coupling, groups), inputs))
    if not words:
        return
    middle = len(groups) // 2
    halves = (groups[:middle], groups[middle:]) if middle else ()
    found = [one for half in halves for one in disturbing(skeleton, coupling, half, usual, inputs)]
    yield from found or [(group, place, words) for group in groups]


def difference(usual: Sequence[Step], steps: Sequence[Step], reason: str) -> tuple[int, str]:
    """The first step that is another one than in the usual run, in words; empty where all are the same."""
    for place, ((name, numbers), (now, changed)) in enumerate(zip(usual, steps)):
        if name != now:
            return place, f"without some channels, {now} takes the place of {name}"
        if numbers != changed:
            before, after = (", ".join(f"{number:g}" for number in by) for by in (numbers, changed))
            return place, f"without some channels, {name} is by {after} in place of {before}"
    if reason:
        return len(steps), reason
    return len(steps), "" if len(usual) == len(steps) else "without some channels, it takes another path"


def without(skeleton: nn.Module, coupling: CouplingMap, groups: Sequence[ChannelGroup]) -> nn.Module:
    """The network without a few channels of these groups."""
    return cut(skeleton, coupling, smallest_removal(coupling, groups))


def smallest_removal(coupling: CouplingMap, groups: Sequence[ChannelGroup]) -> Removal:
    """A few channels of each of these groups, as their links allow, with what is linked to them."""
    wishes = Wishes()
    for group in groups:
        if group.number not in wishes.demands:
            ask_alone(coupling, group, SMALL_SHARE, wishes)
    free = {n: demands[0].count for n, demands in wishes.demands.items() if n not in wishes.contradictions}
    return Removal({n: np.arange(count) for n, count in free.items() if 0 < count < coupling.groups[n].channels})
