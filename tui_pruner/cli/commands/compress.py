"""`compress`: everything from the checkpoint to the export in one command, which goes on where it was interrupted."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tui_pruner.cli.commands.plan import Fast, Floor, Protected, Targets
from tui_pruner.cli.commands.recover import write_training_progress
from tui_pruner.cli.early_checks import check_without_libraries
from tui_pruner.cli.options import Classes, Data, Device, ImageSize, Json, KeepClasses, Model, PlanFile, RoundTo, needed
from tui_pruner.cli.output import Output, change, reserved_stdout, say
from tui_pruner.domain.criteria import demand_criterion
from tui_pruner.domain.errors import OutputError, RequestError
from tui_pruner.domain.results import main_metric

if TYPE_CHECKING:
    from tui_pruner.engine.recovery_messages import CompressResult

Folder = Annotated[Path | None, typer.Option("-o", "--output", metavar="FOLDER", help="Where everything is written.")]
FIELDS = {
    "target": "targets", "max_drop": "max_drop", "step": "step", "epochs": "epochs", "lr0": "lr0",
    "criterion": "criterion", "round_to": "round_to", "floor": "floor", "protect": "protect", "fast": "fast", "images": "images",
    "validation_images": "validated", "batch": "batch", "format": "format", "runs": "bench", "report": "report", "seed": "seed",
    "scan_images": "scanned", "refit": "refit", "patience": "patience", "redact": "redact",
}  # fmt: skip
"""What a compression calls the options that are also in a recipe."""


def compress(
    context: typer.Context,
    model: Model,
    output: Folder = None,
    recipe: Annotated[
        Path | None, typer.Option("--recipe", metavar="FILE", help="Stages and settings from this file (YAML); options take precedence.")
    ] = None,
    write_recipe: Annotated[
        Path | None, typer.Option("--write-recipe", metavar="FILE", help="Write these options as such a file, and do nothing else.")
    ] = None,
    target: Targets = None,
    data: Data = None,
    max_drop: Annotated[
        float | None, typer.Option("--max-drop", min=0, help="Stop at the last point that loses no more of the main metric: 0.01.")
    ] = None,
    step: Annotated[int, typer.Option("--step", min=1, max=100, help="With --max-drop: how far apart these points are, in per cent.")] = 10,
    epochs: Annotated[int, typer.Option("--epochs", min=0, help="Fine-tune after the refit, with the original as teacher.")] = 0,
    lr0: Annotated[float | None, typer.Option("--lr0", min=0, help="Learning rate to begin with; by default Ultralytics' choice.")] = None,
    with_teacher: Annotated[bool, typer.Option("--teacher/--no-teacher", help="Whether fine-tuning learns from the original too.")] = True,
    patience: Annotated[int, typer.Option("--patience", min=0, help="Stop training after this many epochs without a better one.")] = 0,
    scan_images: Annotated[int, typer.Option("--scan", min=0, help="Scan on this many images first and plan by it; 0: no scan.")] = 0,
    refit: Annotated[bool, typer.Option("--refit/--no-refit", help="Whether layers are refitted after the cut.")] = True,
    plan: PlanFile = None,
    keep_classes: KeepClasses = None,
    criterion: Annotated[str, typer.Option("--criterion", help="Which channels go first.")] = "obs",
    round_to: RoundTo = 1,
    floor: Floor = 0.25,
    protect: Protected = None,
    fast: Fast = False,
    images: Annotated[int, typer.Option("--images", min=2, help="Unlabelled training images to plan and refit on.")] = 64,
    validation_images: Annotated[
        int | None, typer.Option("--validation-images", min=1, help="Validate on this many images; by default on all.")
    ] = None,
    batch: Annotated[int, typer.Option("--batch", min=1, help="Images in a batch; halved where memory does not suffice.")] = 16,
    format: Annotated[str, typer.Option("--format", help="Export to this format of Ultralytics; none: no export.")] = "onnx",
    runs: Annotated[int, typer.Option("--runs", min=0, help="Samples of both models' latency; 0: not timed.")] = 50,
    report: Annotated[
        str, typer.Option("--report", metavar="NAME", help="Name of the report, .html or .md; none: no report.")
    ] = "report.html",
    redact: Annotated[bool, typer.Option("--redact", help="Neutral names in the report.")] = False,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Selects images, augmentation and order.")] = 0,
    force: Annotated[bool, typer.Option("--force", help="Use a folder that has other files.")] = False,
    imgsz: ImageSize = None,
    device: Device = "",
    classes: Classes = None,
    as_json: Json = False,
) -> int:
    """Plan, cut, prove, refit, fine-tune, validate, time, export and report; the same command resumes an interrupted run.

    Status 1 where the target is out of reach, or every point loses more than --max-drop.
    """
    with reserved_stdout(as_json) as results:
        fields, data = asked_for(context, recipe, data)
        if write_recipe:
            return written(fields, data, write_recipe, force)
        if output is None:
            raise OutputError("which folder? give -o FOLDER")
        if not (fields["targets"] or plan or keep_classes):
            raise RequestError("no target: give one, such as flops=60%")
        demand_criterion(fields["criterion"])
        from tui_pruner.cli.job_runs import NO_DATA, run_job
        from tui_pruner.cli.session import open_session
        from tui_pruner.engine.recovery_messages import CompressParameters, CompressResult
        from tui_pruner.jobs.plan import milestones
        from tui_pruner.storage.yaml import everywhere

        if fields["targets"] or not (plan or keep_classes):
            milestones(fields["targets"], fields["step"] if fields["max_drop"] is not None else None)
        session = open_session(model, imgsz, classes, plan, (), NO_DATA, writing=True, keep_classes=keep_classes)
        checkpoint = session.analysis.checkpoint
        parameters = CompressParameters(
            checkpoint=checkpoint.path,
            sha256=checkpoint.sha256,
            data=everywhere(needed(data)),
            imgsz=session.analysis.imgsz,
            device=device,
            classes=classes,
            plan=session.plan.plain() if session.steps else None,
            **fields,
            folder=str(output),
            force=force,
        )
        result = CompressResult.model_validate(run_job("compress", parameters, write_training_progress, ends_early=False))
        results.result(result)
        show(results, result)
        return 0 if result.output else 1


def asked_for(context: typer.Context, file: Path | None, data: Path | None) -> tuple[dict[str, Any], Path | None]:
    """The parameters of the compression, and its data: options take precedence over the recipe, which takes precedence over defaults.

    Raises:
        RequestError: the recipe or an option is invalid.
        DataError: the recipe's data yaml cannot be read.
    """
    from tui_pruner.storage.recipe import FinetuneStage, read_recipe, recipe_of

    names = {**FIELDS, "with_teacher": FinetuneStage.FIELDS["teacher"]}
    options = {names[name]: value for name, value in context.params.items() if name in names}
    options |= {field: options[field] or [] for field in ("targets", "protect")}
    options |= {field: "" for field in ("format", "report") if options.get(field) == "none"}
    if file is None:
        recipe_of(options)
        return options, data
    recipe = read_recipe(file)
    typed = {name for name in names if getattr(context.get_parameter_source(name), "name", "") == "COMMANDLINE"}
    if recipe.data and data is None:
        beside = file.parent / recipe.data
        data = beside if beside.exists() else Path(recipe.data)
        check_without_libraries({"data": data})
    return {**options, **recipe.fields, **{names[name]: options[names[name]] for name in typed}}, data


def written(fields: dict[str, Any], data: Path | None, file: Path, force: bool, model: str = "MODEL") -> int:
    """Write a recipe and say so; `model`: how a model is named on the command line."""
    from tui_pruner.storage.atomic import check_place
    from tui_pruner.storage.recipe import recipe_of, write_recipe

    check_place(file.expanduser(), f"the recipe {file}", "recipe.yaml", force)
    write_recipe(file, recipe_of({**fields, "data": str(data) if data else None}))
    say(f"wrote {file}: edit it, then tui-pruner compress {model} --recipe {file} -o FOLDER")
    return 0


def show(results: Output, result: CompressResult) -> None:
    """Show the stages and the result."""
    main = (main_metric(result.original) or ("metric", 0.0))[0]
    rows = [
        [
            stage.name,
            f"{stage.flops / 1e9:.2f} G" if stage.flops else "",
            f"{stage.metrics[main]:.4f}" if main in stage.metrics else "",
            "kept" if stage.kept else f"{stage.seconds:.0f} s",
            "; ".join(stage.details),
        ]
        for stage in result.stages
    ]
    results.table(["stage", "FLOPs", main.removeprefix("metrics/"), "", "came to"], rows, right=["FLOPs", main.removeprefix("metrics/")])
    if result.stopped:
        say(f"tui-pruner: {result.stopped}")
    if result.output is None:
        return
    results.line(f"FLOPs      {change(result.flops['before'], result.flops['after'])}")
    results.line(f"parameters {change(result.parameters['before'], result.parameters['after'])}")
    if result.latency is not None:
        results.line(f"latency    {result.latency:.3f} of the original's")
    for name in (result.output, result.exported, result.report):
        if name:
            results.line(f"written    {name}")
