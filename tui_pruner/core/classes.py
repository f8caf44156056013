"""Classes as channels: which outputs of a head are one class each, what follows when some go, and how the others are numbered then.

A class is one channel of one group, like any other, but for two things: only a request for classes may cut it, and with it the outputs
change their shape. So its masked twin has minus infinity as the class's bias, as if the class were never likely, and of the twin's outputs
the kept classes are compared.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from tui_pruner.core.checkpoint.contents import NUMBERINGS
from tui_pruner.core.flow.labels import Axis
from tui_pruner.core.groups import ChannelGroup, CouplingMap, Indices, Link, Lock, Member
from tui_pruner.core.predictions import Leaves
from tui_pruner.core.removal import Removal
from tui_pruner.core.requests import class_request
from tui_pruner.errors import RequestError

HEAD_MODULE = "ultralytics.nn.modules.head"
MOST_NAMED = 6
BOXES = 4
LABEL = 5
"""The column of a final detection that has its class's number."""
MAIN = frozenset({"output", "output[0]", "output[0][0]"})


def detection_layers(head: Any) -> list[str]:
    """Return the last layer of each branch that scores classes."""
    branches = [name for name in ("cv3", "one2one_cv3") if getattr(head, name, None) is not None]
    found = [f"{name}.{level}.{len(last) - 1}" for name in branches for level, last in enumerate(getattr(head, name))]
    semantic = getattr(getattr(head, "proto", None), "semseg", None)
    return [*found, f"proto.semseg.{len(semantic) - 1}"] if semantic is not None else found


def decoder_layers(head: Any) -> list[str]:
    """Return the layers that score queries, and the embedding of the classes that training adds noise to."""
    return ["enc_score_head", *(f"dec_score_head.{number}" for number in range(len(head.dec_score_head))), "denoising_class_embed"]


def detection_outputs(head: Any, place: str, leaf: Tensor, kept: Sequence[int]) -> Tensor:
    """Return an output of a dense head with the kept classes alone."""
    if place.endswith("['scores']") or (place.endswith("['proto'][1]") and leaf.shape[1] == head.nc):
        return leaf[:, list(kept)]
    if place not in MAIN:
        return leaf
    if head.end2end:
        return relabelled(leaf, kept)
    stays = [*range(BOXES), *(BOXES + number for number in kept), *range(BOXES + head.nc, leaf.shape[1])]
    return leaf[:, stays]


def decoder_outputs(head: Any, place: str, leaf: Tensor, kept: Sequence[int]) -> Tensor:
    """Return an output of a decoder of queries with the kept classes alone."""
    if place == "output[0]" and leaf.ndim == 3 and leaf.shape[-1] == LABEL + 1:
        return relabelled(leaf, kept)
    return leaf[..., list(kept)] if place in ("output[1][1]", "output[1][3]", "output[1]", "output[3]") else leaf


def relabelled(detections: Tensor, kept: Sequence[int]) -> Tensor:
    """Return final detections [images, n, 6 and more] in the new numbering, -1 where the class is gone; without the last ones that are."""
    old = detections[..., LABEL]
    new = torch.full_like(old, -1)
    for number, before in enumerate(kept):
        new[old == before] = number
    there = int((new >= 0).sum(1).min())
    return torch.cat([detections[..., :LABEL], new[..., None], detections[..., LABEL + 1 :]], -1)[:, :there]


@dataclass(frozen=True)
class Head:
    """What is known of a class of heads: the layers with one output for each class, and how its outputs are reduced to some classes."""

    layers: Callable[[Any], list[str]]
    outputs: Callable[[Any, str, Tensor, Sequence[int]], Tensor]


DENSE = Head(detection_layers, detection_outputs)
HEADS: dict[str, Head] = {
    **dict.fromkeys(("Detect", "v10Detect", "Segment", "Segment26", "Pose", "Pose26", "OBB", "OBB26"), DENSE),
    "Classify": Head(lambda head: ["linear"], lambda head, place, leaf, kept: leaf[:, list(kept)]),
    "RTDETRDecoder": Head(decoder_layers, decoder_outputs),
}
"""By the name of the head's own class: heirs may read their classes from elsewhere, as from text."""


