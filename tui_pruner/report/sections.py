"""The sections that are drawn: accuracy over FLOPs, and the epochs of a training."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

from tui_pruner.domain.formatting import large, moved, plural, relative_change
from tui_pruner.domain.results import main_metric
from tui_pruner.engine.job_messages import StageFigures, ValidationResult
from tui_pruner.report.diagrams import ChartDot, Diagram, DotLine
from tui_pruner.report.document import Attachment, Bar, Cell, Code, Document, Paragraph, Section, Table, Tile, Tiles, html, markdown
from tui_pruner.report.facts import Facts, Material
from tui_pruner.report.layer_sections import blocks, dropped, groups, layers, steps
from tui_pruner.report.measured_sections import label, latency, latency_tile, metric_tiles, metrics, pictures, sensitivity, stages
from tui_pruner.report.privacy import paths_of, without_folders


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


def summary(material: Material) -> Section:
    """The figures that a reader looks for first."""
    facts = material.facts
    before, after = facts.before, facts.after
    tiles = [
        size_tile("Parameters", before.parameters, after.parameters, exact(before.parameters, after.parameters)),
        size_tile("FLOPs per image", before.flops, after.flops, f"at {facts.model.imgsz}×{facts.model.imgsz}, 2 per multiply-add"),
        size_tile("Weights in float16", before.bytes, after.bytes, exact(before.bytes, after.bytes), "B"),
    ]
    tiles += metric_tiles(facts)
    timed = latency_tile(facts)
    if timed is not None:
        tiles.append(timed)
    kept = (
        f"Of {facts.model.classes} classes {len(facts.classes)} stay, in this order: {', '.join(facts.classes)}. "
        "Accuracy is measured on their labels alone, before and after."
    )
    return Section("In short", (Tiles(tuple(tiles)), *([Paragraph(kept)] if facts.classes else [])))


def size_tile(name: str, before: int, after: int, detail: str, unit: str = "") -> Tile:
    """A size before and after."""
    return Tile(
        name,
        moved(large(before, unit), large(after, unit)),
        detail,
        relative_change(before, after),
        Bar(1.0, after / before if before else 0),
    )


def exact(before: int, after: int) -> str:
    """Both numbers in full."""
    return moved(f"{before:,}", f"{after:,}")


def notes(material: Material) -> Section | None:
    """What was adjusted, or is worth knowing of the checkpoint."""
    facts = material.facts
    return Section("Notes", tuple(Paragraph(note) for note in facts.notes)) if facts.notes else None


def reproduce(material: Material) -> Section:
    """The exact commands, the plan itself and the versions."""
    facts = material.facts
    known = {
        "checkpoint": f"{facts.model.path}, sha256 {facts.model.sha256}",
        "plan": f"{facts.plan}, {plural(len(facts.steps), 'step')}",
        **facts.versions,
    }
    table = Table(("what", "which"), tuple((Cell(name), Cell(value, code=True)) for name, value in known.items()))
    return Section("How to reproduce", (Code(tuple(facts.commands)), Attachment(Path(facts.plan).name, material.plan), table))


SECTIONS: tuple[Callable[[Material], Section | None], ...] = (
    summary, trade, stages, metrics, training, pictures, latency, steps, blocks, dropped, groups, layers, sensitivity, notes, reproduce,
)  # fmt: skip
MEASURED = "Every figure was measured or counted for this report."


def document(material: Material) -> Document:
    """The whole report; folders of this machine are not in it."""
    facts = material.facts
    model = facts.model
    classes = "1 class" if model.classes == 1 else f"{model.classes} classes"
    whole = Document(
        title=f"{Path(model.path).name} pruned",
        subtitle=f"{model.family} · {model.task} · {classes} · {model.imgsz} px",
        verdict=verdict(facts),
        mood="good" if facts.proved else "bad",
        sections=tuple(section for section in (make(material) for make in SECTIONS) if section is not None),
        footer=f"Written by tui-pruner {facts.versions['tui-pruner']} on {facts.created}. {MEASURED}",
    )
    return without_folders(whole, paths_of(facts))


def verdict(facts: Facts) -> str:
    """What the proofs say of the plan."""
    if facts.proved:
        return f"{plural(len(facts.steps), 'step')} proved equal to the masked twin"
    failed = [step for step in facts.steps if step.proof is None or not step.proof.equal]
    verdicts = {step.proof.verdict if step.proof else "not proved" for step in failed}
    words = "NOT EQUAL to the masked twin" if verdicts == {"not equal"} else "NOT PROVED equal to the masked twin"
    return f"{words} after step {', '.join(str(step.number) for step in failed)}"


FORMATS: dict[str, Callable[[Document], str]] = {".html": html, ".htm": html, ".md": markdown, ".markdown": markdown}


def written_as(suffix: str, material: Material) -> str:
    """The report's text in the form that a suffix stands for."""
    return FORMATS[suffix.lower()](document(material))
