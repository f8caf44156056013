"""Requests resolved against a model: which layers they name, and which channels, heads and inner blocks they remove."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from fnmatch import fnmatchcase

import numpy as np

from tui_pruner.core.model.analysis import Analysis
from tui_pruner.core.model.layers import ModelLayer
from tui_pruner.core.pruning.classes import class_group, removal_of_classes
from tui_pruner.core.pruning.plan import Cut, Step, removes_of
from tui_pruner.core.pruning.removal import Contradiction, Demand, DemandSet, Removal, apply_links, contradict, spread, unit_of
from tui_pruner.core.tracing.coupling_map import ChannelGroup, ChannelLink, CouplingMap, Indices, InnerBlock
from tui_pruner.core.tracing.inner_blocks import Dropped, cut_already, droppable_in_words, inside, outermost
from tui_pruner.domain.cuts import CLASSES, Amount, Request, parse_amount
from tui_pruner.domain.errors import ConflictError, RequestError


@dataclass(frozen=True)
class Match:
    """The layers that a request names. `exact`: one layer by its own name; if that is locked, it is an error instead of being skipped."""

    layers: tuple[ModelLayer, ...]
    exact: bool


def match_layers(name: str, layers: Mapping[str, ModelLayer], sections: Mapping[str, tuple[ModelLayer, ...]]) -> Match:
    """The layers that a name means: a layer, the convolution in it, a block number, a module path above layers, a glob, or a section.

    Raises:
        RequestError: nothing matches; the message has the nearest names.
    """
    by_path = {layer.path: layer for layer in layers.values()}
    for candidate in (name, f"model.{name}"):
        found = layers.get(candidate) or by_path.get(candidate)
        if found is not None:
            return Match((found,), exact=True)
    if any(mark in name for mark in "*?["):
        matching = tuple(layer for layer in layers.values() if fnmatchcase(layer.name, name) or fnmatchcase(layer.path, name))
    else:
        prefixes = (f"{name}.", f"model.{name}.")
        matching = tuple(layer for layer in layers.values() if layer.path.startswith(prefixes)) or sections.get(name, ())
    if not matching:
        near = get_close_matches(name, [*layers, *by_path], n=3, cutoff=0.5)
        some = f"{', '.join(list(layers)[:3])}{' and others' if len(layers) > 3 else ''}" if any(layers) else "none but the model itself"
        known = f"the nearest are {', '.join(near)}" if near else f"there are {some}, see inspect"
        if name.isdecimal():
            known = "a block such as a Concat or an Upsample has none of its own, see inspect"
        raise RequestError(f"no layer {name!r} in this model; {known}")
    return Match(matching, exact=False)


def collect_heads(
    analysis: Analysis, request: Request, count: int, layers: Sequence[ModelLayer], base: Removal, demand_set: DemandSet
) -> None:
    """Demand the least important heads of every attention among these layers.

    Raises:
        RequestError: no attention here can lose a head, or not as many.
    """
    found = [(layer, link) for layer in layers if (link := heads_of(analysis.coupling, layer.path)) is not None]
    if not found:
        raise RequestError(f"{request.layer!r} has no attention that could lose heads: name its qkv layer, such as model.10.m.0.attn.qkv")
    for layer, link in found:
        heads = base.parts_left(analysis.coupling, link)
        if count >= len(heads):
            most = f"at most heads:{len(heads) - 1}" if len(heads) > 1 else "give a share of its channels"
            raise RequestError(f"{layer.name} has {len(heads)} heads: heads:{count} would leave none; {most}")
        demand_set.asked.append(layer.name)
        for head in sorted(heads, key=lambda head: importance(analysis, head, base, request.criterion))[:count]:
            for group in (analysis.coupling.groups[number] for number in head):
                demand_set.add(group, Demand(base.left(group), layer.name, request))


def heads_of(coupling: CouplingMap, layer: str) -> ChannelLink | None:
    """The link whose parts are the heads that a layer produces; None unless all are free."""
    written = {group.number for group in coupling.output_groups(layer) if group.prunable}
    links = [link for group in coupling.output_groups(layer) for link in coupling.links_of(group) if link.heads]
    widest = max(links, key=lambda link: sum(map(len, link.parts)), default=None)
    return widest if widest is not None and written == {number for part in widest.parts for number in part} else None


def importance(analysis: Analysis, head: Sequence[int], base: Removal, criterion: str) -> float:
    """The total importance of those channels of a head that are left."""
    groups = (analysis.coupling.groups[number] for number in head)
    return float(sum(analysis.ranked(base).scores(group, criterion)[base.remaining(group)].sum() for group in groups))


MARKS = "*?["


def drops_of(analysis: Analysis, request: Request, base: Removal, demand_set: DemandSet) -> Dropped:
    """The inner blocks that a request drops: one by its path, or all droppable ones that a glob matches.

    Raises:
        RequestError: the block does not exist, or cannot be dropped."""
    inner, counts = analysis.coupling.inner, base.counts(analysis.coupling)
    matching, exact = matched(request.layer, inner), not any(mark in request.layer for mark in MARKS)
    if not matching:
        raise RequestError(f"{request.layer} cannot be dropped: {reason_not_droppable(analysis, request.layer)}")
    found, refused = [], []
    for path in matching:
        if around := inside(path, base.dropped):
            refused.append(f"{path} is gone already" + (f", with {around}" if around != path else ""))
        elif cut_already(analysis.coupling, inner[path], counts):
            refused.append(f"{path} cannot be dropped after a cut of the channels that it reads or writes: drop it first, then cut")
        else:
            found.append(path)
    if not found:
        raise RequestError(refused[0])
    if refused and not exact:
        demand_set.notes.append(f"{request.layer}: skipped {len(refused)} of {len(matching)} blocks ({refused[0]})")
    dropped = outermost(found)
    demand_set.asked += [layer.name for layer in analysis.layers.values() if inside(layer.path, dropped)]
    return dropped


def matched(name: str, inner: Mapping[str, InnerBlock]) -> list[str]:
    """The inner blocks that a name or a glob means."""
    if any(mark in name for mark in MARKS):
        return [path for path in inner if fnmatchcase(path, name)]
    return [path for path in (name, f"model.{name}") if path in inner][:1]


def reason_not_droppable(analysis: Analysis, name: str) -> str:
    """Why something cannot be dropped, and what can."""
    inner = analysis.coupling.inner
    around = next((block for path in (name, f"model.{name}") if (block := inside(path, inner))), "")
    below = [path for path in inner if path.startswith((f"{name}.", f"model.{name}."))]
    if around:
        return f"it is a part of {around}, which can only go as a whole: ask for {around}=drop"
    if below:
        return f"it is the only path; what can go of it is {', '.join(below)}"
    known = {path for path, _ in analysis.skeleton.named_modules()} & {name, f"model.{name}"}
    return f"{'it is the only path' if known else 'no such block'}; {droppable_in_words(analysis.coupling)}"


ROUNDING = 1e-9


@dataclass(frozen=True)
class Refusal:
    """A request that cannot be done, and why."""

    request: Request
    message: str


@dataclass(frozen=True)
class Resolution:
    """What requests resolve to: `removal` has only what they add. Groups with a contradiction lose nothing."""

    removal: Removal
    step: Step
    asked: tuple[str, ...]
    contradictions: tuple[Contradiction, ...]
    refusals: tuple[Refusal, ...]
    notes: tuple[str, ...]

    def demand_clean(self) -> None:
        """Refuse a resolution with any problem.

        Raises:
            ConflictError: contradictory requests.
            RequestError: a request that cannot be done.
        """
        self.demand_possible()
        if self.contradictions:
            raise ConflictError(self.contradictions[0].message)

    def demand_possible(self) -> None:
        """Refuse a resolution with a request that cannot be done at all.

        Raises:
            RequestError: the first such request.
        """
        if self.refusals:
            raise RequestError(self.refusals[0].message)


def resolve(analysis: Analysis, requests: Sequence[Request], base: Removal, name: str = "") -> Resolution:
    """Resolve requests to the exact channels that they remove in addition to what is gone."""
    demand_set, refusals = DemandSet(), list[Refusal]()
    classes: dict[int, Removal] = {}
    drops: list[Dropped] = []
    for request in (request for request in requests if request.layer == CLASSES):
        try:
            classes[id(request)] = removal_of_classes(analysis.coupling, analysis.checkpoint.model, request.amount, base)
            base = base.together(classes[id(request)])
            demand_set.asked += [layer.name for layer in class_layers(analysis)]
        except RequestError as error:
            refusals.append(Refusal(request, str(error)))
    for request in requests:
        try:
            drops.append(drops_of(analysis, request, base, demand_set) if is_drop(request) else frozenset())
        except RequestError as error:
            drops.append(frozenset())
            refusals.append(Refusal(request, str(error)))
    dropped = outermost(frozenset().union(*drops))
    analysis = analysis.after(outermost(base.dropped | dropped))
    for request in (request for request in requests if request.layer != CLASSES and not is_drop(request)):
        try:
            collect(analysis, request, base, demand_set)
        except RequestError as error:
            refusals.append(Refusal(request, str(error)))
    apply_links(analysis.coupling, base, demand_set)
    for number, demands in demand_set.demands.items():
        if len({demand.count for demand in demands}) > 1:
            contradict(analysis.coupling, demand_set, number, demands)
    chosen = {
        number: (demands[0], choose(analysis, analysis.coupling.groups[number], demands[0], base))
        for number, demands in demand_set.demands.items()
        if number not in demand_set.contradictions and demands[0].count > 0
    }
    removal = Removal({number: places for number, (_, places) in chosen.items()}, dropped)
    for taken in classes.values():
        removal = removal.together(taken)
    return Resolution(
        removal=removal,
        step=Step(name=name, cuts=list(cuts_of(analysis.coupling, requests, chosen, drops, classes))),
        asked=tuple(dict.fromkeys(demand_set.asked)),
        contradictions=tuple({c.message: c for c in demand_set.contradictions.values()}.values()),
        refusals=tuple(refusals),
        notes=tuple(dict.fromkeys(demand_set.notes)),
    )


def class_layers(analysis: Analysis) -> list[ModelLayer]:
    """The layers whose outputs are classes."""
    group = class_group(analysis.coupling)
    paths = {member.axis.module for member in group.members} if group else set()
    return [layer for layer in analysis.layers.values() if layer.path in paths]


def is_drop(request: Request) -> bool:
    """Whether a request is for whole blocks; False for an amount that cannot be parsed."""
    if request.layer == CLASSES:
        return False
    try:
        return parse_amount(request.amount).drops
    except RequestError:
        return False


def cuts_of(
    coupling: CouplingMap,
    requests: Sequence[Request],
    chosen: dict[int, tuple[Demand, Indices]],
    drops: Sequence[Dropped],
    classes: Mapping[int, Removal],
) -> Iterable[Cut]:
    """Each request as a cut with the channels and blocks that it removes; `classes` has those of requests for classes, by identity."""
    for request, dropped in zip(requests, drops, strict=True):
        own = Removal({number: places for number, (demand, places) in chosen.items() if demand.request is request})
        own = classes.get(id(request), own)
        yield Cut(
            layer=request.layer,
            amount=request.amount,
            criterion=request.criterion,
            round_to=request.round_to,
            removes=removes_of(own, coupling),
            drops=sorted(dropped),
        )


def collect(analysis: Analysis, request: Request, base: Removal, demand_set: DemandSet) -> None:
    """Turn one request into demands on groups."""
    amount = parse_amount(request.amount)
    analysis.ranking.check(request.criterion)
    if request.round_to < 1:
        raise RequestError(f"--round-to {request.round_to} makes no sense: give 1 or more")
    match = match_layers(request.layer, analysis.layers, analysis.sections)
    if amount.heads is not None:
        collect_heads(analysis, request, amount.heads, match.layers, base, demand_set)
        return
    demands: dict[int, tuple[ChannelGroup, Demand]] = {}
    skipped = []
    for layer in match.layers:
        groups = analysis.coupling.output_groups(layer.path)
        free = [group for group in groups if group.prunable]
        if not free and match.exact:
            raise RequestError(f"{layer.name} is locked: {groups[0].reason if groups else 'the model never runs it'}")
        if not free:
            skipped.append(layer.name)
            continue
        demand_set.asked.append(layer.name)
        for group, count in widths(analysis.coupling, layer, groups, amount, request, base, demand_set):
            demands[group.number] = (group, Demand(count, layer.name, request))
    if skipped:
        demand_set.notes.append(f"{request.layer}: skipped the locked {', '.join(skipped)}")
    if not demands:
        raise RequestError(f"{request.layer!r} names only locked layers: {', '.join(skipped)}")
    if all(demand.count == 0 for _, demand in demands.values()):
        raise RequestError(f"{request.layer}={request.amount} removes nothing: {reason_for_no_effect(amount, request.round_to)}")
    for group, demand in demands.values():
        demand_set.add(group, demand)


def reason_for_no_effect(amount: Amount, round_to: int) -> str:
    """Why a request removes no channel at all."""
    if round_to > 1:
        return f"the nearest multiple of {round_to} is what is there; ask for more, or for another multiple"
    return "it is less than one channel" if amount.keep is None else "that many channels are there; ask for fewer"


def widths(
    coupling: CouplingMap,
    layer: ModelLayer,
    groups: Sequence[ChannelGroup],
    amount: Amount,
    request: Request,
    base: Removal,
    demand_set: DemandSet,
) -> list[tuple[ChannelGroup, int]]:
    """Demand how many channels each of a layer's groups loses."""
    free = [group for group in groups if group.prunable and base.left(group)]
    now = [base.left(group) for group in free]
    if amount.keep is None:
        counts = [math.floor(width * (amount.remove or 0.0) + 0.5 + ROUNDING) for width in now]
    else:
        fixed = sum(base.left(group) for group in groups) - sum(now)
        counts = shares(coupling, layer, free, now, amount.keep - fixed, sum(now) + fixed, amount.keep)
    counts = [min(count, width - 1) for count, width in zip(counts, now, strict=True)]
    if request.round_to > 1:
        counts = rounded(layer, now, counts, request.round_to, demand_set)
    return [
        (group, whole_units(coupling, layer, group, count, width, demand_set))
        for group, count, width in zip(free, counts, now, strict=True)
    ]


