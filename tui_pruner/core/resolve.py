"""From requests to exact channels: widths per group, links obeyed, contradictions reported and never decided in silence."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np

from tui_pruner.core.analysis import Analysis
from tui_pruner.core.blocks import Layer
from tui_pruner.core.groups import ChannelGroup, CouplingMap, Indices, Link
from tui_pruner.core.importance import check_criterion
from tui_pruner.core.plan import Cut, Step, removes_of
from tui_pruner.core.removal import Removal
from tui_pruner.core.requests import Amount, Request, match_layers, parse_amount
from tui_pruner.errors import ConflictError, RequestError

ROUNDING = 1e-9


@dataclass(frozen=True)
class Demand:
    """One request's word on one group: remove this many more channels."""

    count: int
    layer: str
    request: Request


@dataclass(frozen=True)
class Contradiction:
    """Requests that ask one group, or groups that are linked, for different widths."""

    group: int
    layers: tuple[str, ...]
    amounts: tuple[str, ...]
    message: str


@dataclass(frozen=True)
class Refusal:
    """A request that cannot be done, and why."""

    request: Request
    message: str


@dataclass(frozen=True)
class Resolution:
    """What requests come to: `removal` has only what they add. Groups in contradiction lose nothing."""

    removal: Removal
    step: Step
    asked: tuple[str, ...]
    contradictions: tuple[Contradiction, ...]
    refusals: tuple[Refusal, ...]
    notes: tuple[str, ...]

    def demand_clean(self) -> None:
        """Refuse to go on where anything is wrong.

        Raises:
            ConflictError: contradictory requests.
            RequestError: a request that cannot be done.
        """
        self.demand_possible()
        if self.contradictions:
            raise ConflictError(self.contradictions[0].message)

    def demand_possible(self) -> None:
        """Refuse to go on where a request cannot be done at all.

        Raises:
            RequestError: the first such request.
        """
        if self.refusals:
            raise RequestError(self.refusals[0].message)


@dataclass
class Wishes:
    """The demands as they are collected, by group."""

    demands: dict[int, list[Demand]] = field(default_factory=dict)
    contradictions: dict[int, Contradiction] = field(default_factory=dict)
    refusals: list[Refusal] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)

    def add(self, group: ChannelGroup, demand: Demand) -> None:
        """Note a demand."""
        self.demands.setdefault(group.number, []).append(demand)


def resolve(analysis: Analysis, requests: Sequence[Request], base: Removal, name: str = "") -> Resolution:
    """The exact channels that requests remove on top of what is already gone."""
    wishes = Wishes()
    for request in requests:
        try:
            collect(analysis, request, base, wishes)
        except RequestError as error:
            wishes.refusals.append(Refusal(request, str(error)))
    obey_links(analysis.coupling, base, wishes)
    for number, demands in wishes.demands.items():
        if len({demand.count for demand in demands}) > 1:
            contradict(analysis.coupling, wishes, number, demands)
    chosen = {
        number: (demands[0], choose(analysis, analysis.coupling.groups[number], demands[0], base))
        for number, demands in wishes.demands.items()
        if number not in wishes.contradictions and demands[0].count > 0
    }
    removal = Removal({number: places for number, (_, places) in chosen.items()})
    return Resolution(
        removal=removal,
        step=Step(name=name, cuts=list(cuts_of(analysis.coupling, requests, chosen))),
        asked=tuple(dict.fromkeys(wishes.asked)),
        contradictions=tuple({c.message: c for c in wishes.contradictions.values()}.values()),
        refusals=tuple(wishes.refusals),
        notes=tuple(dict.fromkeys(wishes.notes)),
    )


def cuts_of(coupling: CouplingMap, requests: Sequence[Request], chosen: dict[int, tuple[Demand, Indices]]) -> Iterable[Cut]:
    """Each request with the channels that it is answerable for."""
    for request in requests:
        own = Removal({number: places for number, (demand, places) in chosen.items() if demand.request is request})
        yield Cut(
            layer=request.layer,
            amount=request.amount,
            criterion=request.criterion,
            round_to=request.round_to,
            removes=removes_of(own, coupling),
        )


def collect(analysis: Analysis, request: Request, base: Removal, wishes: Wishes) -> None:
    """Turn one request into demands on groups."""
    amount = parse_amount(request.amount)
    check_criterion(request.criterion)
    if request.round_to < 1:
        raise RequestError(f"--round-to {request.round_to} makes no sense: give 1 or more")
    match = match_layers(request.layer, analysis.layers)
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
        wishes.asked.append(layer.name)
        for group, count in widths(layer, groups, amount, request, base, wishes):
            demands[group.number] = (group, Demand(count, layer.name, request))
    if skipped:
        wishes.notes.append(f"{request.layer}: skipped the locked {', '.join(skipped)}")
    if not demands:
        raise RequestError(f"{request.layer!r} names only locked layers: {', '.join(skipped)}")
    if all(demand.count == 0 for _, demand in demands.values()):
        raise RequestError(f"{request.layer}={request.amount} removes nothing: it is less than one channel")
    for group, demand in demands.values():
        wishes.add(group, demand)


