"""Commands that recover a pruned model's accuracy: `recalibrate`, `reconstruct`, `finetune`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tui_pruner.cli.job_runs import run_job
from tui_pruner.cli.options import Data, Device, ImageSize, Json, needed
from tui_pruner.cli.output import Output, reserved_stdout, write_progress
from tui_pruner.domain.errors import INTERRUPTED
from tui_pruner.storage.trust import short

if TYPE_CHECKING:
    from tui_pruner.engine.job_messages import JobProgress
    from tui_pruner.engine.messages import WriteResult
    from tui_pruner.engine.recovery_messages import ReconstructionResult

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
    """Re-estimate the normalisation statistics on unlabelled images (training, else validation); the weights stay."""
    with reserved_stdout(as_json) as results:
        from tui_pruner.engine.recovery_messages import RecalibrationParameters
        from tui_pruner.frameworks.ultralytics import open_model
        from tui_pruner.jobs.recover import run_recalibration

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
        result = run_recalibration(parameters, write_progress)
        results.result(result)
        results.line(f"recalibrated {result.layers} layers on {result.images} images in {result.seconds:.1f} s")
        conclude(results, result)


def reconstruct(
    pruned: Pruned,
    output: File,
    data: Data = None,
    images: Annotated[int, typer.Option("--images", min=1, help="Refit on this many images, chosen by a seed; no labels are read.")] = 64,
    original: Annotated[str | None, typer.Option("--original", metavar="MODEL", help="The checkpoint that PRUNED was cut from.")] = None,
    batch: Annotated[int, typer.Option("--batch", min=1, help="Images in a batch; halved where memory does not suffice.")] = 16,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Selects the images.")] = 0,
    force: Force = False,
    imgsz: ImageSize = None,
    device: Device = "",
    as_json: Json = False,
) -> None:
    """Refit what the cuts changed, in closed form, from unlabelled images (training, else validation); no training.

    Each layer is fitted to the original's outputs. The cut, recalibrated, refitted or refitted and recalibrated model is kept, by its
    distance from the original's outputs on images that were held out.
    """
    with reserved_stdout(as_json) as results:
        from tui_pruner.engine.recovery_messages import ReconstructionParameters, ReconstructionResult
        from tui_pruner.frameworks.ultralytics import check_output, open_model
        from tui_pruner.storage.yaml import everywhere

        check_output(output, pruned, force)
        checkpoint = open_model(pruned)
        parameters = ReconstructionParameters(
            checkpoint=pruned,
            sha256=checkpoint.sha256,
            data=everywhere(needed(data)),
            images=images,
            original=original,
            batch=batch,
            seed=seed,
            imgsz=imgsz or checkpoint.default_imgsz,
            device=device,
            output=str(output),
            force=force,
        )
        result = ReconstructionResult.model_validate(run_job("reconstruct", parameters, write_progress, ends_early=False))
        results.result(result)
        show_fits(results, result, "images")
        conclude(results, result)


def show_fits(results: Output, result: ReconstructionResult, counted: str) -> None:
    """Show each layer's fit, and how close the candidates are; `counted`: what inputs are called."""
    rows = [[fit.layer, f"{fit.error_before:.4f}", f"{fit.error_after:.4f}"] for fit in result.layers]
    results.table(["layer", "error before", "after"], rows, right=["error before", "after"])
    results.line(f"refitted {len(result.layers)} layers on {result.images} {counted} in {result.seconds:.1f} s")
    for name, value in sorted(result.distance.items(), key=lambda pair: pair[1]):
        results.line(f"distance   {value:.4f}  {name}{'  (kept)' if name == result.kept else ''}")


def finetune(
    pruned: Pruned,
    output: File,
    data: Data = None,
    epochs: Annotated[int, typer.Option("--epochs", min=1, help="Number of passes over the training images.")] = 10,
    teacher: Annotated[str | None, typer.Option("--teacher", metavar="ORIGINAL", help="Learn from this checkpoint's features too.")] = None,
    teacher_weight: Annotated[float, typer.Option("--teacher-weight", min=0, help="Weight of the teacher's term in the loss.")] = 0.05,
    sparsity: Annotated[float, typer.Option("--sparsity", min=0, help="Penalise normalisation scales before pruning: 0.001.")] = 0.0,
    batch: Annotated[int, typer.Option("--batch", min=1, help="Images in a batch; halved where memory does not suffice.")] = 16,
    lr0: Annotated[float | None, typer.Option("--lr0", min=0, help="Learning rate to begin with; by default Ultralytics' choice.")] = None,
    patience: Annotated[int, typer.Option("--patience", min=0, help="Stop after this many epochs without a better one; 0: never.")] = 0,
    freeze: Annotated[int, typer.Option("--freeze", min=0, help="Keep the first N blocks unchanged.")] = 0,
    resume: Annotated[bool, typer.Option("--resume", help="Resume this training where it was interrupted.")] = False,
    project: Annotated[Path | None, typer.Option("--project", metavar="FOLDER", help="Keep the run's files here.")] = None,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Seed of augmentation and order.")] = 0,
    force: Force = False,
    imgsz: ImageSize = None,
    device: Device = "",
    as_json: Json = False,
) -> int:
    """Train a pruned model with Ultralytics' trainer and keep its structure; Ctrl-C keeps the best epoch so far.

    Where no epoch is better than the file itself, its weights are kept: training never makes it worse.

    With --sparsity, models that are not cut yet can be trained too.
    """
    with reserved_stdout(as_json) as results:
        from tui_pruner.engine.recovery_messages import FinetuneParameters, FinetuneResult
        from tui_pruner.frameworks.ultralytics import check_output, open_model
        from tui_pruner.storage.yaml import everywhere

        check_output(output, pruned, force)
        checkpoint = open_model(pruned)
        parameters = FinetuneParameters(
            checkpoint=pruned,
            sha256=checkpoint.sha256,
            data=everywhere(needed(data)),
            images=None,
            epochs=epochs,
            batch=batch,
            lr0=lr0,
            patience=patience,
            freeze=freeze,
            teacher=teacher,
            teacher_weight=teacher_weight,
            sparsity=sparsity,
            project=str(project) if project else None,
            resume=resume,
            seed=seed,
            imgsz=imgsz or checkpoint.default_imgsz,
            device=device,
            output=str(output),
            force=force,
        )
        result = FinetuneResult.model_validate(run_job("finetune", parameters, write_training_progress))
        results.result(result)
        for name, value in result.metrics.items():
            results.line(f"{name}  {value:.4f}")
        took = f"in {result.seconds:.0f} s"
        kept = f"none of {result.epochs} epochs {took} was better than the file: its weights are kept"
        results.line(f"best epoch {result.best_epoch} of {result.epochs} {took}" if result.best_epoch else kept)
        conclude(results, result)
        return INTERRUPTED if result.stopped else 0


def write_training_progress(progress: JobProgress) -> None:
    """Write a training's progress to stderr, with its losses and metrics."""
    figures = ", ".join(f"{name.rpartition('/')[2]} {value:.4g}" for name, value in progress.metrics.items())
    write_progress(progress, figures)


def conclude(results: Output, written: WriteResult) -> None:
    """Show the file and its checks."""
    for check in written.checks:
        results.line(f"checked    {check.name}{': ' + check.detail if check.detail else ''}")
    results.line(f"written    {written.output}  {written.bytes / 1e6:.2f} MB  sha256 {written.sha256[:12]}")
    if written.own_names:
        results.line(f"trust      it takes what the original takes from your modules: open it with --trust {short(written.sha256)}")
