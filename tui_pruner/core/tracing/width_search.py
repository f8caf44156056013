"""Widths that a module keeps in attributes: found by what they count or by trial, and rewritten after each cut.

Where the forward was watched, an attribute that became a size counts the channels there. Where that does not explain all: where a run of
the cut network fails at an operation with sizes in its arguments, or has another width there than is left, the integers of the running
module are tried one by one. The attribute that held the old width, and with which the run gets further, holds that width.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import islice, product
from typing import Any

import numpy as np
from torch import nn

from tui_pruner.core.pruning.removal import Removal
from tui_pruner.core.tracing.coupling import joined_labels
from tui_pruner.core.tracing.coupling_map import CouplingMap, Indices, WidthName
from tui_pruner.core.tracing.inner_blocks import inside
from tui_pruner.core.tracing.labels import BY_PLACE, Axis, FlowRecord, Labels, LinkedLabels, SizedLabels
from tui_pruner.core.tracing.widths import ReadWidth, plain
from tui_pruner.domain.errors import PlanError

MOST_PARTS = 64
MOST_COMBINED = 12
"""How many combinations of attributes are tried for the widths of a place."""


@dataclass(frozen=True)
class Guess:
    """An attribute that may hold a width used at a place, in every module that has this place, with the channels that it would count."""

    attribute: str
    position: int | None
    number: int
    """Index of the width among those of the place."""
    times: int = 1
    """What multiple of that width it holds: a whole of equal parts, or of all heads."""

    def of(self, record: FlowRecord, entry: SizedLabels) -> WidthName:
        """The attribute in the module of one entry."""
        return WidthName(record.operations[entry.operation].module, self.attribute, self.position)


def name_by_what_they_count(record: FlowRecord) -> None:
    """Record that an attribute holds the width that it was used for as a size; what it counts in several places stays equally wide."""
    rows = {link.operation: link.parts for link in record.links if link.kind}
    for width, vector, operation in record.counted:
        name, times = holder(width)
        if name is None or vector is None or not vector.any() or len(vector) != width.number or is_one_channel(record, vector):
            continue
        whole = whole_of(vector, times, rows.get(operation, ()))
        known = record.named.setdefault(name, whole)
        if not np.array_equal(known, whole):
            add_links(record, [linked(operation, known, whole)])


def lock_values(record: FlowRecord, valued: Sequence[tuple[ReadWidth, str]]) -> None:
    """Lock what attributes count that the forward also gives to a function as a count, a place or a factor, which no cut may change."""
    for width, name in valued:
        for held in {part.made[0] for part in width.parts() if isinstance(part.made[0], WidthName)} & record.named.keys():
            operation = record.note(name, held.path)
            record.lock(operation.index, record.named[held], f"the forward also uses the attribute {held.attribute} for {name}", rank=3)


def is_one_channel(record: FlowRecord, vector: Labels) -> bool:
    """Whether several values of a vector belong to a single channel, so that a cut removes all of them or none."""
    channel = joined_labels(record).channel[vector]
    return len(vector) > 1 and bool((channel == channel[0]).all())


def whole_of(vector: Labels, times: int, rows: Sequence[Labels]) -> Labels:
    """So many rows together, of which the first is given: those that a view made, if they are known."""
    if len(rows) >= times > 1 and np.array_equal(rows[0], vector):
        return np.concatenate(rows[:times])
    return np.tile(vector, times)


def holder(width: ReadWidth) -> tuple[WidthName | None, int]:
    """The attribute that a width is from, and how many such widths it holds: one, or a whole that the forward divides."""
    first, *rest = width.made
    if isinstance(first, WidthName):
        return first, 1
    whole, parts = rest if first is operator.floordiv else (None, None)
    if type(whole) is ReadWidth and isinstance(whole.made[0], WidthName) and plain(whole) == plain(parts) * width.number:
        return whole.made[0], plain(parts)
    return None, 1


def integers_of(module: nn.Module) -> Iterator[tuple[str, int | None, int]]:
    """The integers among a module's own attributes, alone or in a tuple or list, by name and position."""
    for name, value in vars(module).items():
        if not WidthName.fits(name):
            continue
        if type(value) is int:
            yield name, None, value
        elif isinstance(value, (tuple, list)):
            yield from ((name, place, item) for place, item in enumerate(value) if type(item) is int)


