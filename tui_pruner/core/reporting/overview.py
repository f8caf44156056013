"""What a reader looks for first: totals, accuracy, and the same images before and after."""

from __future__ import annotations

from pathlib import Path

from tui_pruner.core.reporting.document import Bar, Cell, Gallery, Pair, Paragraph, Section, Table, Tile, Tiles
from tui_pruner.core.reporting.facts import Facts, Material
from tui_pruner.core.reporting.figures import change, counted, moved, several, short, signed

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
    found = main_metric(facts)
    if found is not None:
        name, was, now, images = found
        tiles.append(Tile(label(name), moved(f"{was:.4f}", f"{now:.4f}"), f"quick validation on {several(images, 'image')}, not fine-tuned",
                          signed(now - was, 4), Bar(1.0, now / was) if was else None))  # fmt: skip
    kept = (
        f"Of {facts.model.classes} classes {len(facts.classes)} stay, in this order: {', '.join(facts.classes)}. "
        "Accuracy is measured on their labels alone, before and after."
    )
    return Section("In short", (Tiles(tuple(tiles)), *([Paragraph(kept)] if facts.classes else [])))


def size_tile(name: str, before: int, after: int, detail: str, unit: str = "") -> Tile:
    """A size before and after."""
    return Tile(
        name, moved(short(before, unit), short(after, unit)), detail, change(before, after), Bar(1.0, after / before if before else 0)
    )


def exact(before: int, after: int) -> str:
    """Both numbers in full."""
    return moved(f"{before:,}", f"{after:,}")


def main_metric(facts: Facts) -> tuple[str, float, float, int] | None:
    """The figure that people compare by: the task's own mAP, which Ultralytics lists last; otherwise the first."""
    if facts.metrics is None:
        return None
    before, after = facts.metrics.before.metrics, facts.metrics.after.metrics
    names = [name for name in before if name.startswith("metrics/")]
    name = next((name for name in reversed(names) if "mAP50-95" in name), names[0] if names else None)
    if name is None:
        return None
    return name, before[name], after[name], facts.metrics.after.images


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
        (Cell(label(name)), Cell(f"{was:.4f}"), Cell(f"{after.metrics[name]:.4f}"), Cell(signed(after.metrics[name] - was, 4)))
        for name, was in before.metrics.items()
        if name.startswith("metrics/")
    ]
    said = (
        f"Ultralytics' own validator on the same {several(after.images, 'image')} of {Path(facts.metrics.data).name}, chosen by a seed, at "
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
