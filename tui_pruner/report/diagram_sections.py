"""The sections that are drawn: accuracy over FLOPs, and the epochs of a training."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from tui_pruner.domain.results import main_metric
from tui_pruner.engine.job_messages import StageFigures, ValidationResult
from tui_pruner.report.diagrams import ChartDot, Diagram, DotLine
from tui_pruner.report.document import Paragraph, Section
from tui_pruner.report.facts import Facts, Material
from tui_pruner.report.measured_sections import label


def trade(material: Material) -> Section | None:
    """Accuracy over FLOPs: the original, every measured step, and the stages."""
    facts = material.facts
    name = main_name(facts)
    if name is None:
        return None
    steps = tuple(step_dots(facts, name))
    stages = tuple(ChartDot(s.flops, s.metrics[name], s.name, s.interval) for s in facts.stages if s.flops and name in s.metrics)
    lines = tuple(DotLine(*found) for found in (("steps of the plan", steps), ("stages", stages)) if len(found[1]) > 1)
    if not lines:
        return None
    said = (
        f"Up is better, left is cheaper. An upright line is a 95 % interval on other images of the same kind. {label(name)} is measured on "
        "the same images for every point."
    )
    return Section("Accuracy over FLOPs", (Paragraph(said), Diagram("GFLOPs per image", label(name), lines, "giga")))


def main_name(facts: Facts) -> str | None:
    """The metric that people compare by, of no matter what was validated."""
    measured = [facts.metrics.before.metrics] if facts.metrics else []
    return next((main[0] for found in (*measured, *(s.metrics for s in facts.stages)) if (main := main_metric(found))), None)


def step_dots(facts: Facts, name: str) -> Iterable[ChartDot]:
    """The original, and each step that was measured."""
    if facts.metrics is None:
        return
    yield dot(facts.before.flops, facts.metrics.before, name, "original")
    measured = dict(zip((step.number for step in facts.steps), facts.metrics.steps))
    if facts.steps:
        measured[facts.steps[-1].number] = facts.metrics.after
    for step in facts.steps:
        found = measured.get(step.number)
        if found is not None and name in found.metrics:
            yield dot(step.totals.flops, found, name, f"step {step.number}")


def dot(flops: int, found: ValidationResult, name: str, words: str) -> ChartDot:
    """A validated model."""
    return ChartDot(flops, found.metrics[name], words, found.interval)


def training(material: Material) -> Section | None:
    """The epochs of every stage that trained."""
    parts = [part for stage in material.facts.stages if len(stage.curve) > 1 for part in curves(stage)]
    return Section("Training", tuple(parts)) if parts else None


def curves(stage: StageFigures) -> Iterable[Paragraph | Diagram]:
    """The metric and the losses of each epoch."""
    main = main_metric(stage.curve[0])
    yield Paragraph(f"{stage.name}, {len(stage.curve)} epochs: the metric after each, and the sums of the losses.")
    if main is not None:
        name = main[0]
        yield Diagram("epoch", label(name), (DotLine("validation", tuple(epochs(stage, lambda row: row.get(name)))),))
    losses = (
        DotLine(words, tuple(epochs(stage, summed(prefix)))) for prefix, words in (("train/", "training loss"), ("val/", "validation loss"))
    )
    known = tuple(line for line in losses if line.dots)
    if known:
        yield Diagram("epoch", "loss", known)


def summed(prefix: str) -> Callable[[dict[str, float]], float | None]:
    """The sum of an epoch's losses of one kind; None where it has none."""

    def of(row: dict[str, float]) -> float | None:
        found = [value for name, value in row.items() if name.startswith(prefix) and name.endswith("loss")]
        return sum(found) if found else None

    return of


def epochs(stage: StageFigures, figure: Callable[[dict[str, float]], float | None]) -> Iterable[ChartDot]:
    """A figure by epoch."""
    for number, row in enumerate(stage.curve, start=1):
        value = figure(row)
        if value is not None:
            yield ChartDot(row.get("epoch", number), value)
