"""A compression as a job: every stage from the plan to the report, with the model's figures after each."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tui_pruner.domain.criteria import REPAIR
from tui_pruner.domain.errors import RequestError
from tui_pruner.domain.formatting import duration, plural, score
from tui_pruner.domain.results import main_metric, short_metric
from tui_pruner.tui.drawing import GLYPHS
from tui_pruner.tui.job_specs.job import DONE, RUNNING, WAITING, JobOutcome, JobSpec, QueuedJob

if TYPE_CHECKING:
    from tui_pruner.engine.messages import SessionView
    from tui_pruner.engine.recovery_messages import CompressParameters, CompressResult, CompressStage
    from tui_pruner.storage.model_file import ModuleNames
    from tui_pruner.tui.job_specs.job import OpenCheckpoint


KIND = "compress"
OFF, ON = "off", "on"
RECIPE_FILE = "recipe.yaml"
"""Name of the recipe's file in the folder of a compression."""


@dataclass(frozen=True)
class Item:
    """One stage of the recipe: its default line and its meaning."""

    stage: str
    value: str
    meaning: str


RECIPE = (
    Item("scan", OFF, "images a trial"),
    Item("target", "flops=60%", "what remains"),
    Item("refit", "64", "unlabelled images"),
    Item("fine-tune", OFF, "epochs"),
    Item("validate", ON, "after each stage"),
    Item("bench", "50", "latency samples"),
    Item("export", "onnx", "format"),
    Item("report", "report.html", "file"),
)
"""The stages in their order, as in `storage.recipe`: the cut is always proved, and everything is kept in one folder."""


def default_lines(criterion: str, round_to: int, module: ModuleNames | None = None) -> dict[str, str]:
    """The default recipe, with the criterion and the rounding of the session; for a module only the stages that it has functions for."""
    others = [*([f"criterion={criterion}"] if criterion != REPAIR else []), *([f"round-to={round_to}"] if round_to > 1 else [])]
    lines = {item.stage: " ".join([item.value, *(others if item.stage == "target" else [])]) for item in RECIPE}
    if module is None:
        return lines
    missing = [*([] if module.batches else ["refit"]), *([] if module.evaluate else ["validate"]), "export"]
    return {**lines, **dict.fromkeys(missing, OFF)}


def settings_of(stage: str) -> str:
    """All settings of a stage, with their defaults."""
    from pydantic_core import PydanticUndefined

    from tui_pruner.storage.recipe import STAGES, hyphenated, setting_words

    kind = STAGES[stage]
    words = [
        f"{hyphenated(name)}={'' if info.default is PydanticUndefined else setting_words(info.default)}"
        for name, info in kind.model_fields.items()
        if name != "remain"
    ]
    return f"{stage}: {' '.join(words)}; off leaves it out"


def parsed_recipe(lines: Mapping[str, str], steps: int) -> dict[str, str]:
    """The lines of a recipe in their short form; `steps`: the session's number of steps, which are the plan without a target.

    Raises:
        RequestError: a line that cannot be read; the message says what to write.
    """
    from tui_pruner.storage.recipe import recipe_from_lines

    recipe = recipe_from_lines(lines)
    found = {stage: recipe.line_of(stage) for stage in lines}
    if found["target"] == OFF and not steps:
        raise RequestError("target: write what shall be left, such as flops=60%, or apply a step first")
    return found


def _present(job: QueuedJob) -> str:
    """What a compression does now, the count first, since the rest may be cut: "3/6 flops-60: depth"."""
    progress = job.progress
    if progress is None:
        return ""
    return f"{progress.done}/{progress.total} {progress.doing}" if progress.total else progress.doing


def stage_states(job: QueuedJob) -> dict[str, tuple[str, str]]:
    """The state and the result of each stage of a compression; no state for a skipped stage."""
    here = job.progress.stage if job.progress is not None and not job.over else ""
    found = {}
    for stage, line in job.spec.recipe.items():
        came_to = job.stages.get(stage)
        if came_to:
            found[stage] = (DONE, came_to)
        elif stage == here and came_to is not None and job.state == RUNNING:
            found[stage] = (RUNNING, _present(job))
        elif came_to is not None and line != OFF and job.over:
            found[stage] = (job.state, "")
        else:
            found[stage] = ("", "left out") if line == OFF else (WAITING, line)
    return found


def compression(
    checkpoint: OpenCheckpoint, session: SessionView, lines: Mapping[str, str], folder: str, hand_over: Callable[[str], None]
) -> JobSpec:
    """The job of a recipe; the path of its result is passed to `hand_over`."""
    from tui_pruner.storage.yaml import everywhere

    plan, recipe = session.plan if session.steps else None, dict(lines)
    data = checkpoint.data or ""
    fields = {**checkpoint.fields, "data": data if checkpoint.opening.module else everywhere(data), "plan": plan, "folder": folder}

    def parameters() -> CompressParameters:
        from tui_pruner.engine.recovery_messages import CompressParameters
        from tui_pruner.storage.recipe import recipe_from_lines

        return CompressParameters(**{**fields, **recipe_from_lines(recipe).fields})

    async def take(content: dict[str, Any]) -> JobOutcome:
        from tui_pruner.engine.recovery_messages import CompressResult

        result = CompressResult.model_validate(content)
        if result.output:
            hand_over(result.output)
        details = [(stage.name, stage_words(stage, result.original)) for stage in result.stages]
        files = [("file", name) for name in (result.output, result.exported, result.report) if name]
        return JobOutcome(figure(result), [*files, *details], [*result.notes, *([result.stopped] if result.stopped else [])])

    title = f"{recipe['target'] if recipe['target'] != OFF else 'the plan'} {Path(folder).name}"
    return JobSpec(KIND, title, folder, parameters, take, fields["data"], recipe=recipe)


def edit(job: QueuedJob, lines: Mapping[str, str]) -> list[str]:
    """Change the lines of stages that have not started, in the folder's recipe too; return those that could not be changed any more.

    Raises:
        RequestError: the job is just starting, and has not written its recipe yet.
        OutputError: the folder's recipe cannot be written.
    """
    from tui_pruner.storage.recipe import recipe_from_lines, write_recipe

    file = Path(job.spec.key).expanduser() / RECIPE_FILE
    if job.parameters is not None and not file.exists():
        raise RequestError(f"{job.spec.name} is just starting: edit it in a moment")
    changed = {stage for stage, line in lines.items() if line != job.spec.recipe.get(stage)}
    late = [stage for stage in lines if stage in changed and stage in job.stages]
    job.spec.recipe.update({stage: lines[stage] for stage in changed if stage not in late})
    if job.parameters is not None:
        write_recipe(file, recipe_from_lines(job.spec.recipe))
    return late


def figure(result: CompressResult) -> str:
    """The result in one line."""
    if result.output is None:
        return f"nothing was good enough: {result.stopped}"
    share = f"{100 * result.flops['after'] / max(1, result.flops['before']):.1f} % of the FLOPs"
    metric, before = short_metric(result.metrics), short_metric(result.original)
    measured = [f"{metric[0]} {score(before[1])}{GLYPHS.arrow}{score(metric[1])}"] if metric and before else []
    return ", ".join([*measured, share, plural(len(result.stages), "stage")])


def stage_words(stage: CompressStage, original: Mapping[str, float]) -> str:
    """A stage in one line."""
    main = main_metric(original)
    metric = f"{score(stage.metrics[main[0]])}  " if main and main[0] in stage.metrics else ""
    done = "done before" if stage.kept else duration(stage.seconds)
    return f"{metric}{done}{'  ' + '; '.join(stage.details) if stage.details else ''}"
