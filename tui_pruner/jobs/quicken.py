"""The search for a latency: plans are cut and timed beside the checkpoint, until one is as fast as was asked and no faster."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from tui_pruner.engine.job_messages import JobProgress
from tui_pruner.engine.latency_messages import LatencyShare, QuickenParameters, QuickenResult
from tui_pruner.errors import RequestError
from tui_pruner.jobs.devices import choose_device, device_name
from tui_pruner.jobs.stock import OnProgress
from tui_pruner.jobs.validate import opened

if TYPE_CHECKING:
    from tui_pruner.core.analysis import Analysis
    from tui_pruner.core.budget.descent import Pricing
    from tui_pruner.core.budget.planning import Planner
    from tui_pruner.core.budget.quickening import Measure, Quickened
    from tui_pruner.core.budget.targets import Target
    from tui_pruner.core.latency import Interval
    from tui_pruner.core.removal import Removal

SETTLING_SECONDS = 0.2


def run_quickening(parameters: QuickenParameters, on_progress: OnProgress) -> QuickenResult:
    """The whole job.

    Raises:
        CheckpointError: the checkpoint cannot be used, or is no longer the one that the job was made for.
        PlanError: the plan so far is for another checkpoint.
        DataError: the scores are missing, damaged, or of another checkpoint.
        RequestError: no latency among the targets, an amount that is reached already, no such criterion or device.
    """
    import torch

    from tui_pruner.core.analysis import analyse
    from tui_pruner.core.budget.ladders import Rules
    from tui_pruner.core.budget.planning import Planner
    from tui_pruner.core.budget.targets import parse_target
    from tui_pruner.core.budget.views import measured, plan_view
    from tui_pruner.core.calibrated import calibration_for
    from tui_pruner.core.session import Session

    on_progress(JobProgress(done=0, total=0, doing="reading the checkpoint"))
    analysis = analyse(opened(parameters), parameters.imgsz)
    if parameters.scores:
        analysis.ranking.calibrate(calibration_for(parameters.scores, parameters.sha256, analysis.coupling))
    session = Session(analysis)
    if parameters.plan:
        session.load(parameters.plan)
    planner = Planner(analysis, session.removal, Rules(round_to=parameters.round_to))
    pricing = planner.priced_by(measured(planner, parameters.scan) if parameters.scan else None, parameters.criterion)
    device = choose_device(parameters.device)
    targets = [parse_target(text) for text in parameters.targets]
    clock = clock_of(analysis, device, parameters.runs, on_progress)
    found = quickened(planner, targets, parameters.criterion, pricing, clock)
    return QuickenResult(
        plan=plan_view(found.budget, pricing is not None),
        latency=share_of(found.latency),
        least=share_of(found.least),
        tries=found.tries,
        device=device_name(device),
        threads=torch.get_num_threads(),
    )


def quickened(planner: Planner, targets: Sequence[Target], criterion: str, pricing: Pricing | None, clock: Measure) -> Quickened:
    """The search with targets of which one is a latency.

    Raises:
        RequestError: none is, an amount that is reached already, or no such criterion.
    """
    from tui_pruner.core.budget.quickening import Quickening
    from tui_pruner.core.budget.targets import latency_apart

    others, share = latency_apart(targets)
    if share is None:
        raise RequestError("there is no latency among the targets: write latency=70%")
    return Quickening(planner, share, clock, others, criterion, pricing).run()


def clock_of(analysis: Analysis, device: str, runs: int, on_progress: OnProgress) -> Measure:
    """Something that times a cut model beside the checkpoint, both as they are deployed, one image at a time."""
    from tui_pruner.core.latency import batch_for, deployed, ratio, time_in_turns
    from tui_pruner.core.surgery import cut

    model = analysis.checkpoint.model
    original, images = deployed(model, device), batch_for(model, 1, analysis.imgsz, device)
    tries = 0

    def told(run: int) -> None:
        on_progress(JobProgress(done=run, total=runs, doing=f"timing plan {tries}"))

    def clock(removal: Removal) -> Interval:
        nonlocal tries
        tries += 1
        candidate = deployed(cut(model, analysis.coupling, removal), device)
        timings = time_in_turns([original, candidate], [images, images], runs, told, SETTLING_SECONDS)
        return ratio(timings[1], timings[0])

    return clock


def share_of(latency: Interval) -> LatencyShare:
    """A measured share as a message."""
    return LatencyShare(median=latency.median, low=latency.low, high=latency.high)
