"""The document that is made of a report's material: its sections in order, those without anything to say left out."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from tui_pruner.core.reporting.closing import notes, reproduce
from tui_pruner.core.reporting.document import Document, Section
from tui_pruner.core.reporting.facts import Facts, Material
from tui_pruner.core.reporting.figures import several
from tui_pruner.core.reporting.inside import blocks, dropped, groups, layers, steps
from tui_pruner.core.reporting.measured import latency, sensitivity, stages
from tui_pruner.core.reporting.overview import metrics, pictures, summary

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
        return f"{several(len(facts.steps), 'step')} proved equal to the masked twin"
    failed = [step for step in facts.steps if step.proof is None or not step.proof.equal]
    verdicts = {step.proof.verdict if step.proof else "not proved" for step in failed}
    words = "NOT EQUAL to the masked twin" if verdicts == {"not equal"} else "NOT PROVED equal to the masked twin"
    return f"{words} after step {', '.join(str(step.number) for step in failed)}"
