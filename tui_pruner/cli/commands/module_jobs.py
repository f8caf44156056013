"""The commands that cut, measure, plan for and recover any module."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tui_pruner.cli.commands import plan as planning
from tui_pruner.cli.commands.module import announce, app, cut_requests, demand_ranking, on_module, opened
from tui_pruner.cli.commands.prune import verdict
from tui_pruner.cli.options import Cuts, Json, PlanFile, RoundTo
from tui_pruner.cli.output import change, progress_of, reserved_stdout, say, write_progress
from tui_pruner.domain.errors import RequestError
from tui_pruner.storage.model_file import CUTS, ModuleNames

__all__ = ["app"]

if TYPE_CHECKING:
    from tui_pruner.api.modules import ModuleSession
    from tui_pruner.core.pruning.plan import Plan
    from tui_pruner.engine.search_messages import PlanPoint
    from tui_pruner.frameworks.plain.named_module import NamedModule

Target = Annotated[str, typer.Argument(metavar="FOLDER", help="A folder that was written from the module.")]
Measured = Annotated[str | None, typer.Argument(metavar="[FOLDER]", help="A folder that was written from the module, in place of it.")]
Folder = Annotated[Path, typer.Option("-o", "--output", help="The folder to write.")]
Force = Annotated[bool, typer.Option("--force", help="Replace what is there.")]
Targets = Annotated[list[str] | None, typer.Option("--target", metavar="MEASURE=AMOUNT", help="Such as flops=50%; repeatable.")]
Ranked = Annotated[
    str | None, typer.Option("--criterion", help="Which channels go first; obs where plans are measured on batches, else l2.")
]


@on_module("batches", "evaluate", "loss")
def prune(
    names: ModuleNames,
    output: Folder,
    cut: Cuts = None,
    target: Targets = None,
    plan: PlanFile = None,
    criterion: Ranked = None,
    round_to: RoundTo = 1,
    force: Force = False,
    as_json: Json = False,
) -> int:
    """Prune, prove against the masked twin, and save a folder that is loaded into a freshly built module.

    With --batches a target is reached by plans that are cut, refitted and compared on them, and obs ranks channels; with --loss too, taylor
    and hessian do.
    """
    with reserved_stdout(as_json) as results:
        from tui_pruner.core.model.inputs import finite_batches
        from tui_pruner.frameworks.plain.module_file import check_folder, load_module, same_state
        from tui_pruner.frameworks.plain.named_module import NamedModule

        if not (cut or target or plan):
            raise RequestError("nothing to cut: give --cut LAYER=AMOUNT, --target flops=50% or --plan FILE")
        check_folder(output, force)
        place = Path.cwd() / output  # the code of the module may change the folder
        requests = cut_requests(cut, criterion or "l2", round_to, names)
        source, session = NamedModule(names), opened(names)
        source.check_deterministic(session.module.sha256)
        whole = session.size
        before = session.evaluate() if names.evaluate else None
        if plan:
            session.load(plan)
        if requests:
            score(session, source, criterion or "l2")
            session._steps.apply(requests)
        if target:
            batches = finite_batches(source.batches()) if names.batches else None
            session.target(*target, criterion=criterion, data=batches, images=sys.maxsize)
        after = session.evaluate() if names.evaluate else None  # before anything is written, as it may fail
        source.save(session._steps, session._steps.steps, str(place), force)
        proof, loads = session.prove(), same_state(load_module(place, source.built()), session.model())
        sizes: dict[str, Any] = {"before": dataclasses.asdict(whole), "after": dataclasses.asdict(session.size)}
        figures = {"evaluate": {"before": before, "after": after}} if names.evaluate else {}
        kept = {"kept": session.kept(), "proof": proof.plain(), "loads": loads, **figures, "notes": session.notes}
        results.document({"output": str(output), **sizes, **kept})
        results.line(f"parameters {change(whole.parameters, session.size.parameters)}")
        results.line(f"FLOPs      {change(whole.flops, session.size.flops)}")
        results.line(verdict(proof))
        if names.evaluate:
            results.line(f"evaluate   {before:.6g} -> {after:.6g}")
        where = "loaded again into a freshly built module" if loads else "WHICH DOES NOT LOAD AGAIN AS IT WAS"
        results.line(f"written    {output}, {where}")
        return 0 if loads else 3


def score(session: ModuleSession, source: NamedModule, criterion: str) -> None:
    """Compute the scores that a criterion needs, if any, on the module's batches."""
    from tui_pruner.domain.criteria import NEED_DATA
    from tui_pruner.jobs.any_module.stages import scored

    if criterion in NEED_DATA:
        steps = session._steps
        steps.analysis.ranking.calibrate(scored(source, steps, [criterion], None, progress_of("calibrate")))


