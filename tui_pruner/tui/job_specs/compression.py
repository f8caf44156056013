"""A compression as a job: every stage from the plan to the report, with what the model was after each."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tui_pruner.domain.formatting import duration, plural, score
from tui_pruner.domain.results import main_metric, short_metric
from tui_pruner.tui.job_specs.job import JobOutcome, JobSpec

if TYPE_CHECKING:
    from tui_pruner.engine.job_messages import CompressParameters, CompressResult, CompressStage
    from tui_pruner.engine.messages import SessionView
    from tui_pruner.tui.job_specs.job import OpenCheckpoint


KIND = "compress"


@dataclass(frozen=True)
class Item:
    """One stage in the recipe and what can be changed of it: `field` is by which name, `value` its default."""

    stage: str
    field: str
    label: str
    value: str
    hint: str = ""


RECIPE = (
    Item("plan", "targets", "what shall be left", "flops=60%", "flops=60%, latency=70%; several with spaces"),
    Item("refit", "images", "unlabelled images", "64"),
    Item("fine-tune", "epochs", "epochs", "0", "0: leave it out"),
    Item("validate", "max_drop", "largest drop", "", "such as 0.01; empty: any"),
    Item("bench", "bench", "samples", "50", "0: leave it out"),
    Item("export", "format", "format", "onnx", "empty: leave it out"),
    Item("report", "report", "file name", "report.html", "empty: leave it out"),
)
"""The stages in their order: the cut is proved, the refit follows, and each is validated where the data has labels."""


def understood(texts: Mapping[str, str]) -> dict[str, Any]:
    """What the fields of the recipe say, as the job takes it.

    Raises:
        ValueError: a field that cannot be read; the message says what to write.
    """
    found: dict[str, Any] = {"targets": texts["targets"].replace(",", " ").split()}
    if not found["targets"]:
        raise ValueError("what shall be left is empty: write a target such as flops=60%")
    for field in ("images", "epochs", "bench"):
        if not texts[field].isdecimal():
            raise ValueError(f"{field} is {texts[field]!r}: write a whole number")
        found[field] = int(texts[field])
    if found["images"] < 2:
        raise ValueError("a refit needs 2 images or more: some judge it")
    drop = texts["max_drop"].strip()
    try:
        found["max_drop"] = float(drop) if drop else None
    except ValueError:
        raise ValueError(f"the largest drop is {drop!r}: write a number such as 0.01, or nothing") from None
    return {**found, "format": texts["format"].strip(), "report": texts["report"].strip(), "folder": texts["folder"].strip()}


def compression(
    checkpoint: OpenCheckpoint,
    session: SessionView,
    wishes: Mapping[str, Any],
    criterion: str,
    round_to: int,
    hand_over: Callable[[str], None],
) -> JobSpec:
    """The job of a recipe; its file's place goes to `hand_over` once it is there."""
    from tui_pruner.storage.yaml import everywhere

    plan = session.plan if session.steps else None
    fields = {**checkpoint.fields, **wishes, "data": everywhere(checkpoint.data or "")}

    def parameters() -> CompressParameters:
        from tui_pruner.engine.job_messages import CompressParameters

        return CompressParameters(**fields, plan=plan, criterion=criterion, round_to=round_to)

    async def take(content: dict[str, Any]) -> JobOutcome:
        from tui_pruner.engine.job_messages import CompressResult

        result = CompressResult.model_validate(content)
        if result.output:
            hand_over(result.output)
        details = [(stage.name, stage_words(stage, result.original)) for stage in result.stages]
        files = [("file", name) for name in (result.output, result.exported, result.report) if name]
        return JobOutcome(figure(result), [*files, *details], [*result.notes, *([result.stopped] if result.stopped else [])])

    return JobSpec(KIND, f"{' '.join(wishes['targets'])} {Path(wishes['folder']).name}", wishes["folder"], parameters, take, fields["data"])


def figure(result: CompressResult) -> str:
    """What came out, in one line."""
    if result.output is None:
        return f"nothing was good enough: {result.stopped}"
    share = f"{100 * result.flops['after'] / max(1, result.flops['before']):.1f} % of the FLOPs"
    metric, before = short_metric(result.metrics), short_metric(result.original)
    measured = f", {metric[0]} {score(metric[1])} of {score(before[1])}" if metric and before else ""
    return f"{share}{measured}, {plural(len(result.stages), 'stage')}, {duration(result.seconds)}"


def stage_words(stage: CompressStage, original: Mapping[str, float]) -> str:
    """A stage in a line."""
    main = main_metric(original)
    metric = f"{score(stage.metrics[main[0]])}  " if main and main[0] in stage.metrics else ""
    done = "done before" if stage.kept else duration(stage.seconds)
    return f"{metric}{done}{'  ' + '; '.join(stage.details) if stage.details else ''}"
