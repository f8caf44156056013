"""From the record of a trace to the coupling map: connected components of labels, grouped by the axes that they occur on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple, cast

import numpy as np
from numpy.typing import NDArray

from tui_pruner.core.tracing.coupling_map import (
    ChannelGroup,
    ChannelLink,
    CouplingMap,
    Indices,
    InnerBlock,
    Lock,
    Member,
    NamedWidth,
    Product,
    ScaledRows,
    locked_by_links,
)
from tui_pruner.core.tracing.labels import Axis, FlowRecord, Labels, LinkedLabels, LockedLabels, Operation, SizedLabels

SILENT_JOINS = frozenset(
    {"convolution", "native_batch_norm", "_native_batch_norm_legit_no_training", "cudnn_batch_norm", "addmm", "linear", "mm"}
)


class JoinedLabels(NamedTuple):
    """What the first `unions` come to: the channel of each label, and the element-wise operations that join channels, in pairs."""

    unions: int
    channel: Labels
    joining: Labels
    operations: Labels


@dataclass(frozen=True)
class Channels:
    """The connected components: the `channel` of each label; of each channel its `lock`, its `group` and its `place` in the group."""

    channel: Indices
    lock: Indices
    group: Indices
    place: Indices


def couple(record: FlowRecord) -> CouplingMap:
    """Build the coupling map of a traced model."""
    axes = list(record.source.sizes)
    owner = owners(record, axes)
    locks = sorted(record.locks, key=lambda lock: lock.rank)
    channels = into_groups(record, owner, locks)
    members = collect_members(record, axes, channels)
    links = collect_links(record, channels)
    joins = joining_operations(record, channels)
    found_locks = locks_of(record, locks, channels, len(members))
    linked = links_by_group(links)
    groups = [
        ChannelGroup(
            number=number,
            channels=len(shares[0].indices),
            members=shares,
            lock=found_locks[number],
            links=linked.get(number, ()),
            joined_by=joins.get(number, ()),
        )
        for number, shares in enumerate(members)
    ]
    groups = list(locked_by_links(groups, links))
    free = {member.axis.parameter for group in groups if group.prunable for member in group.members}
    return CouplingMap(
        groups=tuple(groups),
        links=links,
        sizes=dict(record.source.sizes),
        roles=dict(record.roles),
        block_outputs={path: channels.group[channels.channel[labels]] for path, labels in record.block_outputs.items()},
        inner={
            path: InnerBlock(
                path,
                found.type,
                channels.group[channels.channel[found.inputs]],
                channels.group[channels.channel[found.outputs]],
                bool(np.array_equal(channels.channel[found.inputs], channels.channel[found.outputs])),
                found.silenced,
            )
            for path, found in record.inner.items()
        },
        products=tuple(
            Product(
                record.operations[product.operation].module,
                product.place,
                tuple(channels.group[channels.channel[labels]] for labels in product.factors),
            )
            for product in record.products
        ),
        unknown_operations=dict(record.unknown),
        operations=len(record.operations),
        seconds=0.0,
        spared=frozenset(record.spared),
        remarks=tuple(record.remarks),
        approximate={path: found for path, found in record.approximate.items() if found.parameter in free},
        named=tuple(
            NamedWidth(name, channels.group[channels.channel[vector]], channels.place[channels.channel[vector]])
            for name, vector in record.named.items()
        ),
        scaled=tuple(
            ScaledRows(
                tuple(axis.parameter for axis in scaled.parameters),
                scaled.rows - record.source.starts[scaled.parameters[0]],
                channels.group[channels.channel[scaled.width]],
                channels.place[channels.channel[scaled.width]],
            )
            for scaled in record.scaled
            if scaled.parameters[0].parameter in free
        ),
    )


def owners(record: FlowRecord, axes: Sequence[Axis]) -> Indices:
    """The number of the axis that each label belongs to; -1 for labels of the image and for label 0."""
    owner = np.full(record.source.count, -1, dtype=np.int64)
    for number, axis in enumerate(axes):
        start = record.source.starts[axis]
        owner[start : start + record.source.sizes[axis]] = number
    return owner


def components(record: FlowRecord) -> Indices:
    """The channel of each label: connected components over all unions."""
    left = np.concatenate([union.left for union in record.unions] or [np.zeros(0, np.int64)])
    right = np.concatenate([union.right for union in record.unions] or [np.zeros(0, np.int64)])
    first = connected(record.source.count, left, right)
    return cast(Indices, np.cumsum(first == np.arange(len(first)))[first])


def joined_labels(record: FlowRecord) -> JoinedLabels:
    """The result of the unions of a record: the same for every map made of it, also after more locks and links."""
    if record.joined is None or record.joined.unions != len(record.unions):
        channel, count = components(record), len(record.operations)
        loud = [union for union in record.unions if record.operations[union.operation].name not in SILENT_JOINS]
        left = channel[np.concatenate([union.left for union in loud])] if loud else np.zeros(0, dtype=np.int64)
        operation = np.repeat([union.operation for union in loud], [len(union.left) for union in loud]).astype(np.int64)
        joining, by = np.divmod(distinct(left * count + operation), max(count, 1))
        record.joined = JoinedLabels(len(record.unions), channel, joining, by)
    return record.joined


def connected(count: int, left: Labels, right: Labels) -> Labels:
    """For each number the smallest one that pairs connect it with.

    Most pairs come in runs, as one whole axis is tied to another. So the numbers are put into pieces that every run treats as one, which
    are a hundred times fewer: where one side of a run ends in a piece, the other side is split at the same place.
    """
    other = np.concatenate(([True], (np.diff(left) != 0) | (np.diff(right) != 0)))[: len(left)]
    left, right = left[other], right[other]  # a pair of channels comes again for every pixel
    starts = np.flatnonzero(np.concatenate(([True], (np.diff(left) != 1) | (np.diff(right) != 1)))[: len(left)])
    sizes = np.diff(starts, append=len(left))
    a, b = left[starts], right[starts]
    pieces, before = distinct(np.concatenate(([0], a, a + sizes, b, b + sizes))), 0
    while before < len(pieces) < count // WORTH_RUNS:
        before = len(pieces)
        pieces = distinct(np.concatenate((pieces, mirrored(pieces, a, sizes, b), mirrored(pieces, b, sizes, a))))
    if before < len(pieces):
        return first_connected(count, left, right)
    first, last = np.searchsorted(pieces, a), np.searchsorted(pieces, a + sizes)
    root = first_connected(len(pieces), ranges(first, last - first), ranges(np.searchsorted(pieces, b), last - first))
    pieces = pieces[pieces < count]
    return np.arange(count) + np.repeat(pieces[root[: len(pieces)]] - pieces, np.diff(pieces, append=count))


WORTH_RUNS = 8
"""Numbers for each piece from which on pieces are faster than numbers."""


def mirrored(pieces: Labels, begins: Labels, sizes: Labels, others: Labels) -> Labels:
    """Where pieces begin within runs, the same places of the runs on the other side."""
    low, high = np.searchsorted(pieces, begins, side="right"), np.searchsorted(pieces, begins + sizes)
    return pieces[ranges(low, high - low)] + np.repeat(others - begins, high - low)


def ranges(starts: Labels, sizes: Labels) -> Labels:
    """The numbers of several ranges after each other."""
    return cast(Labels, np.arange(sizes.sum()) + np.repeat(starts - np.cumsum(sizes) + sizes, sizes))


def first_connected(count: int, left: Labels, right: Labels) -> Labels:
    """For each number the smallest one that pairs connect it with: smaller roots adopt larger ones, and chains are shortened.

    The smallest root adopts, so that the rounds are few. SciPy has this too, but its import takes longer than the whole trace.
    """
    root = np.arange(count)
    while len(left):
        np.minimum.at(root, np.maximum(left, right), np.minimum(left, right))
        while not np.array_equal(shorter := root[root], root):
            root = shorter
        left, right = root[left], root[right]
        apart = left != right
        left, right = left[apart], right[apart]
    return root


def distinct(numbers: Indices) -> Indices:
    """The distinct numbers (none negative), sorted; `np.unique` hashes and takes ten times as long."""
    ordered = np.sort(numbers)
    return cast(Indices, ordered[np.diff(ordered, prepend=-1) != 0])


def scrambled(numbers: Indices) -> NDArray[np.uint64]:
    """A 64-bit hash of each number (splitmix64), so that sums of hashes tell sets of numbers apart."""
    x = numbers.astype(np.uint64) + np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.asarray(x ^ (x >> np.uint64(31)), dtype=np.uint64)


def into_groups(record: FlowRecord, owner: Indices, locks: Sequence[LockedLabels]) -> Channels:
    """Put channels with the same axes, the same linked parts and the same lock into one group."""
    channel = joined_labels(record).channel
    count = int(channel.max()) + 1
    owned = owner >= 0
    entries, kinds = [channel[owned]], [owner[owned]]
    kind = len(record.source.sizes)
    lock = np.full(count, len(locks), dtype=np.int64)
    for number in reversed(range(len(locks))):
        lock[channel[locks[number].labels]] = number
    parts = [part for link in binding_links(record, channel) for part in link.parts]
    if parts:
        numbers = np.repeat(np.arange(len(parts)), [len(part) for part in parts])
        linked, part_of = np.divmod(distinct(channel[np.concatenate(parts)] * len(parts) + numbers), len(parts))
        free = lock[linked] == len(locks)  # channels that stay need not be told apart
        entries.append(linked[free])
        kinds.append(kind + part_of[free])
        kind += len(parts)
    signature = np.zeros(count, dtype=np.uint64)
    np.add.at(signature, np.concatenate(entries), scrambled(np.arange(kind))[np.concatenate(kinds)])
    signature += scrambled(lock + kind)
    return numbered(channel, lock, signature, owned)


def numbered(channel: Indices, lock: Indices, signature: NDArray[np.uint64], owned: NDArray[np.bool_]) -> Channels:
    """Number the groups, and the channels within each, in the order in which the model's parameters name them."""
    count = len(signature)
    first = np.full(count, len(channel), dtype=np.int64)
    labels = np.flatnonzero(owned)
    first[channel[labels[::-1]]] = labels[::-1]  # of several values the last one stays
    real = np.flatnonzero(first < len(channel))
    real = real[np.argsort(first[real], kind="stable")]
    _, start, inverse = np.unique(signature[real], return_index=True, return_inverse=True)
    rank = np.empty(len(start), dtype=np.int64)
    rank[np.argsort(start, kind="stable")] = np.arange(len(start))
    group, place = np.full(count, -1, dtype=np.int64), np.zeros(count, dtype=np.int64)
    group[real] = rank[inverse]
    order = np.argsort(group[real], kind="stable")
    starts = np.searchsorted(group[real][order], np.arange(len(start)))
    place[real[order]] = np.arange(len(real)) - starts[group[real][order]]
    return Channels(channel, lock, group, place)


