"""`bench`: how long models take, side by side."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from tui_pruner.cli.options import Classes, Device, ImageSize, Json
from tui_pruner.cli.output import Output, count, reserved_stdout, say, tell_progress

if TYPE_CHECKING:
    from tui_pruner.engine.latency_messages import BenchedModel, BenchResult

SAID_EVERY = 10
Models = Annotated[list[str], typer.Argument(metavar="MODEL...", help="Checkpoints or Ultralytics yamls; the first is the reference.")]


def bench(
    models: Models,
    imgsz: ImageSize = None,
    batch: Annotated[int, typer.Option("--batch", min=1, help="Images in a batch.")] = 1,
    runs: Annotated[int, typer.Option("--runs", min=5, help="Samples of every model, taken in turns.")] = 50,
    blocks: Annotated[bool, typer.Option("--blocks", help="Time every block within the forward as well.")] = False,
    suggest: Annotated[bool, typer.Option("--suggest", help="Try widths around those of the layers that were cut.")] = False,
    device: Device = "",
    classes: Classes = None,
    as_json: Json = False,
) -> None:
    """Latency of the forward (without NMS) of models fused as they are deployed, each compared with the first."""
    with reserved_stdout(as_json) as output:
        from tui_pruner.engine.job_messages import JobProgress
        from tui_pruner.engine.latency_messages import BenchParameters, BenchSubject
        from tui_pruner.jobs.bench import run_bench

        def tell(progress: JobProgress) -> None:
            if progress.done % SAID_EVERY == 0 or progress.done == progress.total:
                tell_progress(progress)

        subjects = [BenchSubject(checkpoint=model, classes=classes if is_yaml(model) else None) for model in models]
        parameters = BenchParameters(subjects=subjects, imgsz=imgsz, batch=batch, runs=runs, blocks=blocks, suggest=suggest, device=device)
        result = run_bench(parameters, tell)
        for note in result.notes:
            say(note)
        output.document(result.model_dump())
        show(output, result)


def is_yaml(model: str) -> bool:
    """Whether a model is an architecture, whose number of classes can be chosen."""
    from tui_pruner.model_file import is_architecture

    return is_architecture(model)


def show(output: Output, result: BenchResult) -> None:
    """The figures for people."""
    rows = [
        [one.model, count(one.parameters), f"{one.median_ms:.2f}", f"{one.p90_ms:.2f}", f"{one.ratio:.3f}", one.verdict]
        for one in result.models
    ]
    output.table(["model", "parameters", "median ms", "p90 ms", "ratio", ""], rows, right=["parameters", "median ms", "p90 ms", "ratio"])
    first = result.models[0]
    size = f"{first.batch} x {first.imgsz}x{first.imgsz}"
    output.line(f"{size} on {first.device}, {first.threads} threads, {first.runs} runs in turns, fused, float32, without NMS")
    for one in result.models[1:]:
        output.line(compared(one, first))
    if first.blocks:
        show_blocks(output, result)
    for one in result.models:
        show_suggestions(output, one)


def compared(one: BenchedModel, first: BenchedModel) -> str:
    """What the ratio of two models means, in a sentence."""
    share, sure = abs(one.ratio - 1), f"ratio {one.ratio_low:.3f} to {one.ratio_high:.3f}, 95 % sure"
    if one.verdict == "no difference":
        return f"{one.model} is neither faster nor slower than {first.model}, as far as {one.runs} runs tell ({sure})"
    smaller = " although it is smaller" if one.verdict == "slower" and one.parameters < first.parameters else ""
    return f"{one.model} is {share:.1%} {one.verdict} than {first.model}{smaller} ({sure})"


def show_blocks(output: Output, result: BenchResult) -> None:
    """Every block of the first model, beside the blocks of the same name in the others."""
    others = [{block.name: block.median_ms for block in one.blocks} for one in result.models[1:]]
    rows = []
    for block in result.models[0].blocks:
        beside = [f"{other[block.name]:.3f}" if block.name in other else "" for other in others]
        rows.append([block.name, block.type, f"{block.median_ms:.3f}", *beside])
    names = [one.model for one in result.models]
    output.table(["block", "type", *names], rows, right=names)


def show_suggestions(output: Output, one: BenchedModel) -> None:
    """Widths that are faster for layers of one model, timed alone."""
    if not one.suggestions:
        return
    rows = [
        [found.layer, found.width, f"{found.median_ms:.3f}", f"keep:{found.faster}", f"{found.faster_median_ms:.3f}", f"{found.ratio:.2f}"]
        for found in one.suggestions
    ]
    output.line(f"{one.model}: layers that are surely faster at another width, timed alone; what goes along with them changes too")
    output.table(["layer", "width", "ms", "try", "ms then", "ratio"], rows, right=["width", "ms", "ms then", "ratio"])
