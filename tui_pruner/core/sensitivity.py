"""Every prunable group on its own: what a trial removes, and which trials together make a plan."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property

from tui_pruner.core.analysis import Analysis
from tui_pruner.core.groups import ChannelGroup
from tui_pruner.core.linking import Wishes, ask_alone
from tui_pruner.core.plan import Cut, Step, removes_of
from tui_pruner.core.removal import NOTHING, Removal
from tui_pruner.core.resolve import choose
from tui_pruner.errors import RequestError

UNEVEN = "what is linked to it cannot lose this share evenly"


@dataclass(frozen=True)
class Trial:
    """A share of one group's channels, with what its links demand. Linked groups may remove the very same."""

    group: int
    layer: str
    ratio: float
    removal: Removal

    @cached_property
    def digest(self) -> str:
        """SHA-256 of what it removes."""
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
    """The weakest channels of one group with what its links demand; None where they demand the impossible."""
    coupling, wishes = analysis.coupling, Wishes()
    ask_alone(coupling, group, ratio, wishes)
    if wishes.contradictions or not wishes.demands:
        return None
    places = {}
    for number, (demand, *_) in wishes.demands.items():
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
    """One step of all groups, each by the largest share that alone costs at most so much; `drops` is by the trials' digest.

    Of groups that links hold together, the trial that removes most speaks for all.

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
