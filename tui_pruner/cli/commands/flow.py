"""`flow`: where every block's channels come from."""

from __future__ import annotations

import dataclasses
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
from tui_pruner.cli.output import Output, reserved_stdout

if TYPE_CHECKING:
    from tui_pruner.core.model.block_flow import BlockFlow, ChannelOrigin


def flow(
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
) -> None:
    """Where every block's channels come from, with offsets, and why a width that differs from the block before is not a mismatch."""
    with reserved_stdout(as_json) as output:
        from tui_pruner.cli.job_runs import CalibrationData
        from tui_pruner.cli.session import open_session, remark, requests_from
        from tui_pruner.core.model.block_flow import block_flows

        asked = bool(cut or plan or keep_classes)
        requests = requests_from(cut, criterion, round_to, plan is not None, keep_classes) if asked else []
        calibration = CalibrationData(data, calibration_images, device)
        session = open_session(model, imgsz, classes, plan, requests, calibration, steps, from_mask=asked)
        if requests:
            session.apply(requests)
        remark(session, *(note for applied in session.steps for note in applied.notes))
        before = block_flows(session.analysis)
        after = block_flows(session.analysis, session.removal) if session.steps else before
        output.document({"blocks": [plain(now, was if asked else None) for now, was in zip(after, before, strict=True)]})
        show(output, after, before)


def plain(now: BlockFlow, was: BlockFlow | None) -> dict[str, Any]:
    """Return a block as plain data for scripts; `before`: its widths without the plan, if there is one."""
    return {**dataclasses.asdict(now), "before": {"reads": was.reads, "writes": was.writes} if was else None}


def show(output: Output, after: list[BlockFlow], before: list[BlockFlow]) -> None:
    """Show the table, and below it a sentence for each width that differs."""
    rows = [
        [
            f"{now.index} {now.type}",
            width(was.reads, now.reads),
            ", ".join(stretch(origin) for origin in now.origins),
            width(was.previous, now.previous),
            width(was.writes, now.writes),
        ]
        for now, was in zip(after, before, strict=True)
    ]
    output.table(["block", "reads", "written by", "block before writes", "writes"], rows, right=["reads", "block before writes", "writes"])
    different = [block for block in after if block.mismatch]
    if different:
        output.line()
        output.line("no mismatch, though the widths in a row differ:")
    for block in different:
        output.line(f"  block {block.index} {block.mismatch}")


def width(before: int, after: int) -> str:
    """Return a number of channels, before and after a cut where it changes."""
    return str(after) if before == after else f"{before} -> {after}"


def stretch(origin: ChannelOrigin) -> str:
    """Return a range of channels with the block and the layers that produce it: "0..511 9 (model.9.cv2)"."""
    layers = f" ({', '.join(origin.layers)})" if origin.layers else ""
    return f"{origin.offset}..{origin.offset + origin.channels - 1} {'image' if origin.index < 0 else origin.index}{layers}"
