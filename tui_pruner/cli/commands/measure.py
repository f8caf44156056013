"""Commands that measure models side by side: `validate`, `bench`, and `gate`, which gives a verdict."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tui_pruner.cli.options import Classes, Data, Device, Images, ImageSize, Json, Model, PlanFile, Steps, needed
from tui_pruner.cli.output import Output, progress_of, reserved_stdout, say, write_progress
from tui_pruner.domain.formatting import large
from tui_pruner.domain.results import main_metric

if TYPE_CHECKING:
    from tui_pruner.engine.job_messages import ValidationResult
    from tui_pruner.engine.search_messages import BenchedModel, BenchResult, GateResult


def validate(
    model: Model,
    data: Data = None,
    images: Images = None,
    against: Annotated[str | None, typer.Option("--against", metavar="ORIGINAL", help="Validate this model too, as the baseline.")] = None,
    plan: PlanFile = None,
    steps: Steps = None,
    mask: Annotated[bool, typer.Option("--mask", help="With --plan: measure its channels at zero, all shapes kept.")] = False,
    imgsz: ImageSize = None,
    device: Device = "",
    classes: Classes = None,
    as_json: Json = False,
) -> None:
    """Quick validation with Ultralytics' validator; results are cached by checkpoint, plan, data, images and size."""
    with reserved_stdout(as_json) as output:
        from tui_pruner.cli.job_runs import CalibrationData
        from tui_pruner.cli.session import settled_plan, validated
        from tui_pruner.core.pruning.proved_cut import plan_of_classes

        data_set = needed(data)
        content = settled_plan(model, imgsz, classes, plan, CalibrationData(data, device=device), steps) if plan else None
        result = validated(model, data_set, images, imgsz, device, classes, content, progress_of("validate"), mask)
        original = against or (model if content else None)
        same = plan_of_classes(content or plan_behind(model, against, classes))
        baseline = validated(original, data_set, images, imgsz, device, classes, same, progress_of("validate")) if original else None
        for note in result.notes:
            say(note)
        show_metrics(output, result, baseline)


def plan_behind(model: str, original: str | None, classes: int | None) -> dict[str, Any] | None:
    """The plan by which a file was cut from an original; None where it was not."""
    from tui_pruner.frameworks.ultralytics import open_model

    plan = (open_model(model, classes).provenance or {}).get("plan") if original else None
    return plan if plan and original and plan.get("sha256") == open_model(original, classes).sha256 else None


def show_metrics(output: Output, result: ValidationResult, baseline: ValidationResult | None, sample: str = "image") -> None:
    """The metrics, beside the baseline's; `sample`: what one input is called."""
    output.document(
        {
            "metrics": result.metrics,
            "interval": result.interval,
            "images": result.images,
            "seconds": result.seconds,
            "cached": result.cached,
            "baseline": baseline.metrics if baseline else None,
        }
    )
    rows = []
    for name, value in result.metrics.items():
        before = baseline.metrics.get(name) if baseline else None
        rows.append([name, f"{value:.4f}", *([f"{before:.4f}", f"{value - before:+.4f}"] if before is not None else [])])
    output.table(["metric", "value", *(["baseline", "change"] if baseline else [])], rows, right=["value", "baseline", "change"])
    if result.interval and (found := main_metric(result.metrics)):
        low, high = result.interval
        output.line(f"95 % interval of {found[0]}: {low:.4f} to {high:.4f} (bootstrap over {result.images} {sample}s)")
    counted = f"{result.images} {sample}s  " if result.images else ""
    output.line(f"{counted}{result.seconds:.1f} s{'  (cached)' if result.cached else ''}")


REPORT_EVERY = 10
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
        from tui_pruner.engine.search_messages import BenchParameters, ModelToTime
        from tui_pruner.jobs.latency import run_bench

        def tell(progress: JobProgress) -> None:
            if progress.done % REPORT_EVERY == 0 or progress.done == progress.total:
                write_progress(progress)

        timed = [ModelToTime(checkpoint=model, classes=classes if is_yaml(model) else None) for model in models]
        parameters = BenchParameters(models=timed, imgsz=imgsz, batch=batch, runs=runs, blocks=blocks, suggest=suggest, device=device)
        result = run_bench(parameters, tell)
        output.result(result)
        show_latencies(output, result)


def is_yaml(model: str) -> bool:
    """Whether a model is an architecture, whose number of classes can be chosen."""
    from tui_pruner.storage.model_file import is_architecture

    return is_architecture(model)


def show_latencies(output: Output, result: BenchResult) -> None:
    """The figures for people."""
    rows = [
        [one.model, large(one.parameters), f"{one.median_ms:.2f}", f"{one.p90_ms:.2f}", f"{one.ratio:.3f}", one.verdict]
        for one in result.models
    ]
    output.table(["model", "parameters", "median ms", "p90 ms", "ratio", ""], rows, right=["parameters", "median ms", "p90 ms", "ratio"])
    first = result.models[0]
    of_images = bool(first.imgsz)  # else as a module of the user's is called
    size = f"{first.batch} x {first.imgsz}x{first.imgsz}" if of_images else f"{first.batch} samples"
    how = "fused, float32, without NMS" if of_images else "as it is called"
    output.line(f"{size} on {first.device}, {first.threads} threads, {first.runs} runs in turns, {how}")
    for one in result.models[1:]:
        output.line(compared(one, first))
    if first.blocks:
        show_blocks(output, result)
    for one in result.models:
        show_suggestions(output, one)


