"""No page contains a folder of the machine that it was made on, and `--redact` hides names."""

from __future__ import annotations

import base64
import dataclasses
import re
from pathlib import Path

import pytest

from tests.report.pages import PLAN, facts, measured, metrics, page, stage
from tui_pruner.engine.messages import CutRequest
from tui_pruner.jobs.report import commands, neutral
from tui_pruner.jobs.report_figures import ReportMaterial
from tui_pruner.report.document import Code, Document, Paragraph, Section
from tui_pruner.report.facts import Material, PictureFacts
from tui_pruner.report.privacy import NeutralNames, plan_under, without_folders
from tui_pruner.report.sections import written_as

NOTE = "the labels in /srv/private/my fruit/labels are those of fruit.yaml; medlar has none; see /srv/private/fruit.yaml"
WANTED = ReportMaterial(
    Path("/srv/private/plans/plan.yaml"), Path("/srv/private/out/fruit.html"), Path("/srv/private/fruit.yaml"),
    64, 6, None, "", None, "/srv/private/orchard.pt", redact=True,
)  # fmt: skip


def found() -> Material:
    given = facts(
        metrics=metrics(0.6, measured(0.5).model_copy(update={"notes": [NOTE]})),
        notes=[NOTE, "orchard-pruned.pt was there"],
        stages=[stage("cut", 0.5, details=["/srv/private/orchard-cut.pt"])],
        pictures=[PictureFacts(image="medlar7.jpg", before={"quince": 1}, after={"medlar": 2})],
        classes=["quince"],
    )
    asked = [CutRequest(layer="classes", amount="keep:quince")]
    steps = [step.model_copy(update={"requests": asked, "title": "without medlar", "name": "without medlar"}) for step in given.steps]
    given = given.model_copy(update={"steps": steps})
    return Material(given.model_copy(update={"commands": commands(given, WANTED)}), PLAN, ((b"a", b"b"),))


def whole(text: str) -> str:
    """A page with what is encoded in it."""
    return text + "".join(base64.b64decode(part).decode(errors="replace") for part in re.findall(r"base64,([^\"]+)", text))


@pytest.mark.parametrize("suffix", [".html", ".md"])
def test_report_contains_no_absolute_path(suffix: str):
    text = whole(written_as(suffix, found()))
    assert "/srv" not in text and "private" not in text
    assert "orchard.pt" in text and "fruit.yaml" in text and "plan.yaml" in text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("in /a/b c/d.pt", "in d.pt"),
        ("--model=/a/b.pt 3/4, a/b and ~/x/y.pt", "--model=b.pt 3/4, a/b and y.pt"),
        ("'/root.pt' (/tmp/x/y)", "'root.pt' (y)"),
        ("https://example.org/a/b", "https://example.org/a/b"),
        ("5 ms / image", "5 ms / image"),
    ],
)
def test_paths_lose_their_folders_and_nothing_else_changes(text: str, expected: str):
    document = Document(text, "", "", "good", (Section("", (Paragraph(text), Code((text,)))),), "")
    named = without_folders(document, ("/a/b c/d.pt",))
    assert named.title == expected
    assert named.sections[0].parts == (Paragraph(expected), Code((expected,)))


@pytest.mark.parametrize("suffix", [".html", ".md"])
def test_redacted_report_contains_no_names(suffix: str):
    text = whole(written_as(suffix, neutral(found(), WANTED)))
    for name in ("srv", "private", "orchard", "fruit.", "quince", "medlar"):
        assert name not in text, name
    for name in ("model.pt", "data.yaml", "class-0", "image 1", "--redact", "keep:class-0"):
        assert name in text.replace("\\", ""), name


def test_names_are_kept_without_redact():
    assert "orchard.pt pruned" in page()


def test_redacted_plan_removes_the_same_channels():
    names = NeutralNames.of("orchard.pt", None, "plan.yaml", ["quince", "medlar"])
    text = plan_under(PLAN, names)
    assert "sha256: '0'" in text and "checkpoint: model.pt" in text and "keep:class-0" in text


def test_redacting_does_not_change_the_facts():
    material = found()
    before = dataclasses.replace(material)
    neutral(material, WANTED)
    assert material == before
