"""Repeats inside a block that can be dropped as a whole, and the coupling map where some are."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from torch import nn

from tui_pruner.core.model.copies import Parts
from tui_pruner.core.model.layers import keeps_blocks
from tui_pruner.core.tracing.adapters import is_of_library, nearest_base
from tui_pruner.core.tracing.coupling_map import ChannelGroup, CouplingMap, InnerBlock, Lock, locked_by_links
from tui_pruner.core.tracing.labels import Labels
from tui_pruner.domain.errors import PlanError

REPEATS = "m"
"""The attribute in which blocks keep their repeats."""
STAY_ZERO = (nn.SiLU, nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.GELU, nn.Hardswish, nn.Mish, nn.ELU, nn.PReLU, nn.Tanh, nn.Identity)
"""Activations that leave zero at zero."""


@dataclass(frozen=True)
class InnerLabels:
    """The channels that a repeat within a block reads and returns, equally many, with its class and the parameters that silence it."""

    type: str
    inputs: Labels
    outputs: Labels
    silenced: tuple[str, ...]


Ends = Callable[[Any], list[str]]
ENDS: dict[str, Ends] = {}
"""By class: the last layers of each branch that is added to the input; empty where nothing is added to the input."""


def repeats_of(model: nn.Module, parts: Parts) -> Iterator[tuple[str, nn.Module]]:
    """Path and module of every repeat, and of the parts of a repeat that is itself a sequence; in a plain model the blocks in its lists."""
    if not keeps_blocks(model):
        yield from listed(parts)
        return
    for path, module in parts:
        repeats = module._modules.get(REPEATS)
        if isinstance(repeats, (nn.ModuleList, nn.Sequential)) and any(map(is_of_library, type(module).__mro__)):
            yield from parts_of(f"{path}.{REPEATS}" if path else REPEATS, repeats)


def listed(parts: Parts) -> Iterator[tuple[str, nn.Module]]:
    """Path and module of every element of a list or sequence that contains layers."""
    for path, module in parts:
        if type(module) in (nn.Sequential, nn.ModuleList):
            for name, part in module.named_children():
                if next(part.parameters(), None) is not None and next(part.children(), None) is not None:
                    yield f"{path}.{name}" if path else name, part


def parts_of(path: str, container: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """The children of a container that have parameters; for a child that is a sequence, its children."""
    for name, part in container.named_children():
        if next(part.parameters(), None) is not None:
            yield f"{path}.{name}", part
            if isinstance(part, nn.Sequential):
                yield from parts_of(f"{path}.{name}", part)


def silenced_by(module: nn.Module) -> tuple[str, ...]:
    """The parameters of a module that, where they are zero, make it return its input; empty where none are known."""
    if type(module) is nn.Sequential:
        parts = {name: silenced_by(part) for name, part in module.named_children()}
        return tuple(f"{name}.{found}" for name, names in parts.items() for found in names) if all(parts.values()) else ()
    name = nearest_base(module, ENDS)
    try:
        ends = {end: module.get_submodule(end) for end in (ENDS[name](module) if name else [])}
    except AttributeError:
        return ()
    found = {end: scales_of(layer) for end, layer in ends.items()}
    return tuple(f"{end}.{scale}" for end, names in found.items() for scale in names) if all(found.values()) else ()


def scales_of(layer: nn.Module) -> list[str]:
    """The parameters that make a Conv block's output zero: those of its norm, or of its convolution where it has no norm."""
    activation = getattr(layer, "act", None)
    if not isinstance(activation, STAY_ZERO):
        return []
    last = "bn" if isinstance(getattr(layer, "bn", None), nn.BatchNorm2d) else "conv"
    names = [f"{last}.{name}" for name, _ in getattr(layer, last, nn.Identity()).named_parameters(recurse=False)]
    return names if f"{last}.weight" in names else []


Dropped = frozenset[str]
MOST_NAMED = 8


def inside(path: str, dropped: Iterable[str]) -> str:
    """The dropped block that contains a module, or is it; empty where there is none."""
    return next((block for block in dropped if path == block or path.startswith(f"{block}.")), "")


def outermost(paths: Iterable[str]) -> Dropped:
    """The blocks without those that are inside another one of them."""
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
        raise PlanError(f"{path} cannot be dropped: it is not a repeat that could be replaced by its input; {droppable_in_words(coupling)}")
    return coupling.inner[path]


def held_by(coupling: CouplingMap, block: InnerBlock) -> set[int]:
    """The groups that must stay whole once a block is dropped: its input and output channels become the same channels."""
    return set() if block.tied else {int(number) for number in (*block.inputs, *block.outputs) if number >= 0}


def after(coupling: CouplingMap, dropped: Dropped) -> CouplingMap:
    """The map without some blocks: the channels inside are gone, and so are the ties that the blocks made.

    Raises:
        PlanError: one of them is not a block that the forward can do without.
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

    groups = locked_by_links([left(group) for group in coupling.groups], [link for link in links if link.parts])
    return replace(coupling, groups=tuple(groups), links=links, dropped=dropped, gone=frozenset(gone))


def around(group: ChannelGroup, dropped: Dropped) -> str:
    """The dropped block that contains all members of a group; empty where there is none."""
    first = inside(group.members[0].axis.module, dropped) if group.members else ""
    return first if first and all(inside(member.axis.module, dropped) for member in group.members) else ""


def cut_already(coupling: CouplingMap, block: InnerBlock, counts: np.ndarray) -> bool:
    """Whether channels are gone that must stay whole once a block is dropped; `counts` has the removed channels by group."""
    return any(counts[number] for number in held_by(coupling, block))