def compared(one: BenchedModel, first: BenchedModel) -> str:
    """The meaning of the ratio of two models, in a sentence."""
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
    output.line(f"{one.model}: layers that are surely faster at another width, timed alone; the layers coupled with them change too")
    output.table(["layer", "width", "ms", "try", "ms then", "ratio"], rows, right=["width", "ms", "ms then", "ratio"])


Pruned = Annotated[str, typer.Argument(metavar="PRUNED", help="The model that may be merged.")]
Against = Annotated[str, typer.Option("--against", metavar="ORIGINAL", help="The reference model.")]
MaxDrop = Annotated[float, typer.Option("--max-drop", min=0, max=1, help="The allowed loss of the metric, such as 0.01 of mAP50-95.")]
MaxLatency = Annotated[
    float | None, typer.Option("--max-latency", min=0.01, help="The allowed share of the original's latency, such as 0.8.")
]
Strict = Annotated[bool, typer.Option("--strict", help="Also say no if the interval exceeds what is allowed; use many images.")]
Junit = Annotated[Path | None, typer.Option("--junit", metavar="FILE", help="Write the verdict as JUnit XML too.")]
Markdown = Annotated[Path | None, typer.Option("--markdown", metavar="FILE", help="Write a summary for a pull request too.")]


def gate(
    pruned: Pruned,
    against: Against,
    data: Data = None,
    max_drop: MaxDrop = 0.01,
    max_latency: MaxLatency = None,
    images: Images = None,
    strict: Strict = False,
    junit: Junit = None,
    markdown: Markdown = None,
    runs: Annotated[int, typer.Option("--runs", min=5, help="Latency: samples of each model, taken in turns.")] = 50,
    imgsz: ImageSize = None,
    device: Device = "",
    classes: Classes = None,
    as_json: Json = False,
) -> int:
    """May PRUNED be merged? Status 0 yes, 1 no. Both models see the same images; no only where the loss is more than chance.

    The drop of the metric has a 95 % interval, by resampling the images for both models alike. No: the whole interval lies above
    --max-drop, or that of the latency's ratio above --max-latency. With --strict, yes only where the whole interval lies within.
    """
    with reserved_stdout(as_json) as output:
        from tui_pruner.engine.search_messages import GateParameters
        from tui_pruner.frameworks.ultralytics import open_model
        from tui_pruner.jobs.gate import run_gate
        from tui_pruner.storage.atomic import check_place
        from tui_pruner.storage.model_file import is_architecture

        for place, example in ((junit, "gate.xml"), (markdown, "gate.md")):
            if place is not None:
                check_place(place, f"the report {place}", example, force=True)
        chosen = needed(data)
        checkpoint = open_model(pruned, classes if is_architecture(pruned) else None)
        parameters = GateParameters(
            checkpoint=pruned,
            sha256=checkpoint.sha256,
            data=chosen,
            images=images,
            imgsz=imgsz or checkpoint.default_imgsz,
            device=device,
            classes=classes,
            against=against,
            max_drop=max_drop,
            max_latency=max_latency,
            strict=strict,
            runs=runs,
        )
        return decided(output, run_gate(parameters, write_progress), junit, markdown)


def decided(output: Output, result: GateResult, junit: Path | None, markdown: Path | None) -> int:
    """Show a verdict, write the requested reports, and return the exit status.

    Raises:
        OutputError: a report cannot be written.
    """
    keep(result, junit, markdown)
    output.result(result)
    show(output, result)
    return 0 if result.verdict == "yes" else 1


def keep(result: GateResult, junit: Path | None, markdown: Path | None) -> None:
    """Write the requested reports.

    Raises:
        OutputError: one cannot be written.
    """
    from tui_pruner.domain.errors import OutputError
    from tui_pruner.jobs.gate import junit as as_junit
    from tui_pruner.jobs.gate import markdown as as_markdown
    from tui_pruner.storage.atomic import replace_file

    for place, content in ((junit, as_junit(result)), (markdown, as_markdown(result).encode())):
        if place is None:
            continue
        try:
            replace_file(place, content)
        except OSError as error:
            raise OutputError(f"the report {place} cannot be written: {error.strerror or error}") from None


def show(output: Output, result: GateResult) -> None:
    """Show the verdict and what it is based on."""
    from tui_pruner.jobs.gate import advice, interval_in_words, negated, short

    rows = [
        [short(one.name), f"{one.original:.4f}", f"{one.pruned:.4f}", negated(one.drop), interval_in_words(one), negated(one.allowed)]
        for one in result.metrics
    ]  # fmt: skip
    if one := result.latency:
        rows.append(
            ["latency, ms", f"{one.original_ms:.2f}", f"{one.pruned_ms:.2f}", f"x{one.ratio:.3f}", f"x{one.low:.3f} to x{one.high:.3f}",
             f"x{one.allowed:.3f}"]
        )  # fmt: skip
    columns = ["", "original", "pruned", "change", "95 % interval", "allowed"]
    output.table(columns, rows, right=columns[1:])
    counted = f"{result.images} {result.sample}s, the same for both models; " if result.images else ""
    output.line(f"{counted}{result.seconds:.1f} s")
    for reason in result.reasons:
        output.line(reason)
    if more := advice(result):
        output.line(more)
    output.line(f"{result.verdict}: {'it may' if result.verdict == 'yes' else 'it must not'} be merged")
