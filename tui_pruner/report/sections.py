"""The sections of a report, in their order, and the text that they make together."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from tui_pruner.domain.formatting import large, moved, plural, relative_change
from tui_pruner.report.diagram_sections import trade, training
from tui_pruner.report.document import Attachment, Bar, Cell, Code, Document, Paragraph, Section, Table, Tile, Tiles, html, markdown
from tui_pruner.report.facts import Facts, Material
from tui_pruner.report.layer_sections import blocks, dropped, groups, layers, steps
from tui_pruner.report.measured_sections import latency, latency_tile, metric_tiles, metrics, pictures, sensitivity, stages
from tui_pruner.report.privacy import paths_of, without_folders


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
