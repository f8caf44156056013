"""A refit as a job: a cut file's layers fitted to the original's outputs on unlabelled images, and the closest candidate written.

The masked-twin proof is of the cut, which a refit starts from; a refit is judged by its distance from the original's outputs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tui_pruner.tui.figures import arrow, distance, duration, file_size, plural
from tui_pruner.tui.queued_job import Outcome, Wanted

if TYPE_CHECKING:
    from tui_pruner.engine.job_messages import LayerFit, ReconstructionParameters, ReconstructionResult
    from tui_pruner.tui.subject import Source, Subject

KIND = "reconstruct"
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
    subject: Subject, source: Source, output: str, force: bool, hand_over: Callable[[ReconstructionResult], None], title: str = ""
) -> Wanted:
    """The job that refits a file of the session, or the opened file itself where it was pruned before.

    With a `title` only the distance is asked for: the file is removed again.
    """
    fields = {**subject.fields, "checkpoint": source.path, "sha256": source.sha256, "classes": None, "output": output, "force": force}
    original = subject.model.path if source.path != subject.model.path else None

    def parameters() -> ReconstructionParameters:
        from tui_pruner.engine.job_messages import ReconstructionParameters

        return ReconstructionParameters(**{**fields, "images": IMAGES}, original=original)

    async def take(content: dict[str, Any]) -> Outcome:
        from tui_pruner.engine.job_messages import ReconstructionResult

        result = ReconstructionResult.model_validate(content)
        hand_over(result)
        if title:
            Path(result.output).unlink(missing_ok=True)
        file = [] if title else [("file", result.output), ("size", file_size(result.bytes))]
        return Outcome(_figure(result), [*file, *_details(result)], result.notes)

    return Wanted(KIND, title or Path(output).name, output, parameters, take, fields["data"])


def moved(result: ReconstructionResult) -> tuple[float, float]:
    """The distance from the original's outputs as cut, and of what was kept."""
    return result.distance[CUT], result.distance[result.kept]


def _figure(result: ReconstructionResult) -> str:
    images = f"{plural(result.images, 'image')}, {duration(result.seconds)}"
    return f"{KEPT.get(result.kept, result.kept)}, distance {between(*moved(result))}, {images}"


def between(before: float, after: float) -> str:
    """Two distances, or one where nothing moved: 0.120→0.034."""
    return arrow(distance(before), distance(after))


def _details(result: ReconstructionResult) -> list[tuple[str, str]]:
    images = f"{result.images} to refit on, {result.held_out} others to judge by, no labels"
    candidates = [
        (distance(far), f"{KEPT[name] if name == 'both' else name}{', kept as the closest' if name == result.kept else ''}")
        for name, far in sorted(result.distance.items(), key=lambda pair: pair[1])
    ]
    return [
        ("images", images),
        ("proof", PROOF),
        ("distance", "from the original's outputs, of each candidate:"),
        *candidates,
        *_outputs(result.outputs, result.kept),
        ("layer error", "relative, before and after the refit, on images that were held out:"),
        *map(_fit, result.layers),
    ]


def _outputs(outputs: Mapping[str, Mapping[str, float]], kept: str) -> list[tuple[str, str]]:
    """The kept candidate's distance for each of the task's outputs, where there are several."""
    found = outputs.get(kept, {})
    return [("outputs", ", ".join(f"{name} {distance(far)}" for name, far in found.items()))] if len(found) > 1 else []


def _fit(fit: LayerFit) -> tuple[str, str]:
    left = ", left as cut" if fit.error_before == fit.error_after else ""
    return between(fit.error_before, fit.error_after), f"{fit.layer}{left}"