def whole_units(coupling: CouplingMap, layer: ModelLayer, group: ChannelGroup, count: int, width: int, demand_set: DemandSet) -> int:
    """The count as the nearest multiple that the linked parts can share evenly, at least one; an adjustment is noted."""
    unit = unit_of(coupling, group)
    if unit == 1 or count == 0:
        return count
    nearest = min(max(unit, (2 * count + unit) // (2 * unit) * unit), (width - 1) // unit * unit)
    if nearest != count:
        demand_set.notes.append(
            f"{layer.name}: removes {nearest} instead of {count} channels, which {unit} equal parts of another layer share"
        )
    return nearest


def shares(
    coupling: CouplingMap, layer: ModelLayer, free: Sequence[ChannelGroup], now: Sequence[int], keep: int, width: int, asked: int
) -> list[int]:
    """How many channels each group loses so that the layer keeps exactly as many as asked."""
    if asked > width:
        raise RequestError(f"{layer.name} has {width} channels: keep:{asked} is more than there are")
    if keep < len(free):
        raise RequestError(
            f"{layer.name} cannot keep only {asked} of its {width} channels: at least {width - sum(now) + len(free)} must stay"
        )
    counts = spread(coupling, sum(now) - keep, free, now)
    if counts is None:
        low = asked - keep % len(free)
        raise RequestError(
            f"{layer.name} is cut into {len(free)} equal parts: keep:{asked} does not divide; use keep:{low} or keep:{low + len(free)}"
        )
    return counts


def rounded(layer: ModelLayer, now: Sequence[int], counts: Sequence[int], step: int, demand_set: DemandSet) -> list[int]:
    """The counts changed so that every group keeps the nearest multiple, never zero; adjustments are noted."""
    result = []
    for width, count in zip(now, counts, strict=True):
        keep = max(step, (2 * (width - count) + step) // (2 * step) * step)
        result.append(max(0, width - keep))
        if width - result[-1] != width - count:
            demand_set.notes.append(f"{layer.name}: keeps {width - result[-1]} instead of {width - count} of {width} (multiple of {step})")
    return result


def choose(analysis: Analysis, group: ChannelGroup, demand: Demand, base: Removal) -> Indices:
    """The least important of the remaining channels, as sorted places; of equal ones the earlier."""
    remaining = base.remaining(group)
    scores = analysis.ranked(base).scores(group, demand.request.criterion)[remaining]
    return np.sort(remaining[np.argsort(scores, kind="stable")[: demand.count]])
