"""Jobs that recover accuracy, on a file that this program wrote: a refit, re-estimated BatchNorm statistics, or fine-tuning."""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tui_pruner.domain.errors import RequestError
from tui_pruner.domain.formatting import distance, file_size, plural, score
from tui_pruner.domain.results import short_metric
from tui_pruner.tui.actions import key_of
from tui_pruner.tui.drawing import arrow
from tui_pruner.tui.job_specs.job import JobOutcome, JobSpec
from tui_pruner.tui.job_specs.measurement import shown_metrics

if TYPE_CHECKING:
    from tui_pruner.engine.recovery_messages import (
        FinetuneParameters,
        FinetuneResult,
        LayerFit,
        RecalibrationParameters,
        ReconstructionParameters,
        ReconstructionResult,
    )
    from tui_pruner.storage.model_file import ModuleNames
    from tui_pruner.tui.job_specs.job import ModelFile, OpenCheckpoint


REFIT = "reconstruct"
IMAGES = 64
CUT = "cut"
KEPT = {
    CUT: "kept as cut",
    "recalibrated": "recalibrated",
    "refitted": "refitted",
    "both": "refitted and recalibrated",
}
PROOF = "the masked twin proves the cut alone; the refit that follows is judged by its distance"


def refit(
    checkpoint: OpenCheckpoint,
    source: ModelFile,
    output: str,
    force: bool,
    hand_over: Callable[[ReconstructionResult], None],
    title: str = "",
    about: str = "",
) -> JobSpec:
    """The job that refits a file of the session, or the opened file itself where it was pruned before.

    With a `title` only the distance is wanted: the file is removed again. `about` distinguishes it from others of that title.
    """
    fields = {**checkpoint.fields, "checkpoint": source.path, "sha256": source.sha256, "classes": None, "output": output, "force": force}
    original = checkpoint.model.path if source.path != checkpoint.model.path else None

    def parameters() -> ReconstructionParameters:
        from tui_pruner.engine.recovery_messages import ReconstructionParameters

        return ReconstructionParameters(**{**fields, "images": checkpoint.counted(IMAGES)}, original=original)

    async def take(content: dict[str, Any]) -> JobOutcome:
        from tui_pruner.engine.recovery_messages import ReconstructionResult

        result = ReconstructionResult.model_validate(content)
        hand_over(result)
        if title:
            remove(Path(result.output))
        file = [] if title else [("file", result.output), ("size", file_size(result.bytes))]
        what, _, rest = _figure(result, checkpoint.sample).partition(", ")
        return JobOutcome(", ".join([what, *opens(bool(file)), rest]), [*file, *_details(result, checkpoint.sample)], result.notes)

    return JobSpec(REFIT, title or Path(output).name, output, parameters, take, fields["data"], about=about)


def remove(place: Path) -> None:
    """Delete a file, or the folder of a module, if it is there."""
    if place.is_dir():
        shutil.rmtree(place, ignore_errors=True)
    else:
        place.unlink(missing_ok=True)


def opens(written: bool = True) -> list[str]:
    """How the written file becomes the next stage."""
    return [f"{key_of('go-on')} opens it"] if written else []


def moved(result: ReconstructionResult) -> tuple[float, float]:
    """The distance from the original's outputs as cut, and of the candidate that was kept."""
    return result.distance[CUT], result.distance[result.kept]


def _figure(result: ReconstructionResult, sample: str) -> str:
    images = plural(result.images, sample)
    return f"{KEPT.get(result.kept, result.kept)}, distance {between(*moved(result))}, {images}"


def between(before: float, after: float) -> str:
    """Two distances, or one if they are equal: 0.120→0.034."""
    return arrow(distance(before), distance(after))


