"""The cost of channels in accuracy: the trials of a scan, and prices for each rung of a ladder from a scan or from importance."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from tui_pruner.core.model.analysis import Analysis
from tui_pruner.core.pruning.plan import Cut, Step, removes_of
from tui_pruner.core.pruning.removal import NOTHING, DemandSet, Removal, demand_share
from tui_pruner.core.pruning.resolve import choose
from tui_pruner.core.search.ladders import Ladder
from tui_pruner.core.search.targets import Costs, Pricing
from tui_pruner.core.tracing.coupling_map import ChannelGroup
from tui_pruner.domain.errors import RequestError

UNEVEN = "what is linked to it cannot lose this share evenly"


@dataclass(frozen=True)
class Trial:
    """A share of one group's channels, with what its links demand. Trials of linked groups may remove the same channels."""

    group: int
    layer: str
    ratio: float
    removal: Removal

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the channels that it removes."""
        places = {str(number): found.tolist() for number, found in sorted(self.removal.places.items())}
        return hashlib.sha256(json.dumps(places).encode()).hexdigest()


@dataclass(frozen=True)
class Skipped:
    """A trial that cannot be made, and why."""

    group: int
    layer: str
    ratio: float
    reason: str


def trials_of(analysis: Analysis, ratios: Iterable[float], criterion: str) -> tuple[list[Trial], list[Skipped]]:
    """Each prunable group at each ratio, in the order of the groups.

    Raises:
        RequestError: no such criterion, or it needs data.
    """
    analysis.ranking.check(criterion)
    wanted = [(group, ratio) for group in analysis.coupling.groups if group.prunable for ratio in ratios]
    trials: list[Trial] = []
    skipped: list[Skipped] = []
    for group, ratio in wanted:
        removal = alone(analysis, group, ratio, criterion)
        if removal is None:
            skipped.append(Skipped(group.number, layer_of(analysis, group), ratio, UNEVEN))
        else:
            trials.append(Trial(group.number, layer_of(analysis, group), ratio, removal))
    return trials, skipped


def alone(analysis: Analysis, group: ChannelGroup, ratio: float, criterion: str) -> Removal | None:
    """The weakest channels of one group with what its links demand; None where that is impossible."""
    coupling, demand_set = analysis.coupling, DemandSet()
    demand_share(coupling, group, ratio, demand_set)
    if demand_set.contradictions or not demand_set.demands:
        return None
    places = {}
    for number, (demand, *_) in demand_set.demands.items():
        ranked = replace(demand, request=replace(demand.request, criterion=criterion))
        places[number] = choose(analysis, coupling.groups[number], ranked, NOTHING)
    return Removal({number: found for number, found in places.items() if len(found)})


def layer_of(analysis: Analysis, group: ChannelGroup) -> str:
    """The name of the first layer that produces a group's channels."""
    return layers_of(analysis, group)[0]


def layers_of(analysis: Analysis, group: ChannelGroup) -> list[str]:
    """The names of the layers that produce a group's channels."""
    names = {layer.path: layer.name for layer in analysis.layers.values()}
    return list(dict.fromkeys(names.get(member.axis.module, member.axis.module) for member in group.producers))


def survivors(analysis: Analysis, trials: Iterable[Trial], drops: Mapping[str, float], most: float, criterion: str) -> Step:
    """One step with all groups, each by the largest share whose own trial costs at most this; `drops` is by the trials' digest.

    Of linked groups, the trial that removes most decides for all.

    Raises:
        RequestError: every trial costs more.
    """
    chosen: dict[frozenset[int], Trial] = {}
    for trial in trials:
        if drops.get(trial.digest, most + 1.0) > most:
            continue
        system = frozenset(analysis.coupling.linked_system(analysis.coupling.groups[trial.group]))
        if system not in chosen or channels(trial) > channels(chosen[system]):
            chosen[system] = trial
    if not chosen:
        raise RequestError(f"no trial drops by {most:g} or less: allow more with --max-drop, or scan smaller --ratios")
    cuts = [
        Cut(layer=t.layer, amount=f"{t.ratio:.4%}", criterion=criterion, removes=removes_of(t.removal, analysis.coupling))
        for t in chosen.values()
    ]
    return Step(name=f"each drop at most {most:g}", cuts=cuts)


def channels(trial: Trial) -> int:
    """How many channels a trial removes in all."""
    return sum(len(places) for places in trial.removal.places.values())


LEAST_LEFT = 1e-9
TRUST = 0.02
"""Weight of importance beside measured drops: it orders channels whose drop is zero, or less than the noise of a few images."""