def collect_members(record: FlowRecord, axes: Sequence[Axis], channels: Channels) -> list[tuple[Member, ...]]:
    """Each group's members, axis by axis. Most axes have one group, in order; the labels of the others are sorted."""
    starts, sizes = (np.array([known[axis] for axis in axes], dtype=np.int64) for known in (record.source.starts, record.source.sizes))
    first, group, place = channels.channel[starts], channels.group, channels.place
    # In order: the places go up by one, and so do their sums with the group, as it is the same all along.
    broken = (
        breaks(channels.channel, starts, sizes) | breaks(place, first, sizes) | (breaks(group + place, first, sizes)) | (place[first] > 0)
    )
    members: list[list[Member]] = [[] for _ in range(int(group.max()) + 1)]
    shares = shares_of(np.flatnonzero(broken), starts, sizes, channels)
    for number, (axis, size, of, mixed) in enumerate(zip(axes, sizes.tolist(), group[first].tolist(), broken.tolist(), strict=True)):
        for owner, positions in shares[number] if mixed else ((of, np.arange(size)[:, None]),):
            members[owner].append(Member(axis, record.roles.get(axis), positions))
    return [tuple(shares) for shares in members]


def breaks(numbers: Indices, starts: Indices, sizes: Indices) -> NDArray[np.bool_]:
    """For each range of places: whether any number there, beside the first, is not the one before it and one more."""
    found = np.concatenate(([0, 0], np.cumsum(np.diff(numbers) != 1)))
    return cast(NDArray[np.bool_], found[np.minimum(starts + sizes, len(numbers))] != found[starts + 1])


