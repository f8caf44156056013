"""Getting accuracy back as a job, on a file that this program wrote: a refit, normalisation measured again, or fine-tuning."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tui_pruner.metrics import short_metric
from tui_pruner.tui.figures import duration, file_size, plural, score
from tui_pruner.tui.queued_job import Outcome, Wanted
from tui_pruner.tui.refits import KIND as REFIT
from tui_pruner.tui.refits import refit
from tui_pruner.tui.validations import shown_metrics

if TYPE_CHECKING:
    from tui_pruner.engine.job_messages import FinetuneParameters, RecalibrationParameters, ReconstructionResult
    from tui_pruner.tui.subject import Source, Subject

RECALIBRATE, FINETUNE = "recalibrate", "finetune"


@dataclass(frozen=True)
class Recovery:
    """A way to get accuracy back, by a job of this kind; `taught`: the checkpoint that was opened is the teacher.

    `sparsity`: the penalty on normalisation scales.
    """

    name: str
    meaning: str
    kind: str = FINETUNE
    epochs: int = 0
    taught: bool = False
    sparsity: float = 0.0


SPARSITY = 0.001
RECOVERIES = (
    Recovery("refit", "reconstruction: layers fitted to the original's outputs, no labels", REFIT),
    Recovery("recalibrate", "normalisation measured again, no labels: seconds", RECALIBRATE),
    Recovery("3 epochs", "a short fine-tuning", epochs=3),
    Recovery("10 epochs", "fine-tuning by Ultralytics, the structure kept", epochs=10),
    Recovery("30 epochs", "a longer one", epochs=30),
    Recovery("10 epochs, taught", "with the opened checkpoint as teacher", epochs=10, taught=True),
    Recovery("10 epochs, sparse", "before cutting by bn-scale: scales that matter little go to zero", epochs=10, sparsity=SPARSITY),
)


def recovery(
    way: Recovery,
    subject: Subject,
    source: Source,
    output: str,
    force: bool,
    hand_over: Callable[[str], None],
    judged: Callable[[ReconstructionResult], None] = lambda result: None,
) -> Wanted:
    """The job that writes a recovered file; its place goes to `hand_over` once it is there, and what a refit came to goes to `judged`."""
    if way.kind == REFIT:

        def take_refit(result: ReconstructionResult) -> None:
            judged(result)
            hand_over(result.output)

        return refit(subject, source, output, force, take_refit)
    fields = {**subject.fields, "checkpoint": source.path, "sha256": source.sha256, "classes": None, "output": output, "force": force}
    teacher = subject.model.path if way.taught else None
    if way.kind == RECALIBRATE:
        return _recalibration(fields, hand_over)
    from tui_pruner.jobs.data_yaml import everywhere

    fields["data"] = everywhere(fields["data"])

    def parameters() -> FinetuneParameters:
        from tui_pruner.engine.job_messages import FinetuneParameters

        return FinetuneParameters(**{**fields, "images": None}, epochs=way.epochs, teacher=teacher, sparsity=way.sparsity)

    async def take(content: dict[str, Any]) -> Outcome:
        from tui_pruner.engine.job_messages import FinetuneResult

        result = FinetuneResult.model_validate(content)
        hand_over(result.output)
        found = short_metric(result.metrics)
        figure = f"{found[0]} {score(found[1])} on all validation images" if found else "no metric"
        early = ", stopped early" if result.stopped else ""
        best = f"epoch {result.best_epoch} of {result.epochs} was best" if result.best_epoch else "no epoch was better than the file"
        epochs = f"{best}{early}"
        curve = [(f"epoch {number}", _figures(epoch)) for number, epoch in enumerate(result.curve, start=1)]
        details = [("file", result.output), *shown_metrics(result.metrics), *curve]
        return Outcome(f"{figure}: {epochs}, {duration(result.seconds)}", details, result.notes)

    return Wanted(FINETUNE, Path(output).name, output, parameters, take, fields["data"], stops_early=True)


def _recalibration(fields: dict[str, Any], hand_over: Callable[[str], None]) -> Wanted:
    def parameters() -> RecalibrationParameters:
        from tui_pruner.engine.job_messages import RecalibrationParameters

        return RecalibrationParameters(**{**fields, "images": 256})

    async def take(content: dict[str, Any]) -> Outcome:
        from tui_pruner.engine.job_messages import RecalibrationResult

        result = RecalibrationResult.model_validate(content)
        hand_over(result.output)
        figure = f"{plural(result.layers, 'layer')} recalibrated on {plural(result.images, 'image')}, {duration(result.seconds)}"
        return Outcome(figure, [("file", result.output), ("size", file_size(result.bytes))], result.notes)

    return Wanted(RECALIBRATE, Path(fields["output"]).name, fields["output"], parameters, take, fields["data"])


def _figures(epoch: dict[str, float]) -> str:
    found = short_metric(epoch)
    losses = [f"{name.rpartition('/')[2]} {value:.3g}" for name, value in epoch.items() if name.startswith("train/")]
    return ", ".join([*([f"{found[0]} {score(found[1])}"] if found else []), *losses])
