"""Commands that give a pruned model its accuracy back: `recalibrate`, `finetune`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tui_pruner.cli.options import Data, Device, ImageSize, Json
from tui_pruner.cli.output import Output, reserved_stdout, say, tell_progress
from tui_pruner.errors import DataError

if TYPE_CHECKING:
    from tui_pruner.engine.protocol import WriteResult

Pruned = Annotated[str, typer.Argument(metavar="PRUNED", help="A file that this program wrote.")]
File = Annotated[Path, typer.Option("-o", "--output", help="The file to write.")]
Force = Annotated[bool, typer.Option("--force", help="Replace an existing file.")]


def recalibrate(
    pruned: Pruned,
    output: File,
    data: Data = None,
    images: Annotated[int, typer.Option("--images", min=1, help="Measure on this many images, chosen by a seed.")] = 256,
    force: Force = False,
    imgsz: ImageSize = None,
    device: Device = "",
    as_json: Json = False,
) -> None:
    """Measure the normalisation statistics again on unlabelled images (training, else validation); the weights stay."""
    with reserved_stdout(as_json) as results:
        from tui_pruner.core.checkpoint import open_model
        from tui_pruner.engine.job_messages import RecalibrationParameters
        from tui_pruner.jobs.recalibrate import run_recalibration

        checkpoint = open_model(pruned)
        parameters = RecalibrationParameters(
            checkpoint=pruned,
            sha256=checkpoint.sha256,
            data=needed(data),
            images=images,
            imgsz=imgsz or checkpoint.default_imgsz,
            device=device,
            output=str(output),
            force=force,
        )
        result = run_recalibration(parameters, tell_progress)
        for note in result.notes:
            say(note)
        results.document(result.model_dump())
        results.line(f"recalibrated {result.layers} layers on {result.images} images in {result.seconds:.1f} s")
        conclude(results, result)


def needed(data: Path | None) -> str:
    """The data set that was given.

    Raises:
        DataError: none.
    """
    if data is None:
        raise DataError("which data set? give --data DATA.yaml, the yaml that the model was trained with")
    return str(data)


def conclude(results: Output, written: WriteResult) -> None:
    """The file and its checks, for people."""
    for check in written.checks:
        results.line(f"checked    {check.name}{': ' + check.detail if check.detail else ''}")
    results.line(f"written    {written.output}  {written.bytes / 1e6:.2f} MB  sha256 {written.sha256[:12]}")
