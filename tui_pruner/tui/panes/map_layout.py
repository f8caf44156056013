"""The layout of the map: sections as rows of cards, links as wires between the rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tui_pruner.engine.messages import BlockView
    from tui_pruner.tui.outline import Row


@dataclass(frozen=True)
class MapWire:
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


def choose_tracks(wires: Sequence[MapWire], candidates: Mapping[int, int]) -> dict[int, int]:
    """Choose a column for every source whose wires pass rows of cards: a free one with the shortest way, else the shortest.

    `candidates`: each column with its cost in addition to the length of the way.
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


def detour(column: int, wires: Sequence[MapWire]) -> int:
    """The horizontal length of wires through this column."""
    return sum(abs(wire.out - column) + abs(wire.into - column) for wire in wires)


def lanes_of(wires: Sequence[MapWire], tracks: Mapping[int, int]) -> Lanes:
    """Choose a line for every source in every zone where its wires run horizontally: the first that no other one's wires touch.

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


def goals(wires: Sequence[MapWire]) -> dict[tuple[int, int], frozenset[int]]:
    """By (zone, source): the blocks at which the wires end in that zone; wires that continue have a value of their own."""
    found: dict[tuple[int, int], set[int]] = {}
    for wire in wires:
        for zone in (wire.first, wire.last):
            found.setdefault((zone, wire.source), set()).add(wire.target if zone == wire.last else -1 - wire.source)
    return {place: frozenset(ends) for place, ends in found.items()}


def spread(wires: Sequence[MapWire], tracks: Mapping[int, int]) -> dict[tuple[int, int], range]:
    """By (zone, source): the columns that a source's wires cover there."""
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


CARD = 11
GAP = 2
PITCH = CARD + GAP
HEIGHT = 2
OUT, IN, UP = 2, 5, 8
Point = tuple[int, int]


@dataclass(frozen=True)
class Card:
    """A block's position: its row and column of cards, and its left edge in cells."""

    index: int
    name: str
    label: str
    section: str
    row: int
    column: int

    @property
    def x(self) -> int:
        """Its left edge."""
        return self.column * PITCH


@dataclass(frozen=True)
class MapLink:
    """A link between two blocks: the corners of the wire as (y, x), from inside the source's card to inside the target's."""

    source: int
    target: int
    points: tuple[Point, ...]


@dataclass(frozen=True)
class Chart:
    """The whole map: cards, links, the y of each row of cards, and the height in lines."""

    cards: tuple[Card, ...]
    links: tuple[MapLink, ...]
    tops: tuple[int, ...]
    height: int

    def card(self, index: int) -> Card:
        """The card of a block."""
        return next(card for card in self.cards if card.index == index)

    def neighbour(self, index: int, columns: int, rows: int) -> int:
        """The block this many cards further along the model, or in the row above or below; the same at the edge."""
        here = self.card(index)
        if columns:
            place = self.cards.index(here) + columns
            return self.cards[min(max(place, 0), len(self.cards) - 1)].index
        beside = [card for card in self.cards if card.row == here.row + rows]
        return min(beside, key=lambda card: abs(card.column - here.column)).index if beside else index


def chart(blocks: Sequence[BlockView], width: int) -> Chart:
    """Lay out the map of a model in this many cells."""
    cards = place(blocks, max((width + GAP) // PITCH, 1))
    by_index = {card.index: card for card in cards}
    pairs = [(source, block.index) for block in blocks for source in block.from_ if source in by_index]
    wires = [wire(by_index[source], by_index[target]) for source, target in pairs if not beside(by_index[source], by_index[target])]
    rows = cards[-1].row + 1 if cards else 0
    lanes = lanes_of(wires, choose_tracks(wires, tracks(cards, width)))
    tops, starts = heights(rows, lanes)
    joined = [MapLink(w.source, w.target, corners(w, lanes, starts, tops)) for w in wires]
    adjacent = [MapLink(a, b, arrow(by_index[a], by_index[b], tops)) for a, b in pairs if beside(by_index[a], by_index[b])]
    return Chart(tuple(cards), (*joined, *adjacent), tuple(tops), starts[-1] + lanes.depth(rows) if rows else 0)


def block_under(blocks: Sequence[BlockView], row: Row | None) -> int:
    """The number of the block under the tree's cursor; in a section's row its first block."""
    name = "" if row is None else row.parent if row.kind == "layer" else row.key
    return next((block.index for block in blocks if name in (block.name, block.section)), blocks[0].index)


def place(blocks: Sequence[BlockView], columns: int) -> list[Card]:
    """The cards: every section begins a row, and a row ends where the width does."""
    cards: list[Card] = []
    row = column = 0
    for block in blocks:
        if cards and (block.section != cards[-1].section or column == columns):
            row, column = row + 1, 0
        cards.append(Card(block.index, block.name, f"{block.index} {block.type}", block.section, row, column))
        column += 1
    return cards


def beside(source: Card, target: Card) -> bool:
    """Whether an arrow in the gap between two cards says it all."""
    return source.row == target.row and target.column == source.column + 1


def wire(source: Card, target: Card) -> MapWire:
    """A link as the router sees it: the zones (the room above a row of cards has the row's number) and the columns of its ends."""
    level = source.row == target.row
    return MapWire(
        source.index, target.index, source.row + 1, source.row + 1 if level else target.row, source.x + OUT,
        target.x + (UP if level else IN), level,
    )  # fmt: skip


def tracks(cards: Sequence[Card], width: int) -> dict[int, int]:
    """Columns where a wire can pass rows of cards, with their cost: the gaps and the margin are free, a gap's arrowhead is dear."""
    columns = max((card.column for card in cards), default=0) + 1
    gaps = [column * PITCH - GAP for column in range(1, columns + 1)]
    margin = range(gaps[-1] + GAP, width, 2)
    return dict.fromkeys([*gaps, *margin], 0) | {gap + 1: PITCH for gap in gaps[:-1]}


def heights(rows: int, lanes: Lanes) -> tuple[list[int], list[int]]:
    """The y of each row of cards, and of each zone: above every row its lanes and a line for arrowheads and the section's name."""
    tops: list[int] = []
    starts: list[int] = []
    y = 0
    for row in range(rows):
        starts.append(y)
        y += lanes.depth(row) + 1
        tops.append(y)
        y += HEIGHT
    return tops, [*starts, y]


def corners(wire: MapWire, lanes: Lanes, starts: Mapping[int, int] | Sequence[int], tops: Sequence[int]) -> tuple[Point, ...]:
    """The corners of a wire: down from its source, along its lane, over a track to a later zone, down into its target."""
    first = starts[wire.first] + lanes.lane(wire.first, wire.source)
    points = [(starts[wire.first] - 1, wire.out)]
    if wire.level:
        return (*points, (first, wire.out), (first, wire.into), (starts[wire.first] - 1, wire.into))
    points.append((first, wire.out))
    last = starts[wire.last] + lanes.lane(wire.last, wire.source)
    if wire.last != wire.first:
        track = lanes.tracks[wire.source]
        points += [(first, track), (last, track)]
    return (*points, (last, wire.into), (tops[wire.last], wire.into))


def arrow(source: Card, target: Card, tops: Sequence[int]) -> tuple[Point, ...]:
    """The short way between two cards beside each other."""
    y = tops[source.row]
    return ((y, source.x + CARD - 1), (y, target.x))
