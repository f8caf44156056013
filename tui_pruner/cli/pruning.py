"""Commands that make a smaller model and prove it: `prune`, `prove`."""

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
from tui_pruner.trust import short

if TYPE_CHECKING:
    from tui_pruner.core.proof import Proof
    from tui_pruner.core.session import Session


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
        from tui_pruner.cli.calibrating import CalibrationData
        from tui_pruner.cli.world import demand_cuts, may_have_plan, open_session, remark, requests_from
        from tui_pruner.core.checkpoint import check_output
        from tui_pruner.whole_file import check_place

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


def write_proved(results: Output, session: Session, output: Path, force: bool, save_plan: Path | None, mask: bool = False) -> int:
    """Prove a session's state and save it; a proof that fails is the ProofError that becomes status 1."""
    from tui_pruner.core.cut_prove_write import cut_prove_write
    from tui_pruner.core.plan import save_plan as write_plan
    from tui_pruner.core.removal import NOTHING

    made = cut_prove_write(session, output, mask=mask, force=force, on_progress=say)
    written, proof = made.file, made.proof
    if save_plan:
        write_plan(save_plan, session.plan)
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


def kept_indices(session: Session) -> dict[str, dict[str, list[int]]]:
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
        from tui_pruner.core.checkpoint import open_model
        from tui_pruner.core.proof import prove_file

        proof = prove_file(open_model(original, classes), open_model(pruned))
        results.document(proof.plain())
        results.line(verdict(proof))
        return 0 if proof.equal else 1


def verdict(proof: Proof) -> str:
    """A proof in one line."""
    if not proof.equal:
        return f"{proof.verdict.upper()}  {proof.reason}"
    figures = f"relative difference {proof.relative_difference:.1e} where the cut moves the predictions by {proof.effect:.1e}"
    return f"proved     equal to the masked twin: {figures}"
