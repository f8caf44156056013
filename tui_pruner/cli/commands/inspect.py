"""Commands that only read: `inspect`, `contents`, `groups`, `explain`, `preview`, `coverage`."""

from __future__ import annotations

import dataclasses
from collections import Counter
from typing import TYPE_CHECKING, Annotated, Any

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
    layers_of,
)
from tui_pruner.cli.output import Output, change, reserved_stdout, shape
from tui_pruner.domain.formatting import large

if TYPE_CHECKING:
    from tui_pruner.core.model.analysis import Analysis
    from tui_pruner.domain.errors import CheckpointError
    from tui_pruner.engine.messages import BlockView, PreviewResult
    from tui_pruner.frameworks.ultralytics.security.archive import Contents


def inspect(model: Model, imgsz: ImageSize = None, device: Device = "", classes: Classes = None, as_json: Json = False) -> None:
    """The block tree: every layer with its channels, cost and status, and the inner blocks that can be dropped."""
    with reserved_stdout(as_json) as output:
        from tui_pruner.cli.session import open_session, remark
        from tui_pruner.core.pruning.masks import mask_of
        from tui_pruner.engine.views import block_views, model_info

        session = open_session(model, imgsz, classes)
        mask = mask_of(session.analysis.checkpoint.model, session.analysis.checkpoint.provenance)
        remark(session, shown=mask.in_words if mask and not as_json else "")
        info = model_info(session.analysis, session.arithmetic)
        blocks = block_views(session.analysis, session.arithmetic)
        about = {**info.model_dump(), "masked": mask.plain() if mask else None}
        output.document({"model": about, "blocks": [block.model_dump(by_alias=True) for block in blocks]})
        output.line(f"{info.path}  {info.family} {info.task}  {info.classes} classes  {info.imgsz} px  stride {info.stride}")
        output.line(f"{info.parameters:,} parameters  {large(info.flops)} FLOPs  sha256 {info.sha256[:12]}")
        if mask:
            output.line(mask.in_words)
        output.line(f"classes {', '.join(f'{number} {name}' for number, name in enumerate(info.names))}")
        output.line()
        show_blocks(output, blocks)


def show_blocks(output: Output, blocks: list[BlockView]) -> None:
    """The tree as a table."""
    rows: list[list[object]] = []
    for block in blocks:
        sources = "+".join(str(source) for source in block.from_)
        width = f"{block.in_channels} -> {block.out_channels}" if block.in_channels else ""
        rows.append(
            [
                f"{block.index} {block.type}{named(block)}",
                sources,
                width,
                shape(block.output_shape),
                f"{block.parameters:,}",
                large(block.flops),
                f"{block.section}{can_drop(block)}",
            ]
        )
        for layer in block.layers:
            status = f"{layer.status}{': ' + layer.reason if layer.reason else ''}"
            name = f"  {layer.name.removeprefix(block.name + '.')}  {layer.type}" if layer.name != block.name else f"  {layer.type}"
            rows.append([name, "", f"{layer.in_channels} -> {layer.out_channels}", "", f"{layer.parameters:,}", large(layer.flops), status])
    output.table(["layer", "from", "channels", "output", "parameters", "FLOPs", "status"], rows, right=["parameters", "FLOPs"])


def named(block: BlockView) -> str:
    """The path of a block whose number does not tell it, in parentheses: those of Ultralytics are model.N, those of a Sequential N."""
    return "" if block.name.rpartition(".")[2] == str(block.index) else f" ({block.name})"


def can_drop(block: BlockView) -> str:
    """The inner blocks that a block can do without, in a few words."""
    inner = [path.removeprefix(f"{block.name}.") for path in block.droppable]
    return f"; can drop {', '.join(inner)}" if inner else ""


def groups(model: Model, imgsz: ImageSize = None, device: Device = "", classes: Classes = None, as_json: Json = False) -> None:
    """The coupling map: which channels are removed together, and what is locked, with the reason."""
    with reserved_stdout(as_json) as output:
        from tui_pruner.cli.session import open_session, remark
        from tui_pruner.core.pruning.coverage import coupling_report

        session = open_session(model, imgsz, classes)
        remark(session)
        report = coupling_report(session.analysis)
        output.document(report)
        for group in report["groups"]:
            show_group(output, group)
        if report["droppable"]:
            output.line(f"can be dropped: {', '.join(found['block'] for found in report['droppable'])}")
        totals = report["convolutions"]
        output.line(
            ", ".join(f"{totals[key]} {key}" for key in ("free", "coupled", "linked", "locked")) + f" of {totals['total']} convolutions"
        )
        output.line(f"traced in {report['seconds'] * 1000:.0f} ms")