def widths(
    layer: Layer, groups: Sequence[ChannelGroup], amount: Amount, request: Request, base: Removal, wishes: Wishes
) -> list[tuple[ChannelGroup, int]]:
    """How many channels each of a layer's groups shall lose."""
    free = [group for group in groups if group.prunable]
    now = [base.left(group) for group in free]
    if amount.keep is None:
        counts = [math.floor(width * (amount.remove or 0.0) + 0.5 + ROUNDING) for width in now]
    else:
        fixed = sum(base.left(group) for group in groups) - sum(now)
        counts = shares(layer, free, now, amount.keep - fixed, sum(now) + fixed, amount.keep)
    counts = [min(count, width - 1) for count, width in zip(counts, now, strict=True)]
    if request.round_to > 1:
        counts = rounded(layer, now, counts, request.round_to, wishes)
    return list(zip(free, counts, strict=True))


def shares(layer: Layer, free: Sequence[ChannelGroup], now: Sequence[int], keep: int, width: int, asked: int) -> list[int]:
    """How many channels each group loses so that the layer keeps exactly as many as asked."""
    if asked > width:
        raise RequestError(f"{layer.name} has {width} channels: keep:{asked} is more than there are")
    if keep < len(free):
        raise RequestError(
            f"{layer.name} cannot keep only {asked} of its {width} channels: at least {width - sum(now) + len(free)} must stay"
        )
    linked = len(free) > 1 and any(all(len(part) == 1 for part in link) for link in _links_among(free))
    if linked and keep % len(free):
        low = asked - keep % len(free)
        raise RequestError(
            f"{layer.name} is cut into {len(free)} equal parts: keep:{asked} does not divide; use keep:{low} or keep:{low + len(free)}"
        )
    return apportion(sum(now) - keep, now)


def _links_among(groups: Sequence[ChannelGroup]) -> list[list[tuple[int, ...]]]:
    common = set.intersection(*(set(group.links) for group in groups))
    return [[(group.number,) for group in groups] for _ in common]


def apportion(total: int, widths: Sequence[int]) -> list[int]:
    """Spread a number over parts in proportion to their widths, by largest remainder; no part gets its whole width."""
    exact = [total * width / max(1, sum(widths)) for width in widths]
    counts = [int(value) for value in exact]
    for index in sorted(range(len(widths)), key=lambda i: counts[i] - exact[i])[: total - sum(counts)]:
        counts[index] += 1
    return [min(count, width - 1) for count, width in zip(counts, widths, strict=True)]


def rounded(layer: Layer, now: Sequence[int], counts: Sequence[int], step: int, wishes: Wishes) -> list[int]:
    """The counts changed so that every group keeps the nearest multiple, never none; adjustments are noted."""
    result = []
    for width, count in zip(now, counts, strict=True):
        keep = max(step, (2 * (width - count) + step) // (2 * step) * step)
        result.append(max(0, width - keep))
        if width - result[-1] != width - count:
            wishes.notes.append(f"{layer.name}: keeps {width - result[-1]} instead of {width - count} of {width} (multiple of {step})")
    return result


def obey_links(coupling: CouplingMap, base: Removal, wishes: Wishes) -> None:
    """Carry demands over to linked parts until every link is satisfied; where two demands meet, note the contradiction."""
    waiting = list(wishes.demands)
    while waiting:
        group = coupling.groups[waiting.pop()]
        for link in coupling.links_of(group):
            waiting += balance(coupling, link, group.number, base, wishes)


def balance(coupling: CouplingMap, link: Link, number: int, base: Removal, wishes: Wishes) -> list[int]:
    """Demand from the other parts of a link what one part loses; the groups that got a new demand."""
    parts = [[coupling.groups[n] for n in part] for part in link.parts]
    source = next(part for part in parts if any(group.number == number for group in part))
    total = sum(wishes.demands[g.number][0].count for g in source if g.number in wishes.demands)
    origin = wishes.demands[number][0]
    reached = []
    for part in parts:
        if part is source:
            continue
        free = [group for group in part if group.prunable]
        asked = [group for group in free if group.number in wishes.demands]
        missing = total - sum(wishes.demands[group.number][0].count for group in asked)
        open_groups = [group for group in free if group not in asked]
        if missing and not open_groups:
            contradict(coupling, wishes, number, [origin, *(wishes.demands[group.number][0] for group in asked)])
            continue
        for group, count in zip(open_groups, apportion(max(0, missing), [base.left(group) for group in open_groups]), strict=True):
            wishes.add(group, Demand(count, origin.layer, origin.request))
            reached.append(group.number)
    return reached


def contradict(coupling: CouplingMap, wishes: Wishes, number: int, demands: Sequence[Demand]) -> None:
    """Note that demands differ, for the group and everything linked to it."""
    named = {demand.layer: demand for demand in demands}
    words = " and ".join(f"{layer} ({demand.request.amount})" for layer, demand in named.items())
    message = f"{words} share coupled channels but ask for different widths: give them the same amount, or cut only one"
    group = coupling.groups[number]
    found = Contradiction(number, tuple(named), tuple(d.request.amount for d in named.values()), message)
    for member in (group, *coupling.linked_groups(group)):
        wishes.contradictions.setdefault(member.number, found)


def choose(analysis: Analysis, group: ChannelGroup, demand: Demand, base: Removal) -> Indices:
    """The least important of the remaining channels, as sorted places; ties go to the earlier channel."""
    remaining = base.remaining(group)
    scores = analysis.ranking.scores(group, demand.request.criterion)[remaining]
    return np.sort(remaining[np.argsort(scores, kind="stable")[: demand.count]])
