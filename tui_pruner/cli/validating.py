"""`validate`: Ultralytics' own validation on a subset, beside the original's."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from tui_pruner.cli.options import Classes, Data, Device, Images, ImageSize, Json, Model, PlanFile, Steps, needed
from tui_pruner.cli.output import Output, progress_of, reserved_stdout, say
from tui_pruner.metrics import main_metric

if TYPE_CHECKING:
    from tui_pruner.engine.job_messages import ValidationResult


def validate(
    model: Model,
    data: Data = None,
    images: Images = None,
    against: Annotated[str | None, typer.Option("--against", metavar="ORIGINAL", help="Validate this one too, as the baseline.")] = None,
    plan: PlanFile = None,
    steps: Steps = None,
    imgsz: ImageSize = None,
    device: Device = "",
    classes: Classes = None,
    as_json: Json = False,
) -> None:
    """Quick validation with Ultralytics' validator; results are cached by checkpoint, plan, data, images and size."""
    with reserved_stdout(as_json) as output:
        from tui_pruner.cli.calibrating import CalibrationData
        from tui_pruner.cli.world import settled_plan, validated
        from tui_pruner.core.some_classes import plan_of_classes

        data_set = needed(data)
        content = settled_plan(model, imgsz, classes, plan, CalibrationData(data, device=device), steps) if plan else None
        result = validated(model, data_set, images, imgsz, device, classes, content, progress_of("validate"))
        original = against or (model if content else None)
        same = plan_of_classes(content or plan_behind(model, against, classes))
        baseline = validated(original, data_set, images, imgsz, device, classes, same, progress_of("validate")) if original else None
        for note in result.notes:
            say(note)
        show(output, result, baseline)


def plan_behind(model: str, original: str | None, classes: int | None) -> dict[str, Any] | None:
    """The plan by which a file was cut from an original; None where it was not."""
    from tui_pruner.core.checkpoint import open_model

    plan = (open_model(model, classes).provenance or {}).get("plan") if original else None
    return plan if plan and original and plan.get("sha256") == open_model(original, classes).sha256 else None


def show(output: Output, result: ValidationResult, baseline: ValidationResult | None) -> None:
    """The metrics, beside the baseline's."""
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
        output.line(f"95 % interval of {found[0]}: {low:.4f} to {high:.4f} (bootstrap over {result.images} images)")
    output.line(f"{result.images} images  {result.seconds:.1f} s{'  (cached)' if result.cached else ''}")
