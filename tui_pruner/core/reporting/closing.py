"""What a reader needs to check the report: remarks, commands, the plan itself, versions."""

from __future__ import annotations

from pathlib import Path

from tui_pruner.core.reporting.document import Attachment, Cell, Code, Paragraph, Section, Table
from tui_pruner.core.reporting.facts import Material
from tui_pruner.core.reporting.figures import several


def notes(material: Material) -> Section | None:
    """What was adjusted, or is worth knowing of the checkpoint."""
    facts = material.facts
    return Section("Notes", tuple(Paragraph(note) for note in facts.notes)) if facts.notes else None


def reproduce(material: Material) -> Section:
    """The exact commands, the plan itself and the versions."""
    facts = material.facts
    known = {
        "checkpoint": f"{facts.model.path}, sha256 {facts.model.sha256}",
        "plan": f"{facts.plan}, {several(len(facts.steps), 'step')}",
        **facts.versions,
    }
    table = Table(("what", "which"), tuple((Cell(name), Cell(value, code=True)) for name, value in known.items()))
    return Section("How to reproduce", (Code(tuple(facts.commands)), Attachment(Path(facts.plan).name, material.plan), table))