def shares_of(axes: Indices, starts: Indices, sizes: Indices, channels: Channels) -> dict[int, list[tuple[int, Indices]]]:
    """The groups on each of some axes, with the positions of their channels there."""
    labels, axis = ranges(starts[axes], sizes[axes]), np.repeat(axes, sizes[axes])
    channel = channels.channel[labels]
    group, place = channels.group[channel], channels.place[channel]
    order = np.lexsort((place, group, axis))
    group, place, axis, position = group[order], place[order], axis[order], (labels - starts[axis])[order]
    highs = np.append(np.flatnonzero((np.diff(group) != 0) | (np.diff(axis) != 0)) + 1, len(order)) if len(order) else order
    shares: dict[int, list[tuple[int, Indices]]] = {}
    low = 0
    for high, number, which, last in zip(*(x.tolist() for x in (highs, group[highs - 1], axis[highs - 1], place[highs - 1])), strict=True):
        shares.setdefault(which, []).append((number, position[low:high].reshape(last + 1, -1)))
        low = high
    return shares


def collect_links(record: FlowRecord, channels: Channels) -> tuple[ChannelLink, ...]:
    """The links, with groups in place of labels, each once."""
    links: dict[tuple[tuple[int, ...], ...], ChannelLink] = {}
    for linked in binding_links(record, channels.channel):
        parts = tuple(groups_in(part, channels) for part in linked.parts)
        operation = record.operations[linked.operation]
        if len(set(parts)) > 1 and parts not in links:
            links[parts] = ChannelLink(len(links), operation.name, operation.module, parts, linked.kind == "heads")
    return tuple(links.values())


