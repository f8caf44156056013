"""What is left of a coupling map where inner blocks were dropped: each hands out its input, and what was inside is gone.

Groups keep their numbers and channels their places, so that a plan stays in the original checkpoint's numbering. The map says of each
channel that can no longer be removed why that is so.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import numpy as np

from tui_pruner.core.flow.coupling import held_by_links
from tui_pruner.core.groups import ChannelGroup, CouplingMap, InnerBlock, Lock
from tui_pruner.errors import PlanError

Dropped = frozenset[str]
MOST_NAMED = 8


def inside(path: str, dropped: Iterable[str]) -> str:
    """The dropped block that a module is or lies in, empty where it is in none."""
    return next((block for block in dropped if path == block or path.startswith(f"{block}.")), "")


def outermost(paths: Iterable[str]) -> Dropped:
    """The blocks without those that lie in another one of them."""
    found = set(paths)
    return frozenset(path for path in found if not inside(path, found - {path}))


def droppable_in_words(coupling: CouplingMap) -> str:
    """What can be dropped in a model, in a few words."""
    paths = [path for path in coupling.inner if not inside(path, coupling.dropped)]
    if not paths:
        return "this model has no inner block that it could do without"
    more = f" and {len(paths) - MOST_NAMED} more (tui-pruner inspect lists all)" if len(paths) > MOST_NAMED else ""
    return f"this model can do without {', '.join(paths[:MOST_NAMED])}{more}"


def demand_droppable(coupling: CouplingMap, path: str) -> InnerBlock:
    """The inner block at a path.

    Raises:
        PlanError: it is none that the forward can do without.
    """
    if path not in coupling.inner:
        raise PlanError(f"{path} cannot be dropped: it is no repeat that could hand on its input; {droppable_in_words(coupling)}")
    return coupling.inner[path]


def held_by(coupling: CouplingMap, block: InnerBlock) -> set[int]:
    """The groups that must stay whole once a block is dropped: of other channels going in than coming out, which become one."""
    return set() if block.tied else {int(number) for number in (*block.inputs, *block.outputs) if number >= 0}


def after(coupling: CouplingMap, dropped: Dropped) -> CouplingMap:
    """The map as it is without some blocks: what was inside is gone, and what it tied no longer is.

    Raises:
        PlanError: one of them is no block that the forward can do without.
    """
    if dropped <= coupling.dropped:
        return coupling
    if dropped not in coupling.without:
        coupling.without[dropped] = _after(coupling, outermost(dropped | coupling.dropped))
    return coupling.without[dropped]


def _after(coupling: CouplingMap, dropped: Dropped) -> CouplingMap:
    blocks = [demand_droppable(coupling, path) for path in sorted(dropped)]
    gone = {group.number: path for group in coupling.groups if (path := around(group, dropped))}
    held = {number: block.path for block in blocks for number in held_by(coupling, block)}
    links = tuple(replace(link, parts=()) if inside(link.module, dropped) else link for link in coupling.links)

    def left(group: ChannelGroup) -> ChannelGroup:
        lock = group.lock
        if group.number in gone:
            lock = Lock(f"it went with the dropped block {gone[group.number]}", "", "", 1)
        elif group.number in held and lock is None:
            lock = Lock(f"what the dropped block {held[group.number]} read and what it wrote stay whole, as they are now one", "", "", 1)
        return replace(group, lock=lock, links=tuple(number for number in group.links if links[number].parts))

    groups = held_by_links([left(group) for group in coupling.groups], [link for link in links if link.parts])
    return replace(coupling, groups=tuple(groups), links=links, dropped=dropped, gone=frozenset(gone))


def around(group: ChannelGroup, dropped: Dropped) -> str:
    """The dropped block in which all members of a group lie, empty where there is none."""
    first = inside(group.members[0].axis.module, dropped) if group.members else ""
    return first if first and all(inside(member.axis.module, dropped) for member in group.members) else ""


def cut_already(coupling: CouplingMap, block: InnerBlock, counts: np.ndarray) -> bool:
    """Whether channels are gone that must stay whole once a block is dropped; `counts` has the removed channels by group."""
    return any(counts[number] for number in held_by(coupling, block))
