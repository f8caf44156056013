"""A sensitivity scan as a job, and what it found: how far the metric falls where a layer's channels go."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tui_pruner.domain.formatting import plural, score
from tui_pruner.domain.results import short_metric
from tui_pruner.tui.figures import drop
from tui_pruner.tui.job_specs.job import JobOutcome, JobSpec
from tui_pruner.tui.theme.glyphs import GLYPHS

if TYPE_CHECKING:
    from tui_pruner.engine.search_messages import ScanDrops, ScanParameters, ScanResult
    from tui_pruner.tui.job_specs.job import OpenCheckpoint


KIND = "scan"
HEAT = 0.3
"""The share of its channels that a layer's figure in the tree stands for, or the nearest one that was scanned."""
Drops = Mapping[float, float]


@dataclass(frozen=True)
class Scanned:
    """What a scan of the checkpoint found. `layers`: for each layer, by the share that was gone, how far the metric fell at most.

    `coupled`: for each layer a number that it shares with those that lose the same channels.
    """

    criterion: str
    data: str
    images: int
    metric: str
    baseline: float
    layers: Mapping[str, Drops]
    drops: ScanDrops
    coupled: Mapping[str, int] = field(default_factory=dict)

    def heat(self, layer: str) -> float | None:
        """How far the metric falls with about `HEAT` of a layer's channels gone; None where that was not measured."""
        drops = self.layers.get(layer)
        return drops[min(drops, key=lambda share: abs(share - HEAT))] if drops else None

    @property
    def heats(self) -> dict[str, float]:
        """The same for all layers that were measured."""
        return {layer: heat for layer in self.layers if (heat := self.heat(layer)) is not None}


def scanned(result: ScanResult, criterion: str, data: str) -> Scanned:
    """A job's result by layers: one whose channels are in several groups is as sensitive as the worst of them."""
    from tui_pruner.engine.search_messages import ScanDrops, TrialDrop

    layers: dict[str, dict[float, float]] = {}
    for trial in result.groups:
        for layer in trial.layers:
            known = layers.setdefault(layer, {})
            known[trial.ratio] = max(trial.drop, known.get(trial.ratio, trial.drop))
    trials = [TrialDrop(group=trial.id, channels=trial.channels, drop=trial.drop) for trial in result.groups]
    found = short_metric({result.name: result.baseline})
    return Scanned(
        criterion,
        data,
        result.images,
        found[0] if found else result.name,
        result.baseline,
        layers,
        ScanDrops(baseline=result.baseline, trials=trials),
        {layer: trial.id for trial in reversed(result.groups) for layer in trial.layers},
    )


def scan(checkpoint: OpenCheckpoint, criterion: str, hand_over: Callable[[Scanned], None]) -> JobSpec:
    """The job on the checkpoint's data as it is known now."""
    fields = checkpoint.fields

    def parameters() -> ScanParameters:
        from tui_pruner.engine.search_messages import ScanParameters

        return ScanParameters(criterion=criterion, **fields)

    async def take(content: dict[str, Any]) -> JobOutcome:
        from tui_pruner.engine.search_messages import ScanResult

        result = ScanResult.model_validate(content)
        hand_over(scanned(result, criterion, fields["data"]))
        known = f", {result.cached} known before" if result.cached else ""
        figure = f"scanned by {plural(len(result.groups), 'trial')} on {plural(result.images, 'image')}{known}"
        worst = sorted(result.groups, key=lambda trial: -trial.drop)[:5]
        details = [
            ("baseline", score(result.baseline)),
            *((drop(trial.drop), f"{trial.layer} {GLYPHS.minus}{trial.ratio:.0%}") for trial in worst),
        ]
        notes = [
            *result.notes,
            *result.remarks,
            *(f"{failed.layer} {GLYPHS.minus}{failed.ratio:.0%}: {failed.error}" for failed in result.failed),
        ]
        return JobOutcome(figure, details, notes)

    return JobSpec(KIND, "checkpoint", criterion, parameters, take, fields["data"])