def fields_of(names: ModuleNames, checkpoint: str | None = None) -> dict[str, Any]:
    """The parameters that all jobs on a module share; `checkpoint`: a folder that was written from it, in place of it."""
    return {"checkpoint": checkpoint or names.build, "sha256": "", "data": "", "images": None, "imgsz": 0, "module": names}


@on_module()
def prove(
    names: ModuleNames,
    pruned: Annotated[Path, typer.Argument(metavar="FOLDER", help="What `prune` wrote.")],
    as_json: Json = False,
) -> int:
    """Compare a saved module with the masked twin of the one that it was cut from, which needs the same weights."""
    with reserved_stdout(as_json) as results:
        from tui_pruner.core.pruning.proof import prove as compare
        from tui_pruner.core.pruning.surgery import cut
        from tui_pruner.frameworks.plain.module_file import PLAN, demand_unfitted, load_module, same_state
        from tui_pruner.frameworks.plain.named_module import NamedModule

        demand_unfitted(pruned)
        pruned = pruned.absolute()
        session = opened(names, pruned / PLAN)
        steps = session._steps
        small = load_module(pruned, NamedModule(names).built()).float()
        proof = compare(session.module.model, small, steps.analysis.coupling, steps.removal, original=steps.original())
        results.document(proof.plain())
        results.line(verdict(proof))
        if not proof.holds and not same_state(cut(session.module.model, steps.analysis.coupling, steps.removal), small):
            say(f"{names.build} has other weights than the module that was cut: have it load them, or give them with --weights")
        return 0 if proof.holds else 1


@on_module("evaluate")
def validate(
    names: ModuleNames,
    folder: Measured = None,
    plan: PlanFile = None,
    mask: Annotated[bool, typer.Option("--mask", help="With --plan: measure its channels at zero, all shapes kept.")] = False,
    as_json: Json = False,
) -> None:
    """Measure the module by --evaluate; under a plan, or as a folder has it, beside the module as it is built."""
    with reserved_stdout(as_json) as results:
        demand(names, "evaluate")
        if folder is not None and plan is not None:
            raise RequestError("a folder has a plan of its own: give a folder or --plan FILE")
        from tui_pruner.cli.commands.measure import show_metrics
        from tui_pruner.engine.job_messages import ValidationParameters
        from tui_pruner.jobs.any_module.figures import run_validation

        announce(names)
        content = settled(names, plan).plain() if plan else None
        found = run_validation(ValidationParameters(**fields_of(names, folder), plan=content, masked=mask), write_progress)
        other = bool(folder or content)
        baseline = run_validation(ValidationParameters(**fields_of(names)), write_progress) if other else None
        show_metrics(results, found, baseline, "sample")


def demand(names: ModuleNames, function: str) -> None:
    """Refuse a command whose function is not named.

    Raises:
        RequestError: it is not.
    """
    if not getattr(names, function):
        raise RequestError(f"this needs a function of yours: give --{function} package.module:{function}")


def settled(names: ModuleNames, plan: Path) -> Plan:
    """The plan in a file or in a folder that was written, with the channels that every step removes."""
    from tui_pruner.core.pruning.plan import read_plan

    found = read_plan(plan / CUTS if plan.is_dir() else plan)
    if any(step.unsettled for step in found.steps):
        found = opened(names, plan)._steps.plan
    return found


