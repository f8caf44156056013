"""Latency side by side: models fused as they are deployed, timed in turns on the same images and device."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tui_pruner.engine.job_messages import JobProgress
from tui_pruner.engine.latency_messages import BenchedModel, BenchParameters, BenchResult, BenchSubject, BlockLatency, WidthSuggestion
from tui_pruner.jobs.devices import choose_device, device_name
from tui_pruner.jobs.stock import OnProgress

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor, nn

    from tui_pruner.core.checkpoint import Checkpoint
    from tui_pruner.core.latency import Interval, Timing


def run_bench(parameters: BenchParameters, on_progress: OnProgress) -> BenchResult:
    """The whole job; every model is compared with the first one.

    Raises:
        CheckpointError: a file cannot be used.
        PlanError: a plan is for another checkpoint.
        RequestError: no such device.
    """
    import torch

    from tui_pruner.core.blocks import legal_side
    from tui_pruner.core.latency import batch_for, deployed, time_blocks, time_in_turns

    device = choose_device(parameters.device)
    checkpoints = [opened(subject, on_progress) for subject in parameters.subjects]
    asked = parameters.imgsz or checkpoints[0].default_imgsz
    side = max(legal_side(asked, one.stride) for one in checkpoints)
    models = [deployed(planned(one, subject), device) for one, subject in zip(checkpoints, parameters.subjects, strict=True)]
    images = [batch_for(one.model, parameters.batch, side, device) for one in checkpoints]

    def told(doing: str) -> Callable[[int], None]:
        return lambda run: on_progress(JobProgress(done=run, total=parameters.runs, doing=doing))

    timings = time_in_turns(models, images, parameters.runs, told("timing"))
    blocks = time_blocks(models, images, parameters.runs, told("timing blocks")) if parameters.blocks else [{} for _ in models]
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
            benched(
                subject, model, timings, place, {**shared, "blocks": latencies(model, blocks[place]), "suggestions": suggestions[place]}
            )
            for place, (subject, model) in enumerate(zip(parameters.subjects, models, strict=True))
        ],
        notes=[] if side == asked else [f"image side {asked} rounded up to {side}, a multiple of the stride"],
    )


def opened(subject: BenchSubject, on_progress: OnProgress) -> Checkpoint:
    """The checkpoint of a subject."""
    from tui_pruner.core.checkpoint import open_model

    on_progress(JobProgress(done=0, total=0, doing=f"reading {subject.checkpoint}"))
    return open_model(subject.checkpoint, subject.classes)


def planned(checkpoint: Checkpoint, subject: BenchSubject) -> nn.Module:
    """The model under the subject's plan."""
    from tui_pruner.core.cut_prove_write import apply_plan

    return apply_plan(checkpoint, subject.plan) if subject.plan else checkpoint.model


def suggested(
    original: nn.Module, model: nn.Module, batch: Tensor, parameters: BenchParameters, on_progress: OnProgress
) -> list[WidthSuggestion]:
    """Widths at which layers that are narrower than the reference's are faster."""
    from tui_pruner.core.faster_widths import faster_widths

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
    from tui_pruner.core.blocks import sequence

    types = {path: type(block).__name__ for path, block in sequence(model)}
    return [BlockLatency(name=path, type=types[path], median_ms=timing.median) for path, timing in blocks.items()]


def benched(subject: BenchSubject, model: nn.Module, timings: tuple[Timing, ...], place: int, more: dict[str, Any]) -> BenchedModel:
    """One model's figures."""
    from tui_pruner.core.latency import ratio
    from tui_pruner.core.measure import parameter_count

    own, relative = timings[place], ratio(timings[place], timings[0])
    return BenchedModel(
        model=subject.checkpoint,
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
    """Whether a ratio differs from 1, as far as the samples tell: faster, slower or no difference."""
    return "faster" if relative.high < 1 else "slower" if relative.low > 1 else "no difference"
