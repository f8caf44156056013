"""Classes as channels: which outputs of a head are one class each, what follows when some are cut, and how the rest are renumbered.

A class is one channel of one group, with two exceptions: only a request for classes may cut it, and cutting it changes the shape of the
outputs. So the masked twin has minus infinity as the class's bias, which makes the class never likely, and of the twin's outputs only the
kept classes are compared.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from torch import Tensor, nn

from tui_pruner.core.model.predictions import Leaves
from tui_pruner.core.pruning.removal import Removal
from tui_pruner.core.tracing.coupling_map import ChannelGroup, ChannelLink, CouplingMap, Indices, Lock, Member
from tui_pruner.core.tracing.labels import Axis
from tui_pruner.domain.cuts import class_request
from tui_pruner.domain.errors import RequestError

NUMBERINGS = "tui_pruner_classes"
"""The attribute of a model without some classes that says how its classes were numbered before, the oldest numbering first."""


MOST_NAMED = 6


@dataclass(frozen=True)
class Head:
    """What is known of a class of heads: the layers with one output for each class, and how its outputs are reduced to some classes."""

    layers: Callable[[Any], list[str]]
    outputs: Callable[[Any, str, Tensor, Sequence[int]], Tensor]
    counts_classes: Callable[[Any], bool] = lambda head: False
    """Whether the first dimension of its output, without the batch, has one position for each class."""


HEADS: dict[str, Head] = {}
"""By module and name of the head's own class, registered by frameworks. Subclasses do not count: theirs may come from text."""


def head_of(model: nn.Module) -> tuple[str, Any, Head | None]:
    """Return the path of a model's head, the head, and what is known of its class."""
    blocks: Any = getattr(model, "model", None)
    if not isinstance(blocks, nn.Sequential) or not len(blocks):
        return "", None, None
    head = blocks[-1]
    known = HEADS.get(f"{type(head).__module__}.{type(head).__name__}")
    return f"model.{len(blocks) - 1}", head, known


def shape_with_fewer(model: nn.Module, path: str, shape: tuple[int, ...], lost: int) -> tuple[int, ...]:
    """Return the shape of a block's first output, without the batch, after this many classes were cut: only a head's changes."""
    found, head, known = head_of(model)
    if not shape or not lost or path != found or known is None or not known.counts_classes(head):
        return shape
    return (shape[0] - lost, *shape[1:])


def with_classes(coupling: CouplingMap, model: nn.Module) -> CouplingMap:
    """Return a coupling map in which one group has a channel for each class, in every known head."""
    path, head, known = head_of(model)
    if known is None:
        return coupling
    layers = [f"{path}.{layer}" for layer in known.layers(head)]
    axes = [Axis(f"{layer}.{name}", 0) for layer in layers for name, _ in model.get_submodule(layer).named_parameters(recurse=False)]
    tensors = dict(model.named_parameters())
    sizes = {len(tensors[axis.parameter]) for axis in axes}
    biased = all(isinstance(model.get_submodule(layer), nn.Embedding) or f"{layer}.bias" in tensors for layer in layers)
    if len(sizes) != 1 or not biased:
        return coupling
    return regrouped(coupling, axes, sizes.pop())


def regrouped(coupling: CouplingMap, axes: Sequence[Axis], count: int) -> CouplingMap:
    """Return the map with these axes in a group of their own, at the place of the first group that has nothing else."""
    own, numbers = set(axes), np.arange(count)[:, None]
    rest = {group.number: tuple(member for member in group.members if member.axis not in own) for group in coupling.groups}
    touched = [group for group in coupling.groups if len(rest[group.number]) < len(group.members)]
    if any(group.prunable for group in touched):
        return coupling
    first = next((group.number for group in touched if not rest[group.number]), len(coupling.groups))
    order = [number for number in range(len(coupling.groups) + 1) if number == first or rest.get(number)]
    new = np.full(len(coupling.groups) + 2, -1, dtype=np.int64)
    new[order] = np.arange(len(order))
    place = int(new[first])
    new[[group.number for group in touched if not rest[group.number]]] = place
    lock = next((group.lock for group in touched if group.lock), None) or Lock("feeds the model's predictions", "", "", 1)
    members = tuple(Member(axis, coupling.roles.get(axis), numbers) for axis in axes)
    links = relinked(coupling.links, new, place)
    parts = {n: tuple(link.number for link in links if any(n in part for part in link.parts)) for n in range(len(order))}
    groups = tuple(
        ChannelGroup(place, count, members, lock, (), ())
        if number == first
        else replace(coupling.groups[number], number=int(new[number]), members=rest[number], links=parts[int(new[number])])
        for number in order
    )
    return replace(
        coupling,
        groups=groups,
        links=links,
        sizes={**coupling.sizes, **dict.fromkeys(axes, count)},
        block_outputs={path: new[found] for path, found in coupling.block_outputs.items()},
        products=tuple(replace(product, factors=tuple(new[factor] for factor in product.factors)) for product in coupling.products),
        classes=place,
    )


def relinked(links: Sequence[ChannelLink], new: Indices, classes: int) -> tuple[ChannelLink, ...]:
    """Return the links with the new numbers of their groups; the group of the classes is in no link."""
    parts = [tuple(tuple(sorted({int(new[n]) for n in part} - {classes})) for part in link.parts) for link in links]
    left = [(link, found) for link, found in zip(links, parts, strict=True) if all(found)]
    return tuple(replace(link, number=number, parts=found) for number, (link, found) in enumerate(left))


