"""Routing the map's wires: which column each takes past rows of cards, and which line between them, so that none hides another."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Wire:
    """A link between blocks: from the zone below its source (`first`) to the one above its target (`last`), at columns `out` and `into`.

    `level`: both ends are in one row of cards, and the wire comes back up. Wires from one source share their lanes and their track.
    """

    source: int
    target: int
    first: int
    last: int
    out: int
    into: int
    level: bool


@dataclass(frozen=True)
class Lanes:
    """By (zone, source): the line inside the zone. By source: the column in which its wires pass rows of cards."""

    lines: Mapping[tuple[int, int], int]
    tracks: Mapping[int, int]

    def lane(self, zone: int, source: int) -> int:
        """The line of a source's wires in a zone."""
        return self.lines[zone, source]

    def depth(self, zone: int) -> int:
        """How many lines a zone has."""
        return max((line + 1 for (z, _), line in self.lines.items() if z == zone), default=0)


def choose_tracks(wires: Sequence[Wire], candidates: Mapping[int, int]) -> dict[int, int]:
    """For every source whose wires pass rows of cards a column: the free one with the shortest way, or the shortest when none is free.

    `candidates`: each column with what it costs on top of its way.
    """
    taken: dict[int, list[range]] = {column: [] for column in candidates}
    chosen: dict[int, int] = {}
    for source in dict.fromkeys(wire.source for wire in wires if wire.first < wire.last):
        far = [wire for wire in wires if wire.source == source and wire.first < wire.last]
        zones = range(far[0].first, max(wire.last for wire in far) + 1)
        free = [column for column in candidates if not any(overlap(zones, other) for other in taken[column])]
        chosen[source] = min(free or candidates, key=lambda column: detour(column, far) + candidates[column])
        taken[chosen[source]].append(zones)
    return chosen


def detour(column: int, wires: Sequence[Wire]) -> int:
    """How far wires go sideways when they take this column."""
    return sum(abs(wire.out - column) + abs(wire.into - column) for wire in wires)


def lanes_of(wires: Sequence[Wire], tracks: Mapping[int, int]) -> Lanes:
    """A line for every source in every zone where its wires go sideways: the first that no other one's wires touch.

    Wires that all end at the same block may share a line: they arrive together.
    """
    lines: dict[tuple[int, int], int] = {}
    spans, ends = spread(wires, tracks), goals(wires)
    for zone in sorted({zone for zone, _ in spans}):
        filled: list[list[int]] = []
        inside = {source: span for (z, source), span in spans.items() if z == zone}
        for source, span in sorted(inside.items(), key=lambda item: (len(item[1]), item[1].start)):
            others = [[n for n in line if ends[zone, n] != ends[zone, source] and overlap(span, inside[n])] for line in filled]
            line = next((number for number, touching in enumerate(others) if not touching), len(filled))
            if line == len(filled):
                filled.append([])
            filled[line].append(source)
            lines[zone, source] = line
    return Lanes(lines, dict(tracks))


def goals(wires: Sequence[Wire]) -> dict[tuple[int, int], frozenset[int]]:
    """By (zone, source): the blocks that the wires end at in that zone; where they go on as well, no other source's can be the same."""
    found: dict[tuple[int, int], set[int]] = {}
    for wire in wires:
        for zone in (wire.first, wire.last):
            found.setdefault((zone, wire.source), set()).add(wire.target if zone == wire.last else -1 - wire.source)
    return {place: frozenset(ends) for place, ends in found.items()}


def spread(wires: Sequence[Wire], tracks: Mapping[int, int]) -> dict[tuple[int, int], range]:
    """By (zone, source): the columns that a source's wires span there."""
    columns: dict[tuple[int, int], set[int]] = {}
    for wire in wires:
        here = columns.setdefault((wire.first, wire.source), {wire.out})
        if wire.first == wire.last:
            here.add(wire.into)
        else:
            here.add(tracks[wire.source])
            columns.setdefault((wire.last, wire.source), set()).update((tracks[wire.source], wire.into))
    return {place: range(min(found), max(found) + 2) for place, found in columns.items()}


def overlap(one: range, other: range) -> bool:
    """Whether two ranges share a number."""
    return one.start < other.stop and other.start < one.stop