def show_group(output: Output, group: dict[str, Any]) -> None:
    """One group in two or three lines."""
    state = "" if group["prunable"] else f"  locked: {group['reason']}"
    linked = f"  as many as group {', '.join(str(n) for n in group['linked'])}" if group["linked"] else ""
    output.line(f"group {group['id']}  {group['channels']} channels{linked}{state}")
    for role, verb in (("out", "written by"), ("in", "read by")):
        layers = Counter(member["layer"] for member in group["members"] if member["role"] == role)
        if layers:
            output.line(f"    {verb} {', '.join(layers)}")


def preview(
    model: Model,
    cut: Cuts = None,
    keep_classes: KeepClasses = None,
    plan: PlanFile = None,
    steps: Steps = None,
    criterion: Criterion = "l2",
    round_to: RoundTo = 1,
    data: Data = None,
    calibration_images: CalibrationImages = 64,
    imgsz: ImageSize = None,
    device: Device = "",
    classes: Classes = None,
    as_json: Json = False,
) -> int:
    """What a plan would do: sizes and shapes before and after, checked by a dry run in PyTorch."""
    with reserved_stdout(as_json) as output:
        from tui_pruner.cli.job_runs import CalibrationData
        from tui_pruner.cli.session import demand_cuts, may_have_plan, open_session, remark, requests_from
        from tui_pruner.core.pruning.preview import dry_run
        from tui_pruner.engine.views import preview_view

        requests = requests_from(cut, criterion, round_to, may_have_plan(model, plan), keep_classes)
        calibration = CalibrationData(data, calibration_images, device)
        session = open_session(model, imgsz, classes, plan, requests, calibration, steps, from_mask=True)
        demand_cuts(session, requests)
        found = session.preview(requests)
        found.demand_possible()
        view = preview_view(session, requests, against_checkpoint=True)
        report = dry_run(session.analysis, session.removal.together(found.removal))
        dry = {"ok": report.ok, "seconds": report.seconds, "error": report.error}
        output.document({**view.model_dump(), "dry_run": dry})
        remark(session, *view.notes)
        show_preview(output, view)
        output.line(f"dry run {'ok' if report.ok else 'failed: ' + report.error}  {report.seconds * 1000:.0f} ms")
        return 1 if view.conflicts or not report.ok else 0


def show_preview(output: Output, view: PreviewResult) -> None:
    """Sizes, changed layers and blocks for people."""
    output.line(f"parameters {change(view.before.parameters, view.after.parameters)}")
    output.line(f"FLOPs      {change(view.before.flops, view.after.flops)}")
    rows = [
        [name, f"{w.in_before} -> {w.in_after}" if w.in_before != w.in_after else w.in_before,
         f"{w.out_before} -> {w.out_after}" if w.out_before != w.out_after else w.out_before, "asked" if w.asked else "also affected"]
        for name, w in view.layers.items()
    ]  # fmt: skip
    output.table(["layer", "in", "out", ""], rows)
    shapes = [[f"{b.index} {b.name}", shape(b.before), shape(b.after)] for b in view.blocks if b.before != b.after]
    output.table(["block", "before", "after"], shapes)
    for conflict in view.conflicts:
        output.line(f"conflict: {conflict.message}")


def contents(model: Model, imgsz: ImageSize = None, device: Device = "", as_json: Json = False) -> int:
    """The classes and functions that a .pt names, without loading it. Status 1: it can be loaded only if trusted, or not at all."""
    with reserved_stdout(as_json) as output:
        from pathlib import Path

        from tui_pruner.domain.errors import UntrustedError
        from tui_pruner.frameworks.ultralytics.reading import look_into
        from tui_pruner.frameworks.ultralytics.security.allowed_names import refusal_of
        from tui_pruner.storage.model_file import require_readable_file
        from tui_pruner.storage.trust import fingerprint, short

        file = Path(model).expanduser()
        require_readable_file(file)
        found, sha256 = look_into(file), fingerprint(file)
        refusal = refusal_of(file, file, found)
        output.document({"path": model, "sha256": sha256, **plain(found, refusal)})
        output.line(f"{model}  {large(found.bytes)} bytes in {found.members} members  sha256 {sha256}")
        for name in found.survey.names:
            output.line(f"  {name}")
        trust = f"; with --trust {short(sha256)} it is" if isinstance(refusal, UntrustedError) else ""
        output.line(f"{refusal}{trust}" if refusal else "it names and calls only what models of Ultralytics do")
        return 1 if refusal else 0


