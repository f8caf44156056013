"""Commands whose files go to others: `export`, compared with the model, and `report`, to attach to a pull request."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tui_pruner.cli.options import Classes, Data, Device, ImageSize, Json
from tui_pruner.cli.output import Output, change, reserved_stdout, write_progress
from tui_pruner.domain.errors import PlanError, RequestError

if TYPE_CHECKING:
    from tui_pruner.core.pruning.plan import Plan
    from tui_pruner.engine.job_messages import ExportResult
    from tui_pruner.report.facts import Facts


def export(
    model: Annotated[str, typer.Argument(metavar="PRUNED", help="A .pt checkpoint, pruned or not.")],
    format: Annotated[str, typer.Option("--format", help="Any format of Ultralytics: onnx, torchscript, openvino, engine, ...")] = "onnx",
    output: Annotated[Path | None, typer.Option("-o", "--output", help="By default beside the checkpoint, under its name.")] = None,
    data: Data = None,
    images: Annotated[int, typer.Option("--images", min=1, help="Compare on this many validation images.")] = 8,
    force: Annotated[bool, typer.Option("--force", help="Replace an existing export.")] = False,
    imgsz: ImageSize = None,
    device: Device = "",
    as_json: Json = False,
) -> int:
    """Export through Ultralytics, then compare the file's outputs with the model's; status 1 where they differ."""
    with reserved_stdout(as_json) as results:
        from tui_pruner.cli.job_runs import run_job
        from tui_pruner.engine.job_messages import ExportParameters, ExportResult
        from tui_pruner.frameworks.ultralytics import read_checkpoint

        checkpoint = read_checkpoint(model)
        parameters = ExportParameters(
            checkpoint=model,
            sha256=checkpoint.sha256,
            data=str(data) if data else "",
            images=images,
            imgsz=imgsz or checkpoint.default_imgsz,
            device=device,
            format=format,
            output=str(output) if output else None,
            force=force,
        )
        result = ExportResult.model_validate(run_job("export", parameters, write_progress, ends_early=False))
        results.result(result)
        show(results, result, format)
        return 1 if result.equal is False else 0


def show(results: Output, result: ExportResult, file_format: str, samples: str = "", source: str = "checkpoint") -> None:
    """Show the export and its comparison; `samples`: what it was compared on, if not images."""
    if result.relative_difference is not None:
        kind = samples or ("drawn images" if result.drawn else "validation images")
        verdict = "equal     " if result.equal else "NOT EQUAL "
        results.line(f"{verdict} relative difference {result.relative_difference:.1e} on {result.images} {kind}")
    if result.output is None:
        results.line(f"not written: the {file_format} file's outputs differ from those of the PyTorch model")
        return
    results.line(f"written    {result.output}  {result.bytes / 1e6:.2f} MB (the {source} has {result.source_bytes / 1e6:.2f} MB)")


YAML_SUFFIXES = (".yaml", ".yml")


def report(
    plan: Annotated[Path, typer.Argument(metavar="PLAN", help="A plan (YAML), as prune --save-plan and the app write it.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="The file to write: .html with pictures, or .md.")],
    model: Annotated[
        str | None, typer.Option("--model", help="The plan's checkpoint, if the plan's own record of it does not find it.")
    ] = None,
    data: Data = None,
    images: Annotated[int, typer.Option("--images", min=0, help="Show this many validation images with their detections.")] = 6,
    validation_images: Annotated[int, typer.Option("--validation-images", min=1, help="Validate on this many images.")] = 64,
    latency: Annotated[bool, typer.Option("--latency", help="Time both models in turns on this machine, block by block.")] = False,
    recovered: Annotated[
        Path | None, typer.Option("--recovered", metavar="FILE", help="Also measure the plan's model after refit or training: this file.")
    ] = None,
    redact: Annotated[bool, typer.Option("--redact", help="Use neutral names for files and classes.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace an existing file.")] = False,
    imgsz: ImageSize = None,
    device: Device = "",
    classes: Classes = None,
    as_json: Json = False,
) -> int:
    """A self-contained report on a plan: sizes, proofs, groups; with --data also accuracy and detections before and after."""
    with reserved_stdout(as_json) as results:
        from tui_pruner.cli.job_runs import CalibrationData
        from tui_pruner.cli.session import open_session, remark
        from tui_pruner.core.pruning.plan import read_plan
        from tui_pruner.jobs.report import check_report_output, make_report
        from tui_pruner.jobs.report_figures import ReportMaterial
        from tui_pruner.report.sections import FORMATS

        check_report_output(output, tuple(FORMATS), force)
        if recovered and data is None:
            raise RequestError("--recovered measures the file: give --data DATA.yaml too")
        found = read_plan(plan)
        if found.kept:
            raise PlanError(f"{plan} is for the module {found.checkpoint}: a report is on a plan for a checkpoint of Ultralytics")
        if not found.steps:
            raise PlanError(f"{plan} has no step, so there is nothing to report: apply one first")
        session = open_session(model or checkpoint_of(plan, found), imgsz, classes, plan, data=CalibrationData(data, device=device))
        remark(session)
        wanted = ReportMaterial(
            plan, output, data, validation_images, images, imgsz, device, classes, model, latency, redact=redact, recovered=recovered
        )
        facts = make_report(session, wanted, write_progress)
        conclude(results, facts, output)
        return 0 if facts.proved else 1


def checkpoint_of(file: Path, plan: Plan) -> str:
    """The path of a plan's checkpoint: by its hint, beside the plan, or here; its SHA-256 decides. An architecture needs no file.

    Raises:
        PlanError: it was not found.
    """
    from tui_pruner.storage.trust import fingerprint

    if Path(plan.checkpoint).suffix.lower() in YAML_SUFFIXES:
        return plan.checkpoint
    names = dict.fromkeys(filter(None, (plan.path, plan.checkpoint)))
    looked = []
    for place in dict.fromkeys(place for name in names for place in (file.parent / name, Path(name))):
        if not place.is_file():
            looked.append(f"{place} (no such file)")
        elif fingerprint(place) == plan.sha256:
            return str(place)
        else:
            looked.append(f"{place} (another file)")
    wanted = f"the checkpoint {plan.checkpoint} ({plan.sha256[:12]})"
    raise PlanError(f"{wanted} was not found, looked at {', '.join(looked)}: say where it is with --model PATH")


def conclude(results: Output, facts: Facts, output: Path) -> None:
    """Show the facts, in short or as data."""
    results.document({"output": str(output), "bytes": output.stat().st_size, "proved": facts.proved, **facts.model_dump()})
    results.line(f"parameters {change(facts.before.parameters, facts.after.parameters)}")
    results.line(f"FLOPs      {change(facts.before.flops, facts.after.flops)}")
    for step in facts.steps:
        proof = step.proof
        verdict = "not proved" if proof is None else "proved" if proof.equal else f"{proof.verdict.upper()}, {proof.reason}"
        results.line(f"step {step.number}     {verdict}: {step.title}")
    results.line(f"written    {output}  {output.stat().st_size / 1e3:.0f} kB")
