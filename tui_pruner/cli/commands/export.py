"""`export`: another format, exported by Ultralytics and compared with the model."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tui_pruner.cli.options import Data, Device, ImageSize, Json
from tui_pruner.cli.output import Output, reserved_stdout, say, write_progress

if TYPE_CHECKING:
    from tui_pruner.engine.job_messages import ExportResult


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
        for note in result.notes:
            say(note)
        results.document(result.model_dump())
        show(results, result, format)
        return 1 if result.equal is False else 0


def show(results: Output, result: ExportResult, file_format: str) -> None:
    """Show the export and its comparison."""
    if result.relative_difference is not None:
        kind = "drawn images" if result.drawn else "validation images"
        verdict = "equal     " if result.equal else "NOT EQUAL "
        results.line(f"{verdict} relative difference {result.relative_difference:.1e} on {result.images} {kind}")
    if result.output is None:
        results.line(f"not written: the {file_format} file's outputs differ from those of the PyTorch model")
        return
    results.line(f"written    {result.output}  {result.bytes / 1e6:.2f} MB (the checkpoint has {result.source_bytes / 1e6:.2f} MB)")
