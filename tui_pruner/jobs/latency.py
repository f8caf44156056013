"""Latencies measured side by side, and the search for a plan that reaches a latency."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from tui_pruner.domain.errors import RequestError
from tui_pruner.engine.job_messages import JobProgress
from tui_pruner.engine.search_messages import (
    BenchedModel,
    BenchParameters,
    BenchResult,
    BlockLatency,
    LatencySearchParameters,
    LatencySearchResult,
    LatencyShare,
    ModelToTime,
    WidthSuggestion,
)
from tui_pruner.jobs.tools import OnProgress, choose_device, device_name
from tui_pruner.jobs.validate import opened

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor, nn

    from tui_pruner.core.model.analysis import Analysis
    from tui_pruner.core.model.checkpoint import Checkpoint
    from tui_pruner.core.model.inputs import Inputs
    from tui_pruner.core.model.latency import Interval, Timing
    from tui_pruner.core.pruning.removal import Removal
    from tui_pruner.core.pruning.session import PruningSession
    from tui_pruner.core.search.planner import LatencyFound, Measure, Planner
    from tui_pruner.core.search.targets import Pricing, Target


def run_bench(parameters: BenchParameters, on_progress: OnProgress) -> BenchResult:
    """Run the measurement; every model is compared with the first one.

    Raises:
        CheckpointError: a file cannot be used.
        PlanError: a plan is for another checkpoint.
        RequestError: no such device.
    """
    import torch

    from tui_pruner.core.model.latency import batch_for, deployed, time_blocks, time_in_turns
    from tui_pruner.core.model.layers import legal_side

    device = choose_device(parameters.device)
    checkpoints = [opened_model(entry, on_progress) for entry in parameters.models]
    asked = parameters.imgsz or checkpoints[0].default_imgsz
    side = max(legal_side(asked, one.stride) for one in checkpoints)
    models = [deployed(planned(one, entry), device) for one, entry in zip(checkpoints, parameters.models, strict=True)]
    images = [batch_for(one.model, parameters.batch, side, device) for one in checkpoints]

    timings = time_in_turns(models, images, parameters.runs, followed("timing", parameters, on_progress))
    follow = followed("timing blocks", parameters, on_progress)
    blocks = time_blocks(models, images, parameters.runs, follow) if parameters.blocks else [{} for _ in models]
    suggestions = [suggested(models[0], model, batch, parameters, on_progress) for model, batch in zip(models, images, strict=True)]
    shared: dict[str, Any] = {
        "imgsz": side,
        "batch": parameters.batch,
        "device": device_name(device),
        "threads": torch.get_num_threads(),
        "runs": parameters.runs,
    }
    return BenchResult(
        models=[
            benched(entry, model, timings, place, {**shared, "blocks": latencies(model, blocks[place]), "suggestions": suggestions[place]})
            for place, (entry, model) in enumerate(zip(parameters.models, models, strict=True))
        ],
        notes=[] if side == asked else [f"image side {asked} rounded up to {side}, a multiple of the stride"],
    )


def followed(doing: str, parameters: BenchParameters, on_progress: OnProgress) -> Callable[[int], None]:
    """Report each run of a measurement."""
    return lambda run: on_progress(JobProgress(done=run, total=parameters.runs, doing=doing))


def opened_model(entry: ModelToTime, on_progress: OnProgress) -> Checkpoint:
    """The checkpoint of a model to time."""
    from tui_pruner.frameworks.ultralytics import open_model

    on_progress(JobProgress(done=0, total=0, doing=f"reading {entry.checkpoint}", begun=False))
    return open_model(entry.checkpoint, entry.classes)


def planned(checkpoint: Checkpoint, entry: ModelToTime) -> nn.Module:
    """The model under the plan of its entry."""
    from tui_pruner.core.pruning.proved_cut import apply_plan

    return apply_plan(checkpoint, entry.plan) if entry.plan else checkpoint.model


def suggested(
    original: nn.Module, model: nn.Module, batch: Tensor | Inputs, parameters: BenchParameters, on_progress: OnProgress
) -> list[WidthSuggestion]:
    """Widths at which layers that are narrower than the reference's are faster."""
    from tui_pruner.core.model.latency import faster_widths

    if not parameters.suggest:
        return []
    found = faster_widths(
        original,
        model,
        batch,
        parameters.runs,
        lambda done, total: on_progress(JobProgress(done=done, total=total, doing="trying widths")),
    )
    return [
        WidthSuggestion(
            layer=one.layer,
            width=one.width,
            median_ms=one.milliseconds,
            faster=one.faster,
            faster_median_ms=one.faster_milliseconds,
            ratio=one.ratio.median,
            ratio_high=one.ratio.high,
        )
        for one in found
    ]


def latencies(model: nn.Module, blocks: dict[str, Timing]) -> list[BlockLatency]:
    """The blocks' figures, with their types."""
    from tui_pruner.core.model.layers import sequence

    types = {path: type(block).__name__ for path, block in sequence(model)}
    return [
        BlockLatency(name=path, type=types[path], median_ms=timing.median, low_ms=timing.low, high_ms=timing.p90)
        for path, timing in blocks.items()
    ]