@on_module("batches", "evaluate", "loss")
def scan(
    names: ModuleNames,
    ratios: Annotated[str, typer.Option("--ratios", metavar="LIST", help="Shares of a group's channels to remove.")] = "10%,30%,50%",
    criterion: Annotated[str, typer.Option("--criterion", help="Which channels go first.")] = "l2",
    output: Annotated[Path | None, typer.Option("-o", "--output", metavar="FILE", help="Write all results: .csv, or else JSON.")] = None,
    force: Force = False,
    as_json: Json = False,
) -> None:
    """What every group's cut alone costs by --evaluate, with its linked parts."""
    with reserved_stdout(as_json) as results:
        from tui_pruner.cli.commands.scan import parse_ratios, say_remarks, show, write
        from tui_pruner.storage.atomic import check_place

        demand(names, "evaluate")
        demand_ranking(criterion, names)
        shares = parse_ratios(ratios)
        if output:
            check_place(output, f"the scan {output}", "scan.json", force)
        from tui_pruner.engine.search_messages import ScanParameters
        from tui_pruner.jobs.any_module.figures import run_scan

        announce(names)
        place = Path.cwd() / output if output else None
        found = run_scan(ScanParameters(**fields_of(names), ratios=shares, criterion=criterion), progress_of("scan"))
        say_remarks(found)
        if place:
            write(place, found)
        results.document({**found.model_dump(), "output": str(output) if output else None})
        show(results, found, "sample")
        if output:
            results.line(f"saved {output}")


@on_module()
def bench(
    names: ModuleNames,
    folders: Annotated[list[str] | None, typer.Argument(metavar="[FOLDER]...", help="Folders that were written from the module.")] = None,
    runs: Annotated[int, typer.Option("--runs", min=5, help="Samples of every model, taken in turns.")] = 50,
    blocks: Annotated[bool, typer.Option("--blocks", help="Time every block within the forward as well.")] = False,
    suggest: Annotated[bool, typer.Option("--suggest", help="Try widths around those of the layers that were cut.")] = False,
    as_json: Json = False,
) -> None:
    """Latency of the module on its inputs, and of folders beside it, in turns."""
    with reserved_stdout(as_json) as results:
        from tui_pruner.cli.commands.measure import show_latencies
        from tui_pruner.engine.search_messages import BenchParameters, ModelToTime
        from tui_pruner.jobs.any_module.figures import run_bench

        announce(names)
        models = [ModelToTime(checkpoint=one) for one in (names.build, *(folders or ()))]
        result = run_bench(BenchParameters(models=models, runs=runs, blocks=blocks, suggest=suggest, module=names), progress_of("bench"))
        results.result(result)
        show_latencies(results, result)


@on_module("batches", "evaluate", "loss")
def plan(
    names: ModuleNames,
    target: planning.Targets = None,
    output: Annotated[Path | None, typer.Option("-o", "--output", metavar="FILE|FOLDER", help="Where the plan or the front goes.")] = None,
    plan: PlanFile = None,
    criterion: Ranked = None,
    front: Annotated[str | None, typer.Option("--front", metavar="MEASURE=A,B,...", help="Several plans: flops=90%,70%,50%.")] = None,
    round_to: RoundTo = 1,
    floor: planning.Floor = 0.25,
    protect: planning.Protected = None,
    force: Force = False,
    as_json: Json = False,
) -> int:
    """The cuts that reach a target, as a plan; without a target the range that can be reached. Status 1 where it is out of reach.

    With --batches the damage of every layer is measured on them, whole plans (a uniform cut among them) are refitted and compared with the
    original's outputs; else by the importance of channels. With --front and --evaluate each refitted plan is measured.
    """
    with reserved_stdout(as_json) as results:
        from tui_pruner.cli.commands.plan_front import check_outputs, show_plans, targets_of_front

        points = [[*(target or ()), one] for one in targets_of_front(front)] if front else [target] if target else []
        check_outputs(points, bool(front), output, force)
        by_size = bool(names.batches) and not timed(points, bool(front))
        demand_ranking(criterion or "l2", names)
        from tui_pruner.core.search.ladders import Rules
        from tui_pruner.core.search.planner import Planner
        from tui_pruner.engine.search_messages import PlanningParameters
        from tui_pruner.jobs.any_module.stages import run_planning

        place = Path.cwd() / output if output else None
        session = opened(names, plan)
        steps = session._steps
        planner = Planner(steps.analysis, steps.removal, Rules(floor, round_to, tuple(protect or ())))
        if not points:
            planning.show_range(results, planner)
            return 0
        content = steps.plan.plain() if steps.steps else None
        asked = PlanningParameters(
            **fields_of(names), plan=content, points=points, criterion=criterion or ("obs" if by_size else "l2"), round_to=round_to,
            floor=floor, protect=protect or [], validated=None if front and names.evaluate else 0,
        )  # fmt: skip
        found = run_planning(asked, write_progress)
        files = [save(session, point, place, bool(front)) for point in found.points]
        planning_results = {"range": planning.bounds(planner.range), "images": found.images, "held_out": found.held_out}
        return show_plans(results, found, files, planning_results, planner, bool(front), str(output) if output else None)


