"""Commands for cuts: `prune` and `prove` make a smaller model, `steps` lists and edits the steps of a plan."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tui_pruner.cli.options import (
    CalibrationImages,
    Classes,
    Criterion,
    Cuts,
    Data,
    Device,
    ImageSize,
    Json,
    KeepClasses,
    Model,
    PlanFile,
    RoundTo,
    Steps,
)
from tui_pruner.cli.output import Output, change, reserved_stdout, say
from tui_pruner.domain.errors import RequestError
from tui_pruner.domain.formatting import large
from tui_pruner.storage.trust import short

if TYPE_CHECKING:
    from tui_pruner.core.pruning.proof import Proof
    from tui_pruner.core.pruning.session import PruningSession
    from tui_pruner.engine.messages import Comparison


def prune(
    model: Model,
    output: Annotated[Path, typer.Option("-o", "--output", help="The file to write.")],
    cut: Cuts = None,
    keep_classes: KeepClasses = None,
    plan: PlanFile = None,
    steps: Steps = None,
    criterion: Criterion = "l2",
    round_to: RoundTo = 1,
    mask: Annotated[
        bool,
        typer.Option("--mask", help="Set the channels to zero and keep all shapes; prune that file without --cut to remove them."),
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace an existing file.")] = False,
    save_plan: Annotated[Path | None, typer.Option("--save-plan", metavar="FILE", help="Write the plan as YAML too.")] = None,
    data: Data = None,
    calibration_images: CalibrationImages = 64,
    imgsz: ImageSize = None,
    device: Device = "",
    classes: Classes = None,
    as_json: Json = False,
) -> int:
    """Prune, prove against the masked twin, save, and verify the file in a clean process.

    With --mask the twin itself is saved: a soft pruning, to look at before any shape changes. A masked MODEL starts from its own plan:
    without --cut its masked channels are removed, if they are still zero. Training moves a dropped block's zeros, not those of channels.
    """
    with reserved_stdout(as_json) as results:
        from tui_pruner.cli.job_runs import CalibrationData
        from tui_pruner.cli.session import demand_cuts, may_have_plan, open_session, remark, requests_from
        from tui_pruner.frameworks.ultralytics import check_output
        from tui_pruner.storage.atomic import check_place

        requests = requests_from(cut, criterion, round_to, may_have_plan(model, plan), keep_classes)
        check_output(output, model, force)
        if save_plan:
            check_place(save_plan, f"the plan {save_plan}", "plan.yaml", force)
        calibration = CalibrationData(data, calibration_images, device)
        session = open_session(model, imgsz, classes, plan, requests, calibration, steps, writing=True, from_mask=True)
        demand_cuts(session, requests)
        if requests:
            session.apply(requests)
        remark(session, *(note for applied in session.steps for note in applied.notes))
        return write_proved(results, session, output, force, save_plan, mask)


def write_proved(results: Output, session: PruningSession, output: Path, force: bool, save_plan: Path | None, mask: bool = False) -> int:
    """Prove a session's state and save it; a failed proof raises ProofError, which becomes status 1."""
    from tui_pruner.core.pruning.plan import save_plan as write_plan
    from tui_pruner.core.pruning.removal import NOTHING
    from tui_pruner.frameworks.ultralytics.writing import cut_prove_write

    made = cut_prove_write(session, output, mask=mask, force=force, on_progress=say)
    written, proof = made.file, made.proof
    if save_plan:
        write_plan(save_plan, session.plan, session.analysis.checkpoint.path, typed=True)
    before, structural = session.arithmetic.widths(NOTHING).size, session.widths.size
    after = before if mask else structural
    indices = {"masked": made.masked, "structural": dataclasses.asdict(structural)} if mask else {"kept": kept_indices(session)}
    checks = [{"name": check.name, "ok": check.ok, "detail": check.detail} for check in written.checks]
    results.document(
        {
            "output": written.output,
            "sha256": written.sha256,
            "bytes": written.bytes,
            "before": dataclasses.asdict(before),
            "after": dataclasses.asdict(after),
            **indices,
            "dropped": sorted(session.removal.dropped),
            "proof": proof.plain(),
            "own_names": list(written.own_names),
            "reload": {"ok": all(check.ok for check in written.checks), "checks": checks},
            "notes": [note for applied in session.steps for note in applied.notes],
        }
    )
    results.line(f"parameters {change(before.parameters, structural.parameters)}{' once it is pruned' if mask else ''}")
    results.line(f"FLOPs      {change(before.flops, structural.flops)}{' once it is pruned' if mask else ''}")
    results.line(f"{verdict(proof)}")
    if mask:
        results.line("masked     the channels are zero, all shapes stay; prune this file without --cut to remove them")
    for check in written.checks:
        results.line(f"checked    {check.name}{': ' + check.detail if check.detail else ''}")
    results.line(f"written    {written.output}  {written.bytes / 1e6:.2f} MB  sha256 {written.sha256[:12]}")
    if written.own_names:
        results.line(f"trust      it takes what the original takes from your modules: open it with --trust {short(written.sha256)}")
    return 0