def head_of(model: nn.Module) -> tuple[str, Any, Head | None]:
    """Return the path of a model's head, the head, and what is known of its class."""
    blocks: Any = getattr(model, "model", None)
    if not isinstance(blocks, nn.Sequential) or not len(blocks):
        return "", None, None
    head = blocks[-1]
    known = HEADS.get(type(head).__name__) if type(head).__module__ == HEAD_MODULE else None
    return f"model.{len(blocks) - 1}", head, known


def shape_with_fewer(model: nn.Module, path: str, shape: tuple[int, ...], lost: int) -> tuple[int, ...]:
    """Return the shape of a block's first output, without the batch, after so many classes are gone: only a head's has them."""
    found, head, known = head_of(model)
    if not lost or path != found or known is None or (known is DENSE and head.end2end) or type(head).__name__ == "RTDETRDecoder":
        return shape
    return (shape[0] - lost, *shape[1:])


def with_classes(coupling: CouplingMap, model: nn.Module) -> CouplingMap:
    """Return a coupling map in which one group has a channel for each class, wherever a known head scores it."""
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


def relinked(links: Sequence[Link], new: Indices, classes: int) -> tuple[Link, ...]:
    """Return the links in the new numbers of their groups; classes are in none."""
    parts = [tuple(tuple(sorted({int(new[n]) for n in part} - {classes})) for part in link.parts) for link in links]
    left = [(link, found) for link, found in zip(links, parts, strict=True) if all(found)]
    return tuple(replace(link, number=number, parts=found) for number, (link, found) in enumerate(left))


def class_group(coupling: CouplingMap) -> ChannelGroup | None:
    """Return the group of the classes, where the model's can be cut."""
    return None if coupling.classes is None else coupling.groups[coupling.classes]


def kept_classes(coupling: CouplingMap, removal: Removal) -> list[int] | None:
    """Return the numbers of the classes that a removal leaves, None where it leaves them all."""
    group = class_group(coupling)
    return None if group is None or group.number not in removal.places else removal.remaining(group).tolist()


def only_classes(coupling: CouplingMap, removal: Removal) -> Removal:
    """Return what a removal takes of the classes."""
    return Removal({number: places for number, places in removal.places.items() if number == coupling.classes})


def without_classes(coupling: CouplingMap, removal: Removal) -> Removal:
    """Return what a removal takes of all but the classes."""
    return Removal({number: places for number, places in removal.places.items() if number != coupling.classes}, removal.dropped)


def names_in(model: Any) -> dict[int, str]:
    """Return a model's class names by number."""
    names = getattr(model, "names", None) or {}
    return {int(number): str(name) for number, name in (names.items() if isinstance(names, Mapping) else enumerate(names))}


def removal_of_classes(coupling: CouplingMap, model: nn.Module, amount: str, base: Removal) -> Removal:
    """Return what keeping some classes, by names or numbers, removes on top of what is gone.

    Raises:
        RequestError: the model's classes cannot be cut, there is no such class, or nothing would go.
    """
    group = class_group(coupling)
    if group is None:
        _, head, _ = head_of(model)
        raise RequestError(f"the classes of a {type(head).__name__} cannot be cut: cut its layers instead")
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
    """Make true what a model says of its classes beside its weights, in the order of the kept ones."""
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
    """Return how the classes were numbered in the models that one was cut from, the oldest first.

    Each has its `names` by number and the numbers there that the model still has, `kept`.
    """
    return list(getattr(model, NUMBERINGS, None) or [])


def reduced(leaves: Leaves, model: nn.Module, kept: Sequence[int]) -> Leaves:
    """Return the outputs of a model with all its classes as those of one that has some of them."""
    _, head, known = head_of(model)
    assert known is not None
    return {place: known.outputs(head, place, leaf, kept) if isinstance(leaf, Tensor) else leaf for place, leaf in leaves.items()}


def shifted(kept: Sequence[int], count: int) -> list[int]:
    """Return other classes in place of the kept ones: what they would be, were the wrong ones cut."""
    return [(number + 1) % count for number in kept]