def timed(points: list[list[str]], front: bool) -> bool:
    """Whether a latency is among the targets, which is found by timing plans.

    Raises:
        RequestError: a target cannot be read, or plans of a front were to be timed.
    """
    from tui_pruner.core.search.targets import latency_apart, parse_target

    found = any(latency_apart([parse_target(text) for text in texts])[1] is not None for texts in points)
    if found and front:
        raise RequestError("a front is of sizes: give one --target latency=70% in place of it, or flops, params and bytes")
    return found


def save(session: ModuleSession, point: PlanPoint, place: Path | None, front: bool) -> str | None:
    """Write the plan of a point, with the positions that every parameter keeps, where there is one and a place for it."""
    from tui_pruner.core.pruning.plan import parse_plan, save_plan
    from tui_pruner.jobs.plan import name_of

    if point.plan is None or place is None:
        return None
    file = place / f"{name_of(point.targets)}.yaml" if front else place
    file.parent.mkdir(parents=True, exist_ok=True)
    session.load(point.plan)
    save_plan(file, parse_plan(session.plan()))
    return str(file)


@on_module("batches")
def reconstruct(
    names: ModuleNames,
    pruned: Target,
    output: Folder,
    samples: Annotated[int | None, typer.Option("--images", "--samples", min=2, help="Refit on this many samples of the batches.")] = None,
    force: Force = False,
    as_json: Json = False,
) -> None:
    """Refit what the cuts changed, in closed form, on --batches, without labels; the candidate closest to the original is written."""
    with reserved_stdout(as_json) as results:
        from tui_pruner.cli.commands.recover import conclude, show_fits
        from tui_pruner.cli.job_runs import run_job
        from tui_pruner.engine.recovery_messages import ReconstructionParameters, ReconstructionResult
        from tui_pruner.frameworks.plain.module_file import check_folder

        demand(names, "batches")
        check_folder(output, force)
        announce(names)
        fields = {**fields_of(names, pruned), "images": samples, "output": str(output), "force": force}
        found = run_job("reconstruct", ReconstructionParameters(**fields), write_progress, ends_early=False)
        result = ReconstructionResult.model_validate(found)
        results.result(result)
        show_fits(results, result, "samples")
        conclude(results, result)


@on_module("evaluate", "train")
def finetune(
    names: ModuleNames,
    pruned: Target,
    output: Folder,
    force: Force = False,
    as_json: Json = False,
) -> None:
    """Train a folder's module by --train, its widths kept; by --evaluate the better of before and after is written."""
    with reserved_stdout(as_json) as results:
        from tui_pruner.cli.commands.recover import conclude
        from tui_pruner.cli.job_runs import run_job
        from tui_pruner.engine.recovery_messages import FinetuneParameters, FinetuneResult
        from tui_pruner.frameworks.plain.module_file import check_folder

        demand(names, "train")
        check_folder(output, force)
        announce(names)
        fields = {**fields_of(names, pruned), "epochs": 0, "output": str(output), "force": force}
        result = FinetuneResult.model_validate(run_job("finetune", FinetuneParameters(**fields), write_progress, ends_early=False))
        results.result(result)
        for name, value in result.metrics.items():
            before = result.metrics_before.get(name)
            results.line(f"{name}  {value:.6g}" + (f" (before {before:.6g})" if before is not None else ""))
        results.line(f"trained    in {result.seconds:.0f} s")
        conclude(results, result)