def _details(result: ReconstructionResult, sample: str) -> list[tuple[str, str]]:
    images = f"{result.images} to refit on, {result.held_out} others to judge by, no labels"
    candidates = [
        (distance(far), f"{KEPT[name] if name == 'both' else name}{', kept as the closest' if name == result.kept else ''}")
        for name, far in sorted(result.distance.items(), key=lambda pair: pair[1])
    ]
    return [
        (f"{sample}s", images),
        ("proof", PROOF),
        ("distance", "from the original's outputs, of each candidate:"),
        *candidates,
        *_outputs(result.outputs, result.kept),
        ("layer error", "relative, before and after the refit, on what was held out:"),
        *map(_fit, result.layers),
    ]


def _outputs(outputs: Mapping[str, Mapping[str, float]], kept: str) -> list[tuple[str, str]]:
    """The kept candidate's distance for each of the task's outputs, if there are several."""
    found = outputs.get(kept, {})
    return [("outputs", ", ".join(f"{name} {distance(far)}" for name, far in found.items()))] if len(found) > 1 else []


def _fit(fit: LayerFit) -> tuple[str, str]:
    left = ", left as cut" if fit.error_before == fit.error_after else ""
    return between(fit.error_before, fit.error_after), f"{fit.layer}{left}"


RECALIBRATE, FINETUNE = "recalibrate", "finetune"


@dataclass(frozen=True)
class Recovery:
    """A way to recover accuracy, by a job of this kind; `taught`: with the opened checkpoint as teacher.

    `sparsity`: the penalty on normalisation scales.
    """

    name: str
    meaning: str
    kind: str = FINETUNE
    epochs: int = 0
    taught: bool = False
    sparsity: float = 0.0
    lr0: float | None = None
    batch: int = 16
    patience: int = 0
    own: bool = False


SPARSITY = 0.001
RECOVERIES = (
    Recovery("refit", "reconstruction: layers fitted to the original's outputs, no labels", REFIT),
    Recovery("recalibrate", "BatchNorm statistics re-estimated, no labels: seconds", RECALIBRATE),
    Recovery("3 epochs", "a short fine-tuning", epochs=3),
    Recovery("10 epochs", "fine-tuning by Ultralytics, the structure kept", epochs=10),
    Recovery("30 epochs", "a longer one", epochs=30),
    Recovery("10 epochs + distillation", "with the opened checkpoint as teacher", epochs=10, taught=True),
    Recovery("your own", "epochs, learning rate, batch and patience as you type them", epochs=20, own=True),
)
TRAIN = Recovery("train", "by the module's own function, as long as that takes")
"""The fine-tuning of any module."""
SPARSE = Recovery("10 epochs, sparse", "before cutting by bn-scale: drives unimportant scales to zero", epochs=10, sparsity=SPARSITY)
OWN = "epochs=20 lr=0.001 batch=16 patience=5"
"""The syntax of the user's own fine-tuning settings; omitted ones are Ultralytics' defaults."""
FIELDS: Mapping[str, tuple[str, type[int] | type[float], float]] = {
    "epochs": ("epochs", int, 1),
    "lr": ("lr0", float, 0.0),
    "batch": ("batch", int, 1),
    "patience": ("patience", int, 0),
}
"""Each word with its field, its type, and its minimum."""


def ways_for(module: ModuleNames | None) -> Sequence[Recovery]:
    """The ways that there are for a checkpoint, or for a module with these functions."""
    if module is None:
        return RECOVERIES
    return [*(RECOVERIES[:1] if module.batches else ()), *([TRAIN] if module.train else ())]


def own_recovery(way: Recovery, text: str) -> Recovery:
    """The recovery with the user's settings.

    Raises:
        RequestError: an unknown word, or a value that is not a valid number.
    """
    found: dict[str, Any] = {}
    for word in text.replace(",", " ").split():
        name, _, value = word.partition("=")
        if name not in FIELDS:
            raise RequestError(f"cannot read {word!r}: write {', '.join(f'{known}=NUMBER' for known in FIELDS)}")
        field, kind, least = FIELDS[name]
        try:
            number = kind(value)
        except ValueError:
            raise RequestError(f"{word!r} has no {'whole ' if kind is int else ''}number") from None
        if not math.isfinite(number) or number < least or (kind is float and number <= 0):
            raise RequestError(f"{word!r} is too {'small' if number <= least else 'large'}")
        found[field] = number
    return replace(way, **found)


