"""The sections of a report, in their order, and the text that they make together."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

from tui_pruner.domain.formatting import counted, moved, plural, relative_change, short, signed_number
from tui_pruner.domain.results import main_metric
from tui_pruner.engine.search_messages import BenchedModel
from tui_pruner.report.document import (
    Attachment,
    Bar,
    Cell,
    Code,
    Document,
    Gallery,
    Mood,
    Pair,
    Paragraph,
    Section,
    Table,
    Tile,
    Tiles,
    html,
    markdown,
)
from tui_pruner.report.facts import Facts, Material, SensitivityFacts
from tui_pruner.report.layer_sections import blocks, dropped, groups, layers, steps

METRIC_NOISE = 0.005
"""A change of a metric below it says nothing."""
PARTS = {"(B)": " (box)", "(M)": " (mask)", "(P)": " (pose)"}


def summary(material: Material) -> Section:
    """The figures that a reader looks for first."""
    facts = material.facts
    before, after = facts.before, facts.after
    tiles = [
        size_tile("Parameters", before.parameters, after.parameters, exact(before.parameters, after.parameters)),
        size_tile("FLOPs per image", before.flops, after.flops, f"at {facts.model.imgsz}×{facts.model.imgsz}, 2 per multiply-add"),
        size_tile("Weights in float16", before.bytes, after.bytes, exact(before.bytes, after.bytes), "B"),
    ]
    found = headline_metric(facts)
    if found is not None:
        name, was, now, images = found
        tiles.append(Tile(label(name), moved(f"{was:.4f}", f"{now:.4f}"), f"quick validation on {plural(images, 'image')}, not fine-tuned",
                          signed_number(now - was, 4), Bar(1.0, now / was) if was else None, mood_of(was, now)))  # fmt: skip
    kept = (
        f"Of {facts.model.classes} classes {len(facts.classes)} stay, in this order: {', '.join(facts.classes)}. "
        "Accuracy is measured on their labels alone, before and after."
    )
    return Section("In short", (Tiles(tuple(tiles)), *([Paragraph(kept)] if facts.classes else [])))


def size_tile(name: str, before: int, after: int, detail: str, unit: str = "") -> Tile:
    """A size before and after."""
    return Tile(
        name,
        moved(short(before, unit), short(after, unit)),
        detail,
        relative_change(before, after),
        Bar(1.0, after / before if before else 0),
    )


def exact(before: int, after: int) -> str:
    """Both numbers in full."""
    return moved(f"{before:,}", f"{after:,}")


def headline_metric(facts: Facts) -> tuple[str, float, float, int] | None:
    """The figure that people compare by: the task's own mAP, which Ultralytics lists last; otherwise the first."""
    if facts.metrics is None:
        return None
    before, after = facts.metrics.before.metrics, facts.metrics.after.metrics
    names = [name for name in before if name.startswith("metrics/")]
    name = next((name for name in reversed(names) if "mAP50-95" in name), names[0] if names else None)
    if name is None:
        return None
    return name, before[name], after[name], facts.metrics.after.images


def mood_of(before: float, after: float) -> Mood:
    """A loss beyond noise is bad, no matter what else is better."""
    return "bad" if after < before - METRIC_NOISE else "plain"


def label(metric: str) -> str:
    """A metric of Ultralytics in words: "mAP50-95 (box)"."""
    name = metric.removeprefix("metrics/")
    return name[:-3] + PARTS[name[-3:]] if name[-3:] in PARTS else name


def metrics(material: Material) -> Section | None:
    """Both validations side by side."""
    facts = material.facts
    if facts.metrics is None:
        return None
    before, after = facts.metrics.before, facts.metrics.after
    rows = [
        (
            Cell(label(name)),
            Cell(f"{was:.4f}"),
            Cell(f"{after.metrics[name]:.4f}"),
            Cell(signed_number(after.metrics[name] - was, 4), mood_of(was, after.metrics[name])),
        )
        for name, was in before.metrics.items()
        if name.startswith("metrics/")
    ]
    said = (
        f"Ultralytics' own validator on the same {plural(after.images, 'image')} of {Path(facts.metrics.data).name}, chosen by a seed, at "
        f"{facts.metrics.imgsz} px. The pruned model has not been fine-tuned."
    )
    notes = [Paragraph(note) for note in dict.fromkeys((*before.notes, *after.notes))]
    table = Table(("metric", "before", "after", "change"), tuple(rows), right=("before", "after", "change"))
    return Section("Accuracy", (Paragraph(said), *notes, table))


def pictures(material: Material) -> Section | None:
    """The same images with what each model finds on them."""
    facts = material.facts
    if not facts.pictures:
        return None
    drawn = zip(facts.pictures, material.images, strict=True)
    pairs = tuple(Pair(found.image, *files, counted(found.before), counted(found.after)) for found, files in drawn)
    said = f"Predicted and drawn by Ultralytics, from confidence {facts.confidence:g} up; before on the left, after on the right."
    return Section("The same images before and after", (Paragraph(said), Gallery(pairs)))