def candidates(record: FlowRecord, model: nn.Module, entry: SizedLabels) -> Iterator[Guess]:
    """The attributes that may hold a width of a place or a multiple, first those that methods read; of a list the part's element."""
    module = model.get_submodule(record.operations[entry.operation].module)
    found, read = list(integers_of(module)), names_read(type(module))
    fitting = [
        Guess(name, place, number, value // len(vector))
        for number, vector in enumerate(vectors_of(entry))
        for name, place, value in found
        if len(vector) > 1 and value > 0 and value % len(vector) == 0 and value // len(vector) <= MOST_PARTS
    ]
    yield from sorted(fitting, key=lambda one: (one.attribute not in read, one.times, one.position not in (None, one.number)))


def names_read(kind: type[nn.Module]) -> set[str]:
    """The names in the code of a class's methods, without those that only its `__init__` uses."""
    methods = (vars(base).items() for base in kind.__mro__ if issubclass(base, nn.Module) and base is not nn.Module)
    codes = (getattr(method, "__code__", None) for own in methods for name, method in own if name != "__init__")
    return {name for code in codes if code is not None for name in code.co_names}


WidthNaming = Callable[[FlowRecord, nn.Module, SizedLabels], bool]
"""Changes what a record says of a place, in all modules that have it, so that the network may get further; whether it did."""


def equal_parts(record: FlowRecord, model: nn.Module, entry: SizedLabels) -> bool:
    """Link the equal parts that slices take, whose bounds a forward may compute from the whole width."""
    changed = False
    for other in (one for one in record.sized if one.place == entry.place and one.otherwise == BY_PLACE):
        before, until, whole = other.widths
        part = len(until) - len(before)
        if not 0 < part < len(whole) or len(whole) % part or len(before) % part:
            continue
        parts = np.split(whole, len(whole) // part)
        changed = add_links(record, [linked(other.operation, parts[0], one) for one in parts[1:]]) or changed
    return changed


def namings_of(record: FlowRecord, model: nn.Module, entry: SizedLabels) -> list[WidthNaming]:
    """The attributes that may hold the widths of a place: one attribute, or one for each width at once."""
    found = list(candidates(record, model, entry))
    each = {candidate.number: candidate for candidate in reversed(found) if candidate.times == 1}
    parts = [candidate for number, candidate in each.items() if number < len(entry.widths)]
    ways = [*([candidate] for candidate in found), *(some for some in (parts, list(each.values())) if len(some) > 1)]
    if 1 < len(parts) == len(entry.widths):  # several attributes may hold the same number
        alike = [[one for one in found if one.times == 1 and one.number == number] for number in range(len(parts))]
        ways += [list(some) for some in islice(product(*alike), MOST_COMBINED) if list(some) not in ways]
    return [partial(record_widths, candidates=way) for way in ways]


def ways_to_read(record: FlowRecord, model: nn.Module, entry: SizedLabels) -> list[WidthNaming]:
    """The layers of a module whose input may be as wide as its parts at a place must be, as where attention takes the width of all heads
    from its input."""
    path = record.operations[entry.operation].module
    layers = [axis for axis, role in record.roles.items() if role == "in" and axis.module.rpartition(".")[0] == path != axis.module]
    sizes = {axis.parameter.removeprefix(path): record.source.sizes[axis] for axis in layers}
    fitting = [own for own, size in sizes.items() if size > 1 and len(entry.labels[entry.labels > 0]) % size == 0]
    return [partial(as_wide_as_read, own=own) for own in fitting]


def as_wide_as_read(record: FlowRecord, model: nn.Module, entry: SizedLabels, own: str) -> bool:
    """Link the parts of a place with what a layer reads, here and at all such places in modules of the class; whether that is new."""
    changed = False
    for other in (one for one in record.sized if one.place[0] == entry.place[0] and len(one.labels) >= len(entry.labels)):
        axis, labels = Axis(record.operations[other.operation].module + own, 1), other.labels[other.labels > 0]
        size = record.source.sizes.get(axis, 0)
        if size and len(labels) % size == 0:
            links = [linked(other.operation, record.source.labels_of(axis), part) for part in np.split(labels, len(labels) // size)]
            changed = add_links(record, links) or changed
    return changed


def record_widths(record: FlowRecord, model: nn.Module, entry: SizedLabels, candidates: Sequence[Guess]) -> bool:
    """Record that several attributes hold the widths of a place; whether that is new."""
    changed = [record_width(record, model, entry, candidate) for candidate in candidates]
    return any(changed)


def vectors_of(entry: SizedLabels) -> tuple[Labels, ...]:
    """The widths of a place; where it has several, also that of all together."""
    several = len(entry.widths) > 1 and entry.otherwise != BY_PLACE
    return (*entry.widths, np.concatenate(entry.widths)) if several else entry.widths


def record_width(record: FlowRecord, model: nn.Module, entry: SizedLabels, candidate: Guess) -> bool:
    """Record that an attribute holds a width of a place, in every module of the class that has it; whether that is new.

    Widths that one attribute holds for several places must stay equal: they are linked.
    """
    changed = False
    for other in (one for one in record.sized if one.place == entry.place and candidate.number < len(vectors_of(one))):
        name, vector = candidate.of(record, other), np.tile(vectors_of(other)[candidate.number], candidate.times)
        if value_of(model, name) != len(vector):
            continue
        known = record.named.get(name)
        if known is None:
            record.named[name] = vector
            changed = True
        elif not np.array_equal(known, vector):
            changed = add_links(record, [linked(other.operation, known, vector)]) or changed
    return changed


class Linked(LinkedLabels):
    """A link that is compared by its parts."""

    @cached_property
    def key(self) -> tuple[bytes, ...]:
        """What two links that tie the same channels have in common."""
        return tuple(part.tobytes() for part in self.parts)

    def __eq__(self, other: object) -> bool:
        """Whether both tie the same channels."""
        return isinstance(other, Linked) and self.key == other.key

    def __hash__(self) -> int:
        return hash(self.key)


def add_links(record: FlowRecord, links: Sequence[Linked]) -> bool:
    """Add the links that a record does not have yet; whether there were any."""
    known = {link for link in record.links if type(link) is Linked}
    new = [link for link in dict.fromkeys(links) if link not in known]
    record.links += new
    return bool(new)


def linked(operation: int, first: Labels, second: Labels) -> Linked:
    """Two vectors that must lose equally many channels."""
    return Linked(operation, tuple(part[part != 0] for part in (first, second)))


def value_of(model: nn.Module, name: WidthName) -> int | None:
    """The integer that an attribute holds; None where there is none."""
    try:
        value = vars(model.get_submodule(name.path)).get(name.attribute)
    except AttributeError:
        return None
    if name.position is not None:
        value = value[name.position] if isinstance(value, (tuple, list)) and name.position < len(value) else None
    return value if type(value) is int else None


def widths_left(coupling: CouplingMap, removal: Removal) -> dict[str, int]:
    """What every attribute that holds a width must be after a removal, by its full name; only those that change."""
    found = {}
    for named in coupling.named:
        gone = lost(named.groups, named.places, removal)
        if gone and not inside(named.name.path, removal.dropped):
            found[str(named.name)] = len(named.groups) - gone
    return found


def lost(groups: Indices, places: Indices, removal: Removal) -> int:
    """How many channels of a width, given by group and place, a removal takes."""
    return sum(int(np.isin(places[groups == n], removal.places[n]).sum()) for n in set(groups.tolist()) & {*removal.places})


def put_widths(model: nn.Module, widths: Mapping[str, int]) -> None:
    """Set attributes that hold widths, in a model that shares no modules with another.

    Raises:
        PlanError: the model has no such attribute, or a smaller value, or refuses the width.
    """
    for text, width in widths.items():
        name = WidthName.parsed(text)
        before = value_of(model, name)
        if before is None or not 0 < width <= before:
            raise PlanError(f"the plan gives {text} the width {width}, which this module has as {before}")
        try:
            setattr(model.get_submodule(name.path), name.attribute, holding(model, name, width))
        except Exception as error:  # a class may refuse to have its attributes set, and raise anything
            raise PlanError(f"{text} cannot be set to the width {width}: {str(error) or type(error).__name__}") from error


def holding(model: nn.Module, name: WidthName, width: int) -> Any:
    """What an attribute must be to hold a width, alone or at its position."""
    if name.position is None:
        return width
    value = getattr(model.get_submodule(name.path), name.attribute)
    items = [width if place == name.position else item for place, item in enumerate(value)]
    if isinstance(value, list):
        return items
    made: Callable[[list[Any]], Any] = getattr(type(value), "_make", type(value))  # of a named tuple
    return made(items)


def lengths(vectors: Sequence[Labels], alive: np.ndarray) -> tuple[int, ...]:
    """The length of each vector without the channels that are gone; positions without a channel stay."""
    return tuple(int(alive[vector].sum()) for vector in vectors)