def plain(found: Contents, refusal: CheckpointError | None) -> dict[str, Any]:
    """The contents as plain data for scripts."""
    numbers: Counter[str] = Counter()
    for storage in found.survey.storages:
        numbers[storage.type] += storage.numbers
    return {
        "members": found.members,
        "bytes": found.bytes,
        "names": list(found.survey.names),
        "numbers": dict(numbers),
        "refusal": str(refusal) if refusal else None,
    }


def explain(
    model: Model,
    first: Annotated[str, typer.Argument(metavar="A", autocompletion=layers_of, help="A layer, a block number or a module path.")],
    second: Annotated[
        str | None, typer.Argument(metavar="[B]", autocompletion=layers_of, help="Another one: how do A's channels get there?")
    ] = None,
    imgsz: ImageSize = None,
    device: Device = "",
    classes: Classes = None,
    as_json: Json = False,
) -> int:
    """Why cutting A affects B, operation by operation; without B, everything that it affects. Status 1 if no path leads to B."""
    with reserved_stdout(as_json) as output:
        from tui_pruner.cli.session import open_session
        from tui_pruner.core.pruning.explain import explain as look_up

        found = look_up(open_session(model, imgsz, classes).analysis, first, second)
        output.document(dataclasses.asdict(found))
        if second is not None:
            output.line(found.summary if found.coupled else f"{first} and {second}: no channel path between them")
            if found.path:
                output.table(["at", "operation", "channels"], [[step.at, step.operation, step.detail] for step in found.path])
            output.line()
        output.line(f"cutting {first} touches" if found.touches else f"cutting {first} touches nothing else")
        if found.touches:
            output.table(["layer", "", "channels", "because"], [[t.layer, t.role, t.channels, t.because] for t in found.touches])
        return 0 if found.coupled or second is None else 1


Models = Annotated[list[str], typer.Argument(metavar="MODEL...", help="Checkpoints, or names of Ultralytics yamls.")]


Plans = Annotated[int, typer.Option("--plans", min=0, help="How many random plans that cut all groups at once are proved as well.")]


def coverage(
    models: Models, imgsz: ImageSize = None, device: Device = "", classes: Classes = None, plans: Plans = 3, as_json: Json = False
) -> int:
    """Cut every group of each model alone by a quarter, then all at once at random, and prove each cut; status 1 where one fails."""
    with reserved_stdout(as_json) as output:
        from tui_pruner.cli.session import open_session

        reports = []
        for model in models:
            reports.append(covered(model, open_session(model, imgsz, classes).analysis, plans))
            show(output, reports[-1])
        output.document({"models": reports})
        return 1 if any(report["failed"] or not all(plan["equal"] for plan in report["plans"]) for report in reports) else 0


def show(output: Output, report: dict[str, Any]) -> None:
    """The outcome of one model for people."""
    output.line(
        f"{report['model']}  {report['groups']} groups: {report['equal']} equal, {report['approximate']} approximate, "
        f"{report['failed']} failed, {sum(report['locked'].values())} locked; traced in {report['trace_seconds'] * 1000:.0f} ms"
    )
    for reason, number in report["locked"].items():
        output.line(f"    {number} locked: {reason}")
    for operation, number in report["unknown_operations"].items():
        output.line(f"    no rule for {operation} ({number} times)")
    for failure in report["failures"]:
        output.line(f"    FAILED {failure['layer']}: {failure['detail']}")
    for plan in report["plans"]:
        verdict = "proved" if plan["equal"] else "FAILED"
        output.line(f"    plan {plan['seed']}, {plan['cut']} groups at once: {verdict}, {plan['detail']}")


def covered(model: str, analysis: Analysis, plans: int = 3) -> dict[str, Any]:
    """The outcome of every group of one model, and of random plans that cut all of them."""
    from tui_pruner.core.pruning.coverage import Coverage, garbage_collection_paused

    coverage = Coverage(analysis)
    with garbage_collection_paused():
        trials, all_at_once = list(coverage.trials()), list(coverage.plans(plans))
    outcomes = Counter(trial.outcome for trial in trials)
    failures = [{"layer": trial.group.producers[0].axis.module, "detail": trial.detail} for trial in trials if trial.outcome == "failed"]
    return {
        "model": model,
        "groups": len(trials),
        **{outcome: outcomes[outcome] for outcome in ("equal", "approximate", "failed")},
        "locked": dict(Counter(trial.detail for trial in trials if trial.outcome == "locked")),
        "failures": failures,
        "plans": [
            {
                "seed": plan.seed,
                "cut": plan.cut,
                "whole": plan.whole,
                "equal": plan.outcome in ("equal", "approximate"),
                "detail": plan.detail,
            }
            for plan in all_at_once
        ],
        "unknown_operations": dict(analysis.coupling.unknown_operations),
        "trace_seconds": analysis.coupling.seconds,
    }
