"""Find what a trace cannot show: fixed widths that a forward uses, computes with, or branches on.

By the labels a channel axis may shrink, but a forward that has its width in an attribute without an adapter will fail. So the cut network
runs on the meta device: where it fails, the channels at that place are locked, with PyTorch's message as the reason. Only networks with
such a `view` are tried, and for most of them one run suffices. A module from outside the known libraries may also divide by the root of a
width, or take another path for an odd one: there the operations of the cut network are compared with those of the uncut one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from tui_pruner.core.model.copies import forget_caches
from tui_pruner.core.model.inputs import Inputs, as_inputs
from tui_pruner.core.pruning.removal import Removal, counts
from tui_pruner.core.pruning.surgery import cut
from tui_pruner.core.tracing.adapters import runs_foreign_code
from tui_pruner.core.tracing.coupling import by_rows, couple, joined_labels
from tui_pruner.core.tracing.coupling_map import ChannelGroup, CouplingMap
from tui_pruner.core.tracing.labels import FlowRecord, SizedLabels, Step
from tui_pruner.core.tracing.meta_device import ShapeMode
from tui_pruner.core.tracing.state import ENDING, RULES, UNSTEADY, numbers_in, step_of
from tui_pruner.core.tracing.width_search import equal_parts, lengths, namings_of, ways_to_read
from tui_pruner.domain.errors import PlanError

SMALL_SHARE = 0.01
"""Share of each group that is tried, at least one channel; where links make groups round it differently, they are raised to agree."""
UNEVEN = (0.12, 0.3)
"""Shares by turns for a second trial, since something may only hold where all groups lose the same share."""
LARGE = (0.6, 0.35)
"""Shares for comparing operations, since something may only hold down to a certain width."""


class Running(ShapeMode):  # type: ignore[no-untyped-call]
    """Records the operations of a run with the numbers that they compute with, and the sizes at some places."""

    whole = RULES

    def __init__(self, watched: Mapping[int, SizedLabels] | None = None) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.steps: list[Step] = []
        self.watched = watched or {}
        self.sizes: dict[int, tuple[int, ...]] = {}

    def observe(self, name: str, function: object, args: tuple[Any, ...], kwargs: dict[str, Any], result: Any) -> None:
        """Record one operation that succeeded."""
        if name not in UNSTEADY:
            entry = self.watched.get(len(self.steps))
            if entry is not None and entry.widths:
                self.sizes[len(self.steps)] = sizes_of(name, entry.dim, args, result)
            self.steps.append(step_of(name, args, kwargs))


def sizes_of(name: str, dim: int, args: tuple[Any, ...], result: Any) -> tuple[int, ...]:
    """The sizes that an operation has along a dimension: of its result, or for a slice its start and end."""
    if name == "slice":
        start, end, _ = slice(*(args[2:4] if len(args) > 3 else (*args[2:], None))).indices(args[0].shape[dim])
        return start, max(start, end), args[0].shape[dim]
    if name == "alias":  # a slice of everything
        return 0, result.shape[dim], result.shape[dim]
    parts = result if isinstance(result, (tuple, list)) else [result]
    return tuple(part.shape[dim] if dim < part.ndim else 0 for part in parts)


@dataclass(frozen=True)
class Stop:
    """Where a trial failed: which of the trials, at which operation, and why."""

    trial: int
    step: int
    reason: str

    def later_than(self, other: Stop) -> bool:
        """Whether it got further than another."""
        return (self.trial, self.step) > (other.trial, other.step)


def couple_with_size_check(record: FlowRecord, skeleton: nn.Module, given: Inputs | Sequence[int]) -> CouplingMap:
    """Build the coupling map, with widths locked that the forward fixes or computes with; `given`: the inputs, or the shape of an image.

    For a module that the user gave with its inputs, attributes that hold widths are searched for, and rewritten with each cut.
    """
    inputs, naming = as_inputs(given), isinstance(given, Inputs)
    coupling = couple(record)
    record.sized = by_rows(record)
    if nothing_to_try(record, coupling):
        return coupling
    foreign = inputs.forward is not None or runs_foreign_code(skeleton)
    unlike = first_difference_after_cuts(record, skeleton, coupling, inputs) if foreign else None
    if foreign and unlike is None:
        return coupling
    stop = unlike.stop if unlike and unlike.stop and entry_at(record, operation_at(record, unlike.stop.step)) else None
    stop = stop or first_stop(record, skeleton, coupling, inputs)
    while stop:
        stopped = operation_at(record, stop.step)
        if naming and (found := widths_in_attributes_found(record, skeleton, coupling, inputs, stop, stopped)):
            coupling, stop = found
            continue
        free = free_channels(coupling)
        lock_fixed_width(record, entry_at(record, stopped), stop.reason)
        coupling = couple(record)
        if free_channels(coupling) == free:  # the other groups are responsible
            lock_fixed_width(record, None, stop.reason)
            coupling = couple(record)
        stop = first_stop(record, skeleton, coupling, inputs)
    if not foreign or (unlike := first_difference_after_cuts(record, skeleton, coupling, inputs)) is None:
        return coupling
    while lock_widths_used_in_arithmetic(record, skeleton, coupling, inputs, unlike):
        coupling, unlike = couple(record), None
    while changing := groups_that_change_operations(record, skeleton, coupling, inputs):
        for group, place, words in changing:
            for member in group.members:
                labels = record.source.starts[member.axis] + member.indices.reshape(-1)
                record.lock(operation_at(record, place), labels, f"the forward computes with this width: {words}", member.axis.dim, rank=3)
        coupling = couple(record)
    return coupling


def nothing_to_try(record: FlowRecord, coupling: CouplingMap) -> bool:
    """Whether the trace was watched, and decides nothing by a width that can be cut, and all its sizes follow their channels."""
    if record.decided is None:
        return False
    groups, fixed = free_groups(coupling), [*record.decided, *(entry.elements for entry in record.sized if not entry.follows)]
    if fixed and bool(free_labels(record, groups)[np.concatenate(fixed)].any()):
        return False
    if not record.counted:
        return True
    removals = smallest_removal(coupling, groups), uneven_removal(coupling, groups, LARGE)
    return all(
        width.left(alive) == (width.number if labels is None else int(alive[labels].sum()))
        for alive in (labels_left(record, coupling, removal) for removal in removals)
        for width, labels, _ in record.counted
    )


def free_labels(record: FlowRecord, groups: Sequence[ChannelGroup]) -> np.ndarray:
    """By label: whether it is a channel of these groups."""
    channel = joined_labels(record).channel
    free = np.zeros(len(channel) + 1, dtype=bool)
    for member in (member for group in groups for member in group.members):
        free[channel[record.source.starts[member.axis] + member.indices]] = True
    return free[channel]  # also of labels that are on no axis, such as those of zeros that a forward makes


@dataclass(frozen=True)
class CutDifference:
    """How a network differs once every free group lost channels: where, in words, and where it stops; `trial` 0: only few were removed."""

    trial: int
    place: int
    words: str
    stop: Stop | None


def first_difference_after_cuts(record: FlowRecord, skeleton: nn.Module, coupling: CouplingMap, inputs: Inputs) -> CutDifference | None:
    """How the network differs after every free group lost channels; None where it runs the same operations with the remaining sizes."""
    groups = free_groups(coupling)
    for trial, removal in enumerate((smallest_removal(coupling, groups), uneven_removal(coupling, groups, LARGE))):
        try:
            pruned = cut(skeleton, coupling, removal)
        except PlanError:  # an attribute could not hold a width of zero
            continue
        running = Running(watched_steps(record))
        steps, reason = run(pruned, inputs, running)
        place, words = difference(record.steps, steps, reason)
        stop = stop_in(record, coupling, removal, running, reason, trial)
        if words or stop:
            return CutDifference(trial, place, words, stop if trial == 0 else None)
    return None


def first_stop(record: FlowRecord, skeleton: nn.Module, coupling: CouplingMap, inputs: Inputs) -> Stop | None:
    """Where the network fails, or has another size than is left, without a few channels of `sized_groups`; None where it does not."""
    suspects = sized_groups(record, coupling)
    for trial, removal in enumerate((smallest_removal(coupling, suspects), uneven_removal(coupling, suspects)) if suspects else ()):
        running = Running(watched_steps(record))
        _, reason = run(cut(skeleton, coupling, removal), inputs, running)
        if stop := stop_in(record, coupling, removal, running, reason, trial):
            return stop
    return None


def stop_in(record: FlowRecord, coupling: CouplingMap, removal: Removal, running: Running, reason: str, trial: int) -> Stop | None:
    """Where a run stopped, or has another size than a removal leaves."""
    alive = labels_left(record, coupling, removal)
    for step, sizes in sorted(running.sizes.items()):
        wanted = lengths(running.watched[step].widths, alive)
        if sizes != wanted:
            return Stop(trial, step, f"it takes {list(sizes)} where {list(wanted)} are left")
    return Stop(trial, len(running.steps), reason) if reason else None


def watched_steps(record: FlowRecord) -> dict[int, SizedLabels]:
    """The labels with sizes, by the number of the operation in a run."""
    entries = {entry.operation: entry for entry in record.sized}
    steady = (operation.index for operation in record.operations[1:] if operation.name not in UNSTEADY)
    return {step: entries[index] for step, index in enumerate(steady) if index in entries}


def labels_left(record: FlowRecord, coupling: CouplingMap, removal: Removal) -> np.ndarray:
    """By label: whether it is still there after a removal."""
    channel = joined_labels(record).channel
    alive = np.ones(len(channel) + 1, dtype=bool)
    for member, positions in removal.members(coupling):
        alive[channel[record.source.starts[member.axis] + positions]] = False
    return alive[channel]  # also of labels that are on no axis, such as those of constants


def widths_in_attributes_found(
    record: FlowRecord, skeleton: nn.Module, coupling: CouplingMap, inputs: Inputs, stop: Stop, stopped: int
) -> tuple[CouplingMap, Stop | None] | None:
    """Find attributes, or parts that must stay equal, with which the network gets further; the new map, and where it fails now."""
    entry, whole, held = entry_at(record, stopped), free_channels(coupling), held_by_links(record, coupling)
    if entry is None:
        return None
    for way in (equal_parts, *namings_of(record, skeleton, entry), *ways_to_read(record, skeleton, entry)):
        before = dict(record.named), list(record.links)
        if way(record, skeleton, entry):
            coupling = couple(record)
            fits = free_channels(coupling) == whole and held_by_links(record, coupling) <= held
            now = first_stop(record, skeleton, coupling, inputs) if fits else stop
            if now is None or now.later_than(stop):
                return coupling, now
        record.named, record.links = before
    return None


def free_groups(coupling: CouplingMap) -> list[ChannelGroup]:
    """All groups that can be cut."""
    return [group for group in coupling.groups if group.prunable]


def free_channels(coupling: CouplingMap) -> int:
    """How many channels they have."""
    return sum(group.channels for group in free_groups(coupling))


def held_by_links(record: FlowRecord, coupling: CouplingMap) -> int:
    """How many groups that went through an operation with sizes can lose nothing for the links on them: no trial would try them."""
    groups = [group for group in sized_groups(record, coupling) if group.channels > 1]
    return len({group.number for group in groups} - counts(coupling, groups, (SMALL_SHARE,)).keys())


def sized_groups(record: FlowRecord, coupling: CouplingMap) -> list[ChannelGroup]:
    """The prunable groups that went through an operation with sizes in its arguments."""
    if not record.sized:
        return []
    channel, starts = joined_labels(record).channel, record.source.starts
    sized = np.zeros(len(channel) + 1, dtype=bool)
    for entry in record.sized:
        sized[channel[entry.elements]] = True
    return [g for g in free_groups(coupling) if any(sized[channel[starts[m.axis] + m.indices]].any() for m in g.members)]


def operation_at(record: FlowRecord, place: int) -> int:
    """The number in the trace of the operation that was this one of a run."""
    steady = [operation.index for operation in record.operations[1:] if operation.name not in UNSTEADY]
    return steady[min(place, len(steady) - 1)]


def entry_at(record: FlowRecord, stopped: int) -> SizedLabels | None:
    """The labels with sizes where a run failed, or at the operation after a copy that PyTorch makes of a non-contiguous tensor."""
    found = [entry for entry in record.sized if stopped <= entry.operation <= stopped + (record.operations[stopped].name == "clone")]
    return min(found, key=lambda entry: entry.operation, default=None)


def lock_fixed_width(record: FlowRecord, at: SizedLabels | None, reason: str) -> None:
    """Lock the channels where a run failed, in all modules of the class; where the trace lacks that place, all that were tried."""
    for entry in record.sized:
        if at is None or entry.place == at.place:
            record.lock(entry.operation, entry.elements, entry.otherwise or f"the forward names this width: {reason}", rank=3)


def run(network: nn.Module, inputs: Inputs, running: Running | None = None) -> tuple[list[Step], str]:
    """The operations of a run on the meta device, and why it failed; empty where it did not."""
    running, given = running or Running(), inputs.on_meta()
    forget_caches(network)  # a head that caches something would run fewer operations the second time
    try:
        with torch.no_grad(), running:
            running.steps.append((ENDING, numbers_in(given.run(network))))
    except Exception as error:  # a module of the user may raise anything for a width that it does not support
        return running.steps, str(error).splitlines()[0] if str(error) else type(error).__name__
    return running.steps, ""


def lock_widths_used_in_arithmetic(
    record: FlowRecord, skeleton: nn.Module, coupling: CouplingMap, inputs: Inputs, unlike: CutDifference | None
) -> bool:
    """Lock widths in attributes, in all modules of a class, where the forward of one computes with the number; whether there were any.

    `unlike`: how the network with this map is known to differ.
    """
    usual = record.steps
    if unlike and unlike.trial == 0:
        place, words = unlike.place, unlike.words if record.named else ""
    else:
        place, words = difference(usual, *run(without(skeleton, coupling, free_groups(coupling)), inputs)) if record.named else (0, "")
    operation = record.operations[operation_at(record, place)]
    kind, mine = type(skeleton.get_submodule(operation.module)), {name for name in record.named if name.path == operation.module}
    touched = {number for named in coupling.named if named.name in mine for number in named.groups.tolist() if number >= 0}
    groups = [coupling.groups[number] for number in sorted(touched) if coupling.groups[number].prunable]
    if not words or not groups or not difference(usual, *run(without(skeleton, coupling, groups), inputs))[1]:
        return False
    attributes = {name.attribute for name in mine}
    for name in [n for n in record.named if n.attribute in attributes and type(skeleton.get_submodule(n.path)) is kind]:
        record.lock(operation.index, record.named.pop(name), f"the forward computes with this width: {words}", rank=3)
    return True


def groups_that_change_operations(
    record: FlowRecord, skeleton: nn.Module, coupling: CouplingMap, inputs: Inputs
) -> list[tuple[ChannelGroup, int, str]]:
    """The groups whose cut, small or large, changes the numbers that the forward computes with."""
    groups = free_groups(coupling)

    def small(some: Sequence[ChannelGroup]) -> tuple[int, str]:
        return difference(record.steps, *run(without(skeleton, coupling, some), inputs))

    def large(some: Sequence[ChannelGroup]) -> tuple[int, str]:
        try:
            pruned = cut(skeleton, coupling, uneven_removal(coupling, some, LARGE))
        except PlanError:
            return 0, ""
        return difference(record.steps, *run(pruned, inputs))

    return list(groups_that_matter(groups, small)) or list(groups_that_matter(groups, large))


def groups_that_matter(
    groups: Sequence[ChannelGroup], difference_without: Callable[[Sequence[ChannelGroup]], tuple[int, str]]
) -> Iterator[tuple[ChannelGroup, int, str]]:
    """The groups without which a network runs other operations, each with the number of the first different one and its description."""
    if not groups:
        return
    place, words = difference_without(groups)
    if not words:
        return
    middle = len(groups) // 2
    halves = (groups[:middle], groups[middle:]) if middle else ()
    found = [one for half in halves for one in groups_that_matter(half, difference_without)]
    yield from found or [(group, place, words) for group in groups]


def difference(usual: Sequence[Step], steps: Sequence[Step], reason: str) -> tuple[int, str]:
    """The first operation that differs from the usual run, in words; empty where none does."""
    for place, ((name, numbers), (now, changed)) in enumerate(zip(usual, steps)):
        if name != now and ENDING in (name, now):
            return place, "without some channels, it takes another path"
        if same_numbers(numbers, changed) and name == now:
            continue
        if name == ENDING:
            return place, f"without some channels, it returns {listed(changed)} in place of {listed(numbers)}"
        if name != now:
            return place, f"without some channels, {now} takes the place of {name}"
        if name == now:
            return place, f"without some channels, {name} is by {listed(changed)} in place of {listed(numbers)}"
    if reason:
        return len(steps), reason
    return len(steps), "" if len(usual) == len(steps) else "without some channels, it takes another path"


def same_numbers(left: Sequence[float] | None, right: Sequence[float] | None) -> bool:
    """Whether two lists of numbers are equal; NaN equals itself, and None anything."""
    if left is None or right is None or left == right:
        return True
    return len(left) == len(right) and all(a == b or a != a != b != b for a, b in zip(left, right))


def listed(numbers: Sequence[float] | None) -> str:
    """Numbers in words."""
    return ", ".join(f"{number:g}" for number in numbers or ())


def without(skeleton: nn.Module, coupling: CouplingMap, groups: Sequence[ChannelGroup]) -> nn.Module:
    """The network without a few channels of these groups."""
    return cut(skeleton, coupling, smallest_removal(coupling, groups))


def smallest_removal(coupling: CouplingMap, groups: Sequence[ChannelGroup]) -> Removal:
    """A few channels of each of these groups, as their links allow, and of the groups linked to them."""
    return Removal({number: np.arange(count) for number, count in counts(coupling, groups, (SMALL_SHARE,)).items()})


def uneven_removal(coupling: CouplingMap, groups: Sequence[ChannelGroup], shares: Sequence[float] = UNEVEN) -> Removal:
    """More channels of each group, from the end, each group by another share than the one before."""
    found = counts(coupling, groups, shares)
    return Removal({n: np.arange(coupling.groups[n].channels - count, coupling.groups[n].channels) for n, count in found.items()})
