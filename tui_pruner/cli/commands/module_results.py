"""The commands that decide on any module, and hand it over: `gate`, `compress`, `export`, `report`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tui_pruner.cli.commands.measure import Junit, Markdown, MaxLatency, Strict
from tui_pruner.cli.commands.module import announce, on_module, opened
from tui_pruner.cli.commands.module_jobs import Measured, Target, Targets, demand, fields_of, settled
from tui_pruner.cli.commands.plan import Floor, Protected
from tui_pruner.cli.commands.recover import write_training_progress
from tui_pruner.cli.options import Json, PlanFile, RoundTo
from tui_pruner.cli.output import reserved_stdout, write_progress
from tui_pruner.domain.criteria import demand_criterion
from tui_pruner.domain.errors import OutputError, PlanError, RequestError
from tui_pruner.storage.model_file import ModuleNames


@on_module("evaluate")
def gate(
    names: ModuleNames,
    pruned: Target,
    against: Annotated[
        str | None, typer.Option("--against", metavar="FOLDER", help="Compare with this folder, not the module as built.")
    ] = None,
    max_drop: Annotated[float, typer.Option("--max-drop", min=0, help="The allowed loss, in the unit of --evaluate's figure.")] = 0.01,
    max_latency: MaxLatency = None,
    strict: Strict = False,
    junit: Junit = None,
    markdown: Markdown = None,
    runs: Annotated[int, typer.Option("--runs", min=5, help="Latency: samples of each model, taken in turns.")] = 50,
    as_json: Json = False,
) -> int:
    """May FOLDER be merged, by --evaluate? Status 0 yes, 1 no; with a figure for each sample: no where the loss is more than chance."""
    with reserved_stdout(as_json) as output:
        from tui_pruner.cli.commands.measure import decided
        from tui_pruner.engine.search_messages import GateParameters
        from tui_pruner.jobs.any_module.figures import run_gate
        from tui_pruner.storage.atomic import check_place

        demand(names, "evaluate")
        for place, example in ((junit, "gate.xml"), (markdown, "gate.md")):
            if place is not None:
                check_place(place, f"the report {place}", example, force=True)
        announce(names)
        parameters = GateParameters(
            **fields_of(names, pruned), against=against or names.build, max_drop=max_drop, max_latency=max_latency, strict=strict, runs=runs
        )
        return decided(output, run_gate(parameters, write_progress), junit, markdown)


@on_module("batches", "evaluate", "loss", "train")
def compress(
    context: typer.Context,
    names: ModuleNames,
    output: Annotated[Path | None, typer.Option("-o", "--output", metavar="FOLDER", help="Where everything is written.")] = None,
    recipe: Annotated[Path | None, typer.Option("--recipe", metavar="FILE", help="Stages and settings from this file (YAML).")] = None,
    write_recipe: Annotated[
        Path | None, typer.Option("--write-recipe", metavar="FILE", help="Write these options as such a file, and do nothing else.")
    ] = None,
    target: Targets = None,
    max_drop: Annotated[
        float | None, typer.Option("--max-drop", min=0, help="Stop at the last point that loses no more by --evaluate.")
    ] = None,
    step: Annotated[int, typer.Option("--step", min=1, max=100, help="With --max-drop: how far apart these points are, in per cent.")] = 10,
    scan_images: Annotated[int, typer.Option("--scan", min=0, max=1, help="1: scan every group by --evaluate first, for the report.")] = 0,
    refit: Annotated[bool, typer.Option("--refit/--no-refit", help="Whether layers are refitted on --batches after the cut.")] = True,
    plan: PlanFile = None,
    criterion: Annotated[str, typer.Option("--criterion", help="Which channels go first; obs takes --batches, else it is l2.")] = "obs",
    round_to: RoundTo = 1,
    floor: Floor = 0.25,
    protect: Protected = None,
    images: Annotated[int | None, typer.Option("--images", min=2, help="Use this many samples of the batches; by default all.")] = None,
    format: Annotated[str, typer.Option("--format", help="Export to onnx or pt2; none: no export.")] = "none",
    runs: Annotated[int, typer.Option("--runs", min=0, help="Samples of both models' latency; 0: not timed.")] = 50,
    report: Annotated[
        str, typer.Option("--report", metavar="NAME", help="Name of the report, .html or .md; none: no report.")
    ] = "report.html",
    redact: Annotated[bool, typer.Option("--redact", help="Neutral names in the report.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Use a folder that has other files.")] = False,
    as_json: Json = False,
) -> int:
    """Plan, cut, prove, refit, train, measure, time, export and report; the same command resumes an interrupted run.

    Status 1 where the target is out of reach, or every point loses more than --max-drop.
    """
    with reserved_stdout(as_json) as results:
        from tui_pruner.cli.commands import compress as compressing

        given, _ = compressing.asked_for(context, recipe, None)
        fields = {"epochs": int(bool(names.train)), **given}
        demand_criterion(fields["criterion"])
        if write_recipe:
            return compressing.written(fields, None, write_recipe, force, "--model BUILD --inputs INPUTS")
        if output is None:
            raise OutputError("which folder? give -o FOLDER")
        if not (fields["targets"] or plan):
            raise RequestError("no target: give one, such as flops=60%")
        if max_drop is not None:
            demand(names, "evaluate")
        from tui_pruner.cli.job_runs import run_job
        from tui_pruner.engine.recovery_messages import CompressParameters, CompressResult
        from tui_pruner.jobs.plan import milestones

        if fields["targets"]:
            milestones(fields["targets"], fields["step"] if fields["max_drop"] is not None else None)
        announce(names)
        content = settled(names, plan).plain() if plan else None
        place = {"plan": content, "folder": str(output), "force": force}
        parameters = CompressParameters(**{**fields_of(names), **fields, **place})
        result = CompressResult.model_validate(run_job("compress", parameters, write_training_progress, ends_early=False))
        results.result(result)
        compressing.show(results, result)
        return 0 if result.output else 1


@on_module()
def export(
    names: ModuleNames,
    folder: Measured = None,
    format: Annotated[str, typer.Option("--format", help="onnx, or pt2, a program of torch.export.")] = "onnx",
    output: Annotated[Path | None, typer.Option("-o", "--output", help="By default under the name of the folder or module, here.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace an existing export.")] = False,
    as_json: Json = False,
) -> int:
    """Export the module, or a folder's, for inputs of the example's shapes; status 1, and no file, where its outputs differ."""
    with reserved_stdout(as_json) as results:
        from tui_pruner.cli.commands.export import show
        from tui_pruner.cli.job_runs import run_job
        from tui_pruner.engine.job_messages import ExportParameters, ExportResult

        announce(names)
        fields = {**fields_of(names, folder), "format": format, "output": str(output) if output else None, "force": force}
        result = ExportResult.model_validate(run_job("export", ExportParameters(**fields), write_progress, ends_early=False))
        results.result(result)
        show(results, result, format, "samples of --inputs", "module")
        return 1 if result.equal is False else 0


@on_module("evaluate")
def report(
    names: ModuleNames,
    plan: Annotated[Path, typer.Argument(metavar="PLAN|FOLDER", help="A plan (YAML), or a folder that was written from the module.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="The file to write: .html or .md.")],
    latency: Annotated[bool, typer.Option("--latency", help="Time both modules in turns on this machine, block by block.")] = False,
    recovered: Annotated[
        Path | None, typer.Option("--recovered", metavar="FOLDER", help="Also measure the plan's module after refit or training.")
    ] = None,
    redact: Annotated[bool, typer.Option("--redact", help="Use neutral names.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace an existing file.")] = False,
    as_json: Json = False,
) -> int:
    """A self-contained report on a plan: sizes, proofs, groups; with --evaluate also the metric before and after."""
    with reserved_stdout(as_json) as results:
        from tui_pruner.cli.commands.export import conclude
        from tui_pruner.frameworks.plain.module_file import PLAN, about_of, demand_saved
        from tui_pruner.jobs.report import check_report_output, make_report
        from tui_pruner.jobs.report_figures import ReportMaterial
        from tui_pruner.report.sections import FORMATS

        check_report_output(output, tuple(FORMATS), force)
        if plan.is_dir():
            demand_saved(plan)
            recovered = recovered or (plan if names.evaluate and about_of(plan).get("refit") not in (None, "cut") else None)
            plan = plan / PLAN
        if recovered:
            demand(names, "evaluate")
            demand_saved(recovered)
        place = Path.cwd() / output
        session = opened(names, plan)
        if not session._steps.steps:
            raise PlanError(f"{plan} has no step, so there is nothing to report: apply one first")
        wanted = ReportMaterial(plan, place, None, None, 0, None, "", None, None, latency, redact=redact, recovered=recovered, module=names)
        facts = make_report(session._steps, wanted, write_progress)
        conclude(results, facts, place)
        return 0 if facts.proved else 1
