"""The forms in which a report can be written, by the suffix of its file."""

from __future__ import annotations

from collections.abc import Callable

from tui_pruner.core.reporting.document import Document
from tui_pruner.core.reporting.facts import Material
from tui_pruner.core.reporting.html import html
from tui_pruner.core.reporting.markdown import markdown
from tui_pruner.core.reporting.sections import document

FORMATS: dict[str, Callable[[Document], str]] = {".html": html, ".htm": html, ".md": markdown, ".markdown": markdown}


def written_as(suffix: str, material: Material) -> str:
    """The report's text in the form that a suffix stands for."""
    return FORMATS[suffix.lower()](document(material))
