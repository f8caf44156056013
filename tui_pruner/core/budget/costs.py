"""What each rung of a ladder costs: the importance that is lost on the way down, or what a scan measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from tui_pruner.core.analysis import Analysis
from tui_pruner.core.budget.descent import Costs, Pricing
from tui_pruner.core.budget.ladders import Ladder
from tui_pruner.core.removal import Removal

LEAST_LEFT = 1e-9
TRUST = 0.02
"""What importance adds to measured drops: it orders channels whose drop is nothing, or less than the noise of a few images."""


@dataclass(frozen=True)
class Sensitivity:
    """A scan: for each group the drops of the metric by the share of its channels that was gone, and the metric with nothing gone."""

    baseline: float
    drops: Mapping[int, Mapping[float, float]]

    def covers(self, ladders: Sequence[Ladder]) -> bool:
        """Whether it says something of every ladder."""
        return bool(ladders) and all(any(number in self.drops for number in ladder.groups) for ladder in ladders)


def by_importance(analysis: Analysis, base: Removal, criterion: str) -> Pricing:
    """Prices by the criterion alone, whatever a rung saves.

    Measured on the bundled checkpoint at 70 % of the FLOPs, with normalisation calibrated again: mAP50-95 is 0.82 of 0.90; priced by what
    is lost for each operation saved it is 0.18, for its fourth root 0.72, and 0.54 where all layers are cut by one share.
    """
    return Pricing(lambda ladder: importance_costs(analysis, ladder, base, criterion))


def by_sensitivity(analysis: Analysis, base: Removal, criterion: str, scan: Sensitivity) -> Pricing:
    """Prices by the measured drop over the root of what a rung saves; the scan `covers` all ladders.

    Measured on the bundled checkpoint (mAP50-95 0.90) with a scan of 64 images, right after the cut: 0.87 at 70 % of the FLOPs and 0.49 at
    50 %, where importance alone gives 0.59 and 0.01. Priced for every operation saved it is 0.85 and 0.47, by the drop alone 0.88 and 0.46.
    """

    def costs(ladder: Ladder) -> Costs:
        coupling = analysis.coupling
        gone = np.array([len(base.of(coupling.groups[number])) for number in ladder.groups])
        widths = np.array([coupling.groups[number].channels for number in ladder.groups])
        shares = ((ladder.rungs + gone) / widths).mean(axis=1)
        curves = [drop_curve(scan.drops[number], scan.baseline, shares) for number in ladder.groups if number in scan.drops]
        measured: Costs = np.max(curves, axis=0)
        return measured + TRUST * importance_costs(analysis, ladder, base, criterion)

    return Pricing(costs, thrift=0.5)


def drop_curve(drops: Mapping[float, float], baseline: float, shares: Costs) -> Costs:
    """The drop at these shares: never falling, straight between what was measured, and the whole metric where nothing is left."""
    measured = sorted(drops.items())
    heights = np.maximum.accumulate([0.0, *(max(0.0, drop) for _, drop in measured), baseline])
    curve: Costs = np.interp(shares, [0.0, *(share for share, _ in measured), 1.0], heights)
    return curve


def importance_costs(analysis: Analysis, ladder: Ladder, base: Removal, criterion: str) -> Costs:
    """By the share of each group's importance that is lost, the weakest channels first, so that groups of any scale compare.

    The cost is the logarithm of what is left: equal shares of what is still there cost the same, and the last channels cost most.
    """
    lost = np.mean(
        [lost_shares(analysis, number, base, criterion)[ladder.rungs[:, place]] for place, number in enumerate(ladder.groups)], 0
    )
    costs: Costs = -np.log(np.maximum(LEAST_LEFT, 1.0 - lost))
    return costs


def lost_shares(analysis: Analysis, number: int, base: Removal, criterion: str) -> Costs:
    """The share of a group's importance that goes with its n weakest channels, for every n from 0."""
    group = analysis.coupling.groups[number]
    scores = np.sort(np.maximum(0.0, analysis.ranked(base).scores(group, criterion)[base.remaining(group)]))
    total = float(scores.sum())
    weights = scores / total if total > 0 else np.full(len(scores), 1 / len(scores))
    shares: Costs = np.concatenate([[0.0], np.cumsum(weights)])
    return shares