def kept_indices(session: PruningSession) -> dict[str, dict[str, list[int]]]:
    """The original indices that each cut parameter and buffer keeps, by dimension."""
    return session.removal.kept(session.analysis.coupling)


def prove(
    original: Annotated[str, typer.Argument(metavar="ORIGINAL", help="The checkpoint that was pruned.")],
    pruned: Annotated[str, typer.Argument(metavar="PRUNED", help="The file that this program wrote.")],
    imgsz: ImageSize = None,
    device: Device = "",
    classes: Classes = None,
    as_json: Json = False,
) -> int:
    """Compare a pruned file with the masked twin of its original, from the plan in the file."""
    with reserved_stdout(as_json) as results:
        from tui_pruner.core.pruning.proof import prove_file
        from tui_pruner.frameworks.ultralytics import open_model

        proof = prove_file(open_model(original, classes), open_model(pruned))
        results.document(proof.plain())
        results.line(verdict(proof))
        return 0 if proof.equal else 1


def verdict(proof: Proof) -> str:
    """A proof in one line."""
    if not proof.holds:
        return f"{proof.verdict.upper()}  {proof.reason}"
    if proof.checked:
        twin = "the masked twin" if proof.scaled == proof.approximate else "a masked twin with such normalisations"
        return f"checked    APPROXIMATE: {proof.reason} (relative difference {proof.relative_difference:.1e} from {twin})"
    figures = f"relative difference {proof.relative_difference:.1e} where the cut moves the predictions by {proof.effect:.1e}"
    return f"proved     equal to the masked twin: {figures}"


Ends = tuple[int, int]


def steps(
    model: Model,
    cut: Cuts = None,
    plan: PlanFile = None,
    steps: Steps = None,
    compare: Annotated[Ends | None, typer.Option("--compare", metavar="A B", help="Compare the states after these steps.")] = None,
    name: Annotated[list[str] | None, typer.Option("--name", metavar="N=WORDS", help="Name a step; repeatable.")] = None,
    save_plan: Annotated[Path | None, typer.Option("--save-plan", metavar="FILE", help="Write the plan as YAML.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace an existing file.")] = False,
    criterion: Criterion = "l2",
    round_to: RoundTo = 1,
    data: Data = None,
    imgsz: ImageSize = None,
    device: Device = "",
    classes: Classes = None,
    as_json: Json = False,
) -> int:
    """The steps of a plan with their sizes; --cut adds one, --compare compares two, --save-plan saves them. Nothing is proved."""
    with reserved_stdout(as_json) as results:
        from tui_pruner.cli.job_runs import CalibrationData
        from tui_pruner.cli.session import open_session, remark, requests_from
        from tui_pruner.core.pruning.plan import save_plan as write_plan
        from tui_pruner.engine.views import comparison_view, session_view
        from tui_pruner.storage.atomic import check_place

        requests = requests_from(cut, criterion, round_to, plan is not None)
        if save_plan:
            check_place(save_plan, f"the plan {save_plan}", "plan.yaml", force)
        session = open_session(model, imgsz, classes, plan, requests, CalibrationData(data, device=device), steps)
        if requests:
            session.apply(requests)
        for text in name or ():
            session.rename(*parse_name(text))
        remark(session, *(note for applied in session.steps for note in applied.notes))
        view = session_view(session)
        found = comparison_view(session, *compare) if compare else None
        results.document(
            {
                "original": view.original.model_dump(),
                "steps": [step.model_dump(exclude={"proof"}) for step in view.steps],
                "comparison": found.model_dump() if found else None,
                "plan": str(save_plan) if save_plan else None,
            }
        )
        rows = [["", "checkpoint", large(view.original.parameters), large(view.original.flops)]]
        rows += [[str(step.number), step.title, large(step.totals.parameters), large(step.totals.flops)] for step in view.steps]
        results.table(["step", "what", "parameters", "FLOPs"], rows, right=["parameters", "FLOPs"])
        if found:
            show_comparison(results, found)
        if save_plan:
            write_plan(save_plan, session.plan, session.analysis.checkpoint.path, typed=True)
            results.line(f"saved {save_plan}")
        return 0


def parse_name(text: str) -> tuple[int, str]:
    """Parse N=WORDS, the step and its name.

    Raises:
        RequestError: the text has another form.
    """
    number, equals, words = text.partition("=")
    if not equals or not number.strip().isdigit():
        raise RequestError(f"--name {text!r} is not N=WORDS, such as --name 2='second half'")
    return int(number), words


def show_comparison(results: Output, found: Comparison) -> None:
    """Two states for people."""
    results.line()
    results.line(f"step {found.first} -> step {found.second}")
    results.line(f"parameters {change(found.before.parameters, found.after.parameters)}")
    results.line(f"FLOPs      {change(found.before.flops, found.after.flops)}")
    rows = [[name, f"{w.in_before} -> {w.in_after}", f"{w.out_before} -> {w.out_after}"] for name, w in found.layers.items()]
    results.table(["layer", "in", "out"], rows)