def binding_links(record: FlowRecord, channel: Indices) -> list[LinkedLabels]:
    """The links of a record without those of rows that are one channel each: a cut leaves fewer rows, of the same length."""

    def one_each(link: LinkedLabels) -> bool:
        return link.kind == "rows" and all(len(part) > 1 and bool((channel[part] == channel[part[0]]).all()) for part in link.parts)

    return [link for link in record.links if not one_each(link)]


def groups_in(labels: Labels, channels: Channels) -> tuple[int, ...]:
    """The groups that a vector of labels touches."""
    return tuple(sorted(set(channels.group[channels.channel[labels]].tolist())))


def joining_operations(record: FlowRecord, channels: Channels) -> dict[int, tuple[Operation, ...]]:
    """The operations that tied each group together, without layers and norms: the element-wise ones."""
    joined = joined_labels(record)
    joins: dict[int, tuple[Operation, ...]] = {}
    count = len(record.operations)
    for pair in distinct((channels.group[joined.joining] + 1) * count + joined.operations).tolist():
        number = pair // count - 1
        joins[number] = (*joins.get(number, ()), record.operations[pair % count])
    return joins


def links_by_group(links: Sequence[ChannelLink]) -> dict[int, tuple[int, ...]]:
    """The numbers of the links that each group takes part in."""
    found: dict[int, tuple[int, ...]] = {}
    for link in links:
        for number in {number for part in link.parts for number in part}:
            found[number] = (*found.get(number, ()), link.number)
    return found


def locks_of(record: FlowRecord, locks: Sequence[LockedLabels], channels: Channels, groups: int) -> list[Lock | None]:
    """The best reason why each group is locked, None where it is not; all channels of a group have the same lock."""
    which = np.full(groups, len(locks), dtype=np.int64)
    grouped = channels.group >= 0
    which[channels.group[grouped]] = channels.lock[grouped]
    return [lock_of(record, locks[number]) if number < len(locks) else None for number in which.tolist()]


def lock_of(record: FlowRecord, locked: LockedLabels) -> Lock:
    """The lock with the operation and the module that caused it."""
    operation = record.operations[locked.operation]
    return Lock(locked.reason, operation.name, operation.module, locked.dim)


def by_rows(record: FlowRecord) -> list[SizedLabels]:
    """The labels with sizes; those of a view whose rows turned out to be one channel each with the number of rows for their length."""
    if not any(entry.rows and entry.widths for entry in record.sized):
        return record.sized
    channel = joined_labels(record).channel

    def counted(entry: SizedLabels) -> SizedLabels:
        one_each = all(len(row) > 1 and bool((channel[row] == channel[row[0]]).all()) for row in entry.widths)
        return (
            replace(entry, widths=(entry.rows[0],), dim=entry.rows[1], follows=False) if entry.rows and entry.widths and one_each else entry
        )

    return [counted(entry) if entry.rows else entry for entry in record.sized]