@dataclass(frozen=True)
class Sensitivity:
    """A scan: for each group the drop of the metric by the share of its channels that was removed, and the metric without removal.

    `partial`: it was stopped, and may lack some groups.
    """

    baseline: float
    drops: Mapping[int, Mapping[float, float]]
    partial: bool = False

    def covers(self, ladders: Sequence[Ladder]) -> bool:
        """Whether it covers every ladder; for a scan that was stopped, whether it covers any."""
        known = [any(number in self.drops for number in ladder.groups) for ladder in ladders]
        return any(known) if self.partial else bool(known) and all(known)


def by_importance(analysis: Analysis, base: Removal, criterion: str) -> Pricing:
    """Prices by the criterion alone, without regard to what a rung saves.

    Measured on the bundled checkpoint at 70 % of the FLOPs, with recalibrated normalisation: mAP50-95 is 0.82 of 0.90; with the loss
    divided by the FLOPs saved it is 0.18, by their fourth root 0.72, and 0.54 where all layers are cut by one share.
    """
    return Pricing(lambda ladder: importance_costs(analysis, ladder, base, criterion))


def by_sensitivity(analysis: Analysis, base: Removal, criterion: str, scan: Sensitivity) -> Pricing:
    """Prices by the measured drop over the root of what a rung saves; the scan `covers` the ladders. Groups that it lacks cost their
    importance, scaled as drops are where both are known.

    Measured on the bundled checkpoint (mAP50-95 0.90) with a scan of 64 images, right after the cut: 0.87 at 70 % of the FLOPs and 0.49 at
    50 %, where importance alone gives 0.59 and 0.01. Divided by all that is saved it is 0.85 and 0.47, by the drop alone 0.88 and 0.46.
    """

    scale = drop_per_importance(analysis, base, criterion, scan) if scan.partial else 0.0

    def costs(ladder: Ladder) -> Costs:
        coupling, important = analysis.coupling, importance_costs(analysis, ladder, base, criterion)
        gone = np.array([len(base.of(coupling.groups[number])) for number in ladder.groups])
        widths = np.array([coupling.groups[number].channels for number in ladder.groups])
        shares = ((ladder.rungs + gone) / widths).mean(axis=1)
        curves = [drop_curve(scan.drops[number], scan.baseline, shares) for number in ladder.groups if number in scan.drops]
        measured: Costs = np.max(curves, axis=0) if curves else scale * important
        return measured + TRUST * important

    return Pricing(costs, savings_exponent=0.5)


def drop_per_importance(analysis: Analysis, base: Removal, criterion: str, scan: Sensitivity) -> float:
    """How far the metric falls for a unit of lost importance (see `importance_costs`), by least squares through the origin."""
    pairs = []
    for number, drops in scan.drops.items():
        lost = lost_shares(analysis, number, base, criterion)
        for share, drop in drops.items():
            at = min(round(share * analysis.coupling.groups[number].channels), len(lost) - 1)
            pairs.append((-np.log(max(LEAST_LEFT, 1.0 - lost[at])), max(drop, 0.0)))
    squares = sum(cost * cost for cost, _ in pairs)
    return float(sum(cost * drop for cost, drop in pairs) / squares) if squares else 0.0


def drop_curve(drops: Mapping[float, float], baseline: float, shares: Costs) -> Costs:
    """The drop at these shares: monotone, linear between the measurements, and the whole metric where no channel is left."""
    measured = sorted(drops.items())
    heights = np.maximum.accumulate([0.0, *(max(0.0, drop) for _, drop in measured), baseline])
    curve: Costs = np.interp(shares, [0.0, *(share for share, _ in measured), 1.0], heights)
    return curve


def importance_costs(analysis: Analysis, ladder: Ladder, base: Removal, criterion: str) -> Costs:
    """Costs by the share of each group's importance that is lost, weakest channels first, so that groups of any scale compare.

    The cost is minus the logarithm of what is left: equal shares of the remaining importance cost the same, and the last channels most.
    """
    lost = np.mean(
        [lost_shares(analysis, number, base, criterion)[ladder.rungs[:, place]] for place, number in enumerate(ladder.groups)], 0
    )
    costs: Costs = -np.log(np.maximum(LEAST_LEFT, 1.0 - lost))
    return costs


def lost_shares(analysis: Analysis, number: int, base: Removal, criterion: str) -> Costs:
    """The share of a group's importance that is lost with its n weakest channels, for every n from 0."""
    group = analysis.coupling.groups[number]
    scores = np.sort(np.maximum(0.0, analysis.ranked(base).scores(group, criterion)[base.remaining(group)]))
    total = float(scores.sum())
    weights = scores / total if total > 0 else np.full(len(scores), 1 / len(scores))
    shares: Costs = np.concatenate([[0.0], np.cumsum(weights)])
    return shares
