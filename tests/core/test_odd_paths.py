"""A checkpoint under a name that is not UTF-8 is read like any other; tests/cli/test_odd_paths.py cuts and writes one."""

from __future__ import annotations

import base64
import re
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.odd_names import CAFE, SHOWN, odd_copy, odd_path
from tui_pruner.core.model.analysis import analyse
from tui_pruner.core.pruning.plan import Plan, dump_yaml
from tui_pruner.core.pruning.session import PruningSession
from tui_pruner.domain.errors import CheckpointError, OutputError
from tui_pruner.frameworks.ultralytics import check_output, open_model
from tui_pruner.jobs.report import write_report
from tui_pruner.report.document import Attachment, Code, Document, Paragraph, Section, html, markdown


def test_checkpoint_with_an_odd_path_is_opened_and_its_plan_names_it(demo_checkpoint: Path, tmp_path: Path):
    file = odd_copy(demo_checkpoint, tmp_path)
    checkpoint = open_model(file)
    assert (checkpoint.path, checkpoint.classes) == (str(file), 10)
    session = PruningSession(analyse(checkpoint))
    assert session.plan.checkpoint == CAFE
    with pytest.raises(OutputError, match="is the model that is being pruned") as refused:
        check_output(file, checkpoint.path, True)
    assert SHOWN in str(refused.value)


def test_damaged_checkpoint_with_an_odd_path_is_refused_with_a_printable_name(tmp_path: Path):
    file = odd_path(tmp_path, b"caf\xe9.pt")
    with pytest.raises(CheckpointError, match="no such file") as missing:
        open_model(file)
    file.write_bytes(b"PK no archive")
    with pytest.raises(CheckpointError, match="truncated") as damaged:
        open_model(file)
    for refusal in (missing, damaged):
        assert SHOWN in str(refusal.value) and str(refusal.value).isprintable()


@pytest.mark.parametrize("written", [html, markdown])
def test_report_shows_odd_bytes_escaped_and_contains_the_plan_unchanged(written: Callable[[Document], str], tmp_path: Path):
    plan = Plan(checkpoint=CAFE, sha256="0" * 64)
    parts = (Paragraph(CAFE), Code((CAFE,)), Attachment("pl\udce9n.yaml", dump_yaml(plan)))
    document = Document(f"{CAFE} pruned", CAFE, CAFE, "good", (Section("Plan", parts),), CAFE)
    file = odd_path(tmp_path, b"rep\xe9rt.html")
    write_report(file, written(document))
    text = file.read_text(encoding="utf-8")
    assert f"{SHOWN} pruned" in text and r"pl\xe9n.yaml" in text
    inside = re.search(r"base64,([^\"]+)\"", text)
    plain = base64.b64decode(inside[1]).decode() if inside else text
    assert r'"caf\uDCE9.pt"' in plain


def test_commands_of_a_report_can_be_pasted_into_a_shell(tmp_path: Path):
    from tui_pruner.jobs.report import commands
    from tui_pruner.jobs.report_figures import ReportMaterial

    facts: Any = SimpleNamespace(model=SimpleNamespace(path=f"/m/{CAFE}"))
    wanted = ReportMaterial(Path("/m/pl\udce9n.yaml"), Path("it's.md"), None, None, 0, None, "", None, None)
    prune, prove, report = commands(facts, wanted)
    assert prune == r"tui-pruner prune $'/m/caf\xe9.pt' --plan $'/m/pl\xe9n.yaml' -o $'caf\xe9-pruned.pt'"
    assert prove == r"tui-pruner prove $'/m/caf\xe9.pt' $'caf\xe9-pruned.pt'"
    assert report.endswith(""" -o 'it'"'"'s.md'""") and (prune + prove + report).isprintable()