def class_group(coupling: CouplingMap) -> ChannelGroup | None:
    """Return the group of the classes; None where the model's classes cannot be cut."""
    return None if coupling.classes is None else coupling.groups[coupling.classes]


def kept_classes(coupling: CouplingMap, removal: Removal) -> list[int] | None:
    """Return the numbers of the classes that a removal leaves; None where it leaves all."""
    group = class_group(coupling)
    return None if group is None or group.number not in removal.places else removal.remaining(group).tolist()


def only_classes(coupling: CouplingMap, removal: Removal) -> Removal:
    """Return the part of a removal that concerns classes."""
    return Removal({number: places for number, places in removal.places.items() if number == coupling.classes})


def without_classes(coupling: CouplingMap, removal: Removal) -> Removal:
    """Return a removal without the part that concerns classes."""
    return Removal({number: places for number, places in removal.places.items() if number != coupling.classes}, removal.dropped)


def names_in(model: Any) -> dict[int, str]:
    """Return a model's class names by number."""
    names = getattr(model, "names", None) or {}
    return {int(number): str(name) for number, name in (names.items() if isinstance(names, Mapping) else enumerate(names))}


def removal_of_classes(coupling: CouplingMap, model: nn.Module, amount: str, base: Removal) -> Removal:
    """Return what keeping some classes, by names or numbers, removes in addition to what is gone.

    Raises:
        RequestError: the model's classes cannot be cut, the class does not exist, or nothing would be removed.
    """
    group = class_group(coupling)
    if group is None:
        _, head, _ = head_of(model)
        whose = "this model" if head is None else f"a {type(head).__name__}"
        raise RequestError(f"the classes of {whose} cannot be cut: cut its layers instead")
    names = names_in(model)
    kept = sorted({number_of(word, names, group.channels) for word in class_request(amount).amount.removeprefix("keep:").split(",")})
    there = base.remaining(group).tolist()
    gone = next((number for number in kept if number not in there), None)
    if gone is not None:
        raise RequestError(f"the class {names.get(gone, gone)!r} was removed by an earlier step: take that step back, or leave it out")
    if len(kept) == len(there):
        raise RequestError(f"classes={amount.removeprefix('keep:')} keeps all {len(there)} classes: name fewer, or leave it out")
    return Removal({group.number: np.setdiff1d(np.array(there, dtype=np.int64), np.array(kept, dtype=np.int64))})


def number_of(word: str, names: Mapping[int, str], count: int) -> int:
    """Return the number of a class that is given by its name, or else by its number.

    Raises:
        RequestError: there is none, or several have the name.
    """
    found = [number for number, name in names.items() if name == word] or [n for n, name in names.items() if name.lower() == word.lower()]
    if len(found) > 1:
        raise RequestError(f"{len(found)} classes are called {word!r}: give the number, one of {', '.join(map(str, found))}")
    if found:
        return found[0]
    if word.isdecimal() and int(word) < count:
        return int(word)
    listed = [names.get(number, str(number)) for number in range(min(count, MOST_NAMED))]
    more = f" and {count - MOST_NAMED} more" if count > MOST_NAMED else ""
    raise RequestError(f"no class {word!r} in this model; there are {', '.join(listed)}{more} (numbers 0 to {count - 1})")


def rewrite_classes(pruned: Any, kept: Sequence[int]) -> None:
    """Update a model's class count and names after a cut, in the order of the kept classes."""
    _, head, _ = head_of(pruned)
    old = names_in(pruned)
    count = int(getattr(head, "nc", len(old)))
    for owner in (head, pruned):
        if isinstance(vars(owner).get("no"), int):
            owner.no -= count - len(kept)
        if "nc" in vars(owner):
            owner.nc = len(kept)
    pruned.names = {new: old.get(number, str(number)) for new, number in enumerate(kept)}
    if isinstance(getattr(pruned, "yaml", None), dict):
        pruned.yaml = {**pruned.yaml, "nc": len(kept)}
    before = [{**numbering, "kept": [numbering["kept"][number] for number in kept]} for numbering in numberings(pruned)]
    setattr(pruned, NUMBERINGS, [*before, {"names": [old.get(number, str(number)) for number in range(count)], "kept": list(kept)}])
    vars(pruned).pop("criterion", None)
    arguments: Any = getattr(pruned, "args", None)
    counted = arguments.get("classes") if isinstance(arguments, dict) else getattr(arguments, "classes", None)
    if counted is not None:
        new = [kept.index(number) for number in (counted if isinstance(counted, (list, tuple)) else [counted]) if number in kept]
        renewed = {**(arguments if isinstance(arguments, dict) else vars(arguments)), "classes": new or None}
        pruned.args = renewed if isinstance(arguments, dict) else type(arguments)(**renewed)


def numberings(model: Any) -> list[dict[str, Any]]:
    """Return how the classes were numbered in the models that it was cut from, the oldest first.

    Each entry has the `names` by number, and in `kept` the numbers there of the classes that the model still has.
    """
    return list(getattr(model, NUMBERINGS, None) or [])


def reduced(leaves: Leaves, model: nn.Module, kept: Sequence[int]) -> Leaves:
    """Return the outputs of a model with all classes, reduced to those that are kept."""
    _, head, known = head_of(model)
    assert known is not None
    return {place: known.outputs(head, place, leaf, kept) if isinstance(leaf, Tensor) else leaf for place, leaf in leaves.items()}


def shifted(kept: Sequence[int], count: int) -> list[int]:
    """Return as many other classes in place of the kept ones, as if the wrong ones had been cut."""
    return [(number + 1) % count for number in kept]