MOST = 40
"""Rows: the groups that matter most."""


def stages(material: Material) -> Section | None:
    """What the model was after each stage of a compression."""
    found = material.facts.stages
    if not found:
        return None
    name = next((key for stage in found for key, _ in [main_metric(stage.metrics) or ("", 0.0)] if key), "")
    columns = ("stage", "FLOPs", "parameters", name.removeprefix("metrics/") or "metric", "")
    rows = tuple(
        (
            Cell(stage.name),
            Cell(f"{stage.flops:,}" if stage.flops else ""),
            Cell(f"{stage.parameters:,}" if stage.parameters else ""),
            Cell(f"{stage.metrics[name]:.4f}" if name in stage.metrics else ""),
            Cell("; ".join(stage.details)),
        )
        for stage in found
    )
    said = "Every stage from the original to the result, validated on the same images."
    return Section("Stages", (Paragraph(said), Table(columns, rows, columns[1:4])))


def latency(material: Material) -> Section | None:
    """Both models in turns, as a whole and block by block."""
    found = material.facts.latency
    if found is None:
        return None
    before, after = found.models
    said = (
        f"Timed in turns, {plural(before.runs, 'run')} each, {plural(before.batch, 'image')} of {before.imgsz} px on {before.device} with"
        f" {plural(before.threads, 'thread')}, fused as deployed, without NMS. The pruned model takes {after.ratio:.3f} of the original's"
        f" time ({after.ratio_low:.3f} to {after.ratio_high:.3f} with 95 % certainty): {after.verdict}."
    )
    whole = (Cell("whole network"), *times(before.median_ms, after.median_ms, before.median_ms))
    legend = "Each bar is the original's time, the darker part what the pruned model takes of it."
    columns = ("block", "ms before", "ms after")
    return Section("Latency", (Paragraph(said), Table(columns, (*block_rows(before, after), whole), columns[1:], True, legend)))


def block_rows(before: BenchedModel, after: BenchedModel) -> Iterable[tuple[Cell, ...]]:
    """Each block that both models have."""
    pruned = {block.name: block.median_ms for block in after.blocks}
    longest = max((block.median_ms for block in before.blocks), default=0.0)
    for block in before.blocks:
        if block.name in pruned:
            yield Cell(f"{block.name} {block.type}", code=True), *times(block.median_ms, pruned[block.name], longest)


def times(before: float, after: float, longest: float) -> tuple[Cell, Cell]:
    """Milliseconds before and after, with their bar."""
    lengths = Bar(before / longest, after / longest) if longest else None
    return Cell(f"{before:.3f}"), Cell(f"{after:.3f}", mood="bad" if after > 1.05 * before else "plain", bar=lengths)


def sensitivity(material: Material) -> Section | None:
    """What each group costs alone, the most sensitive first."""
    found = sorted(material.facts.sensitivity, key=lambda one: -worst(one))[:MOST]
    if not found:
        return None
    shares = sorted({share for one in found for share in one.drops})
    highest = max(worst(one) for one in found)
    columns = ("layer", *(f"{share:.0%} gone" for share in shares), "cut here")
    rows = tuple((Cell(one.layer, code=True), *drops(one, shares, highest), Cell(f"{one.taken:.0%}" if one.taken else "")) for one in found)
    said = "How far the metric fell in a scan with the weakest channels of one group gone and nothing else; the first layer stands for all."
    table = Table(columns, rows, columns[1:], legend="Each bar is the drop beside the largest one.")
    return Section("Sensitivity", (Paragraph(said), table))


def worst(one: SensitivityFacts) -> float:
    """The largest drop that was measured."""
    return max(one.drops.values(), default=0.0)


def drops(one: SensitivityFacts, shares: Iterable[float], highest: float) -> Iterable[Cell]:
    """A drop for each share; empty where it was not measured."""
    for share in shares:
        drop = one.drops.get(share)
        length = Bar(0.0, max(0.0, drop) / highest) if drop is not None and highest > 0 else None
        yield Cell("" if drop is None else signed_number(-drop, 4), bar=length)


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
    summary, stages, metrics, pictures, latency, steps, blocks, dropped, groups, layers, sensitivity, notes, reproduce,
)  # fmt: skip
MEASURED = "Every figure was measured or counted for this report."


def document(material: Material) -> Document:
    """The whole report."""
    facts = material.facts
    model = facts.model
    classes = "1 class" if model.classes == 1 else f"{model.classes} classes"
    return Document(
        title=f"{Path(model.path).name} pruned",
        subtitle=f"{model.family} · {model.task} · {classes} · {model.imgsz} px",
        verdict=verdict(facts),
        mood="good" if facts.proved else "bad",
        sections=tuple(section for section in (make(material) for make in SECTIONS) if section is not None),
        footer=f"Written by tui-pruner {facts.versions['tui-pruner']} on {facts.created}. {MEASURED}",
    )


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