def benched(entry: ModelToTime, model: nn.Module, timings: tuple[Timing, ...], place: int, more: dict[str, Any]) -> BenchedModel:
    """One model's figures."""
    from tui_pruner.core.model.flops import parameter_count
    from tui_pruner.core.model.latency import ratio

    own, relative = timings[place], ratio(timings[place], timings[0])
    return BenchedModel(
        model=entry.checkpoint,
        parameters=parameter_count(model),
        median_ms=own.median,
        p90_ms=own.p90,
        ratio=relative.median,
        ratio_low=relative.low,
        ratio_high=relative.high,
        verdict="reference" if place == 0 else verdict(relative),
        **more,
    )


def verdict(relative: Interval) -> str:
    """Whether a ratio differs from 1 by the samples: faster, slower or no difference."""
    return "faster" if relative.high < 1 else "slower" if relative.low > 1 else "no difference"


SETTLING_SECONDS = 0.2


def run_latency_search(parameters: LatencySearchParameters, on_progress: OnProgress) -> LatencySearchResult:
    """Run the search.

    Raises:
        CheckpointError: the checkpoint cannot be used, or changed since the job was created.
        PlanError: the plan so far is for another checkpoint.
        DataError: the scores are missing, damaged, or of another checkpoint.
        RequestError: no latency among the targets, an amount that is reached already, no such criterion or device.
    """
    from tui_pruner.core.model.analysis import analyse
    from tui_pruner.core.pruning.session import PruningSession

    on_progress(JobProgress(done=0, total=0, doing="reading the checkpoint", begun=False))
    session, device = PruningSession(analyse(opened(parameters), parameters.imgsz)), choose_device(parameters.device)
    if parameters.plan:
        session.load(parameters.plan)
    return searched(session, parameters, clock_of(session.analysis, device, parameters.runs, on_progress), device)


def searched(session: PruningSession, parameters: LatencySearchParameters, clock: Measure, device: str) -> LatencySearchResult:
    """The search on top of a session's steps.

    Raises:
        DataError: the scores are missing, damaged, or of another checkpoint.
        RequestError: no latency among the targets, an amount that is reached already, or no such criterion.
    """
    import torch

    from tui_pruner.core.pruning.importance import calibration_for
    from tui_pruner.core.search.ladders import Rules
    from tui_pruner.core.search.planner import Planner
    from tui_pruner.core.search.targets import parse_target
    from tui_pruner.engine.service import measured, plan_view

    analysis = session.analysis
    if parameters.scores:
        analysis.ranking.calibrate(calibration_for(parameters.scores, analysis.checkpoint.sha256, analysis.coupling))
    planner = Planner(analysis, session.removal, Rules(round_to=parameters.round_to))
    pricing = planner.priced_by(measured(planner, parameters.scan) if parameters.scan else None, parameters.criterion)
    targets = [parse_target(text) for text in parameters.targets]
    found = search_latency(planner, targets, parameters.criterion, pricing, clock)
    return LatencySearchResult(
        plan=plan_view(found.budget, pricing is not None),
        latency=share_of(found.latency),
        least=share_of(found.least),
        tries=found.tries,
        device=device_name(device),
        threads=torch.get_num_threads(),
    )


def search_latency(planner: Planner, targets: Sequence[Target], criterion: str, pricing: Pricing | None, clock: Measure) -> LatencyFound:
    """The search with a latency among its targets.

    Raises:
        RequestError: no latency among them, an amount that is reached already, or no such criterion.
    """
    from tui_pruner.core.search.planner import LatencySearch
    from tui_pruner.core.search.targets import latency_apart

    others, share = latency_apart(targets)
    if share is None:
        raise RequestError("no latency among the targets: write latency=70%")
    return LatencySearch(planner, share, clock, others, criterion, pricing).run()


def clock_of(analysis: Analysis, device: str, runs: int, on_progress: OnProgress) -> Measure:
    """A function that times a cut model beside the checkpoint, both as they are deployed, one image at a time."""
    from tui_pruner.core.model.latency import batch_for, deployed

    model = analysis.checkpoint.model
    return Clock(analysis, lambda one: deployed(one, device), batch_for(model, 1, analysis.imgsz, device), runs, on_progress)


class Clock:
    """Times a cut model beside the original on one batch; `ready`: makes a copy of a model as it is used."""

    def __init__(
        self, analysis: Analysis, ready: Callable[[nn.Module], nn.Module], batch: Tensor | Inputs, runs: int, on_progress: OnProgress
    ) -> None:
        self._analysis, self._ready, self._batch, self._runs, self._on_progress = analysis, ready, batch, runs, on_progress
        self._original = ready(analysis.checkpoint.model)
        self._tries = 0

    def __call__(self, removal: Removal) -> Interval:
        """The latency of the model without these channels, as a share of the original's."""
        from tui_pruner.core.model.latency import ratio, time_in_turns
        from tui_pruner.core.pruning.surgery import cut

        self._tries += 1
        candidate = self._ready(cut(self._analysis.checkpoint.model, self._analysis.coupling, removal))
        timings = time_in_turns([self._original, candidate], [self._batch] * 2, self._runs, self._tell, SETTLING_SECONDS)
        return ratio(timings[1], timings[0])

    def _tell(self, run: int) -> None:
        self._on_progress(JobProgress(done=run, total=self._runs, doing=f"timing plan {self._tries}"))


def share_of(latency: Interval) -> LatencyShare:
    """A measured share as a message."""
    return LatencyShare(median=latency.median, low=latency.low, high=latency.high)
