"""Commands that only look: `inspect`, `groups`, `preview`."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

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
from tui_pruner.cli.output import Output, change, count, reserved_stdout, shape

if TYPE_CHECKING:
    from tui_pruner.engine.protocol import BlockView, PreviewResult


def inspect(model: Model, imgsz: ImageSize = None, device: Device = "", classes: Classes = None, as_json: Json = False) -> None:
    """The block tree: every layer with its channels, cost and status, and the inner blocks that can be dropped."""
    with reserved_stdout(as_json) as output:
        from tui_pruner.cli.world import open_session, remark
        from tui_pruner.core.checkpoint.masks import mask_of
        from tui_pruner.core.views import block_views, model_info

        session = open_session(model, imgsz, classes)
        mask = mask_of(session.analysis.checkpoint.model, session.analysis.checkpoint.provenance)
        remark(session, shown=mask.in_words if mask and not as_json else "")
        info = model_info(session.analysis, session.arithmetic)
        blocks = block_views(session.analysis, session.arithmetic)
        about = {**info.model_dump(), "masked": mask.plain() if mask else None}
        output.document({"model": about, "blocks": [block.model_dump(by_alias=True) for block in blocks]})
        output.line(f"{info.path}  {info.family} {info.task}  {info.classes} classes  {info.imgsz} px  stride {info.stride}")
        output.line(f"{info.parameters:,} parameters  {count(info.flops)} FLOPs  sha256 {info.sha256[:12]}")
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
        width = f"{block.in_channels} > {block.out_channels}"
        rows.append(
            [
                f"{block.index} {block.type}",
                sources,
                width,
                shape(block.output_shape),
                f"{block.parameters:,}",
                count(block.flops),
                f"{block.section}{can_drop(block)}",
            ]
        )
        for layer in block.layers:
            status = f"{layer.status}{': ' + layer.reason if layer.reason else ''}"
            name = f"  {layer.name.removeprefix(block.name + '.')}  {layer.type}" if layer.name != block.name else f"  {layer.type}"
            rows.append([name, "", f"{layer.in_channels} > {layer.out_channels}", "", f"{layer.parameters:,}", count(layer.flops), status])
    output.table(["layer", "from", "channels", "output", "parameters", "FLOPs", "status"], rows, right=["parameters", "FLOPs"])


def can_drop(block: BlockView) -> str:
    """The inner blocks that a block can do without, in a few words."""
    inner = [path.removeprefix(f"{block.name}.") for path in block.droppable]
    return f"; can drop {', '.join(inner)}" if inner else ""


def groups(model: Model, imgsz: ImageSize = None, device: Device = "", classes: Classes = None, as_json: Json = False) -> None:
    """The coupling map: which channels live and die together, and what is locked, with the reason."""
    with reserved_stdout(as_json) as output:
        from tui_pruner.cli.world import open_session, remark
        from tui_pruner.core.report import coupling_report

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
    """What a plan would do: sizes and shapes before and after, and PyTorch's dry run of them."""
    with reserved_stdout(as_json) as output:
        from tui_pruner.cli.calibrating import CalibrationData
        from tui_pruner.cli.world import demand_cuts, may_have_plan, open_session, remark, requests_from
        from tui_pruner.core.preview import dry_run
        from tui_pruner.core.views import preview_view

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
        [name, f"{w.in_before} > {w.in_after}" if w.in_before != w.in_after else w.in_before,
         f"{w.out_before} > {w.out_after}" if w.out_before != w.out_after else w.out_before, "asked" if w.asked else "goes along"]
        for name, w in view.layers.items()
    ]  # fmt: skip
    output.table(["layer", "in", "out", ""], rows)
    shapes = [[f"{b.index} {b.name}", shape(b.before), shape(b.after)] for b in view.blocks if b.before != b.after]
    output.table(["block", "before", "after"], shapes)
    for conflict in view.conflicts:
        output.line(f"conflict: {conflict.message}")