def recovery(
    way: Recovery,
    checkpoint: OpenCheckpoint,
    source: ModelFile,
    output: str,
    force: bool,
    hand_over: Callable[[str], None],
    judged: Callable[[ReconstructionResult], None] = lambda result: None,
) -> JobSpec:
    """The job that writes a recovered file; its path is passed to `hand_over`, and the result of a refit to `judged`."""
    if way.kind == REFIT:

        def take_refit(result: ReconstructionResult) -> None:
            judged(result)
            hand_over(result.output)

        return refit(checkpoint, source, output, force, take_refit)
    fields = {**checkpoint.fields, "checkpoint": source.path, "sha256": source.sha256, "classes": None, "output": output, "force": force}
    teacher = checkpoint.model.path if way.taught else None
    if way.kind == RECALIBRATE:
        return _recalibration(fields, hand_over)
    from tui_pruner.storage.yaml import everywhere

    fields["data"] = everywhere(fields["data"])

    def parameters() -> FinetuneParameters:
        from tui_pruner.engine.recovery_messages import FinetuneParameters

        return FinetuneParameters(
            **{**fields, "images": None},
            epochs=way.epochs,
            lr0=way.lr0,
            batch=way.batch,
            patience=way.patience,
            teacher=teacher,
            sparsity=way.sparsity,
        )

    async def take(content: dict[str, Any]) -> JobOutcome:
        from tui_pruner.engine.recovery_messages import FinetuneResult

        result = FinetuneResult.model_validate(content)
        hand_over(result.output)
        found = short_metric(result.metrics)
        where = " on all validation images" if result.epochs else ""
        figure = f"{found[0]} {score(found[1])}{where}" if found else "no metric"
        epochs = epochs_in_words(result)
        curve = [(f"epoch {number}", _figures(epoch)) for number, epoch in enumerate(result.curve, start=1)]
        details = [("file", result.output), *shown_metrics(result.metrics), *curve]
        return JobOutcome(", ".join([figure, *opens(), *epochs]), details, result.notes)

    return JobSpec(FINETUNE, Path(output).name, output, parameters, take, fields["data"], stops_early=fields["module"] is None)


def epochs_in_words(result: FinetuneResult) -> list[str]:
    """Which epoch was kept; nothing of a training by a function of the user's, whose epochs are not known."""
    if not result.epochs:
        return []
    best = f"epoch {result.best_epoch} of {result.epochs} was best" if result.best_epoch else "no epoch was better than the file"
    return [f"{best}{', stopped early' if result.stopped else ''}"]


def _recalibration(fields: dict[str, Any], hand_over: Callable[[str], None]) -> JobSpec:
    def parameters() -> RecalibrationParameters:
        from tui_pruner.engine.recovery_messages import RecalibrationParameters

        return RecalibrationParameters(**{**fields, "images": 256})

    async def take(content: dict[str, Any]) -> JobOutcome:
        from tui_pruner.engine.recovery_messages import RecalibrationResult

        result = RecalibrationResult.model_validate(content)
        hand_over(result.output)
        figure = f"{plural(result.layers, 'layer')} recalibrated on {plural(result.images, 'image')}, {opens()[0]}"
        return JobOutcome(figure, [("file", result.output), ("size", file_size(result.bytes))], result.notes)

    return JobSpec(RECALIBRATE, Path(fields["output"]).name, fields["output"], parameters, take, fields["data"])


def _figures(epoch: dict[str, float]) -> str:
    found = short_metric(epoch)
    losses = [f"{name.rpartition('/')[2]} {value:.3g}" for name, value in epoch.items() if name.startswith("train/")]
    return ", ".join([*([f"{found[0]} {score(found[1])}"] if found else []), *losses])
