"""Names that are not UTF-8 as text: what people see, what is written down, and that both lead to the very bytes."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
from pathlib import Path

import pytest
import yaml
from pydantic import ValidationError

from tests.deadlines import HANGING
from tests.odd_names import CAFE, SHOWN, odd_path
from tui_pruner.core.pruning.plan import Plan, read_plan, save_plan
from tui_pruner.domain.errors import CheckpointError, OutputError
from tui_pruner.domain.formatting import command_line, legible, own_name, printable
from tui_pruner.engine.job_messages import ExportParameters, JobProgress
from tui_pruner.engine.search_messages import ScanParameters
from tui_pruner.storage import sessions
from tui_pruner.storage.journal import read
from tui_pruner.storage.sessions import SavedSession, SessionFile, new_id
from tui_pruner.storage.yaml import parse_yaml
from tui_pruner.tui.terminal import final_message, write_report

NAMES = [CAFE, "\udc80\udcff", "é\udce9", r"a\udce9", "a\\\udce9", "it's \udce9a", "plain"]


def test_odd_bytes_are_shown_escaped_and_never_as_surrogates():
    assert printable(CAFE) == SHOWN == legible(CAFE)
    assert printable("a\udc80\x1bb\ud800") == r"a\x80?b?"
    assert legible("one\ntwo \udcff é") == "one\ntwo \\xff é"
    assert str(CheckpointError(f"{CAFE} is damaged")) == f"{SHOWN} is damaged"


@pytest.mark.parametrize("name", NAMES)
def test_yaml_is_read_back_as_written(name: str):
    content = {"a": name, name: [name, 1]}
    assert parse_yaml(yaml.safe_dump(content))[1] == content
    assert parse_yaml(f"a: '{name.replace(chr(39), chr(39) * 2)}'")[1] == {"a": name}


def test_escapes_count_only_in_double_quotes_and_private_use_characters_are_kept():
    assert parse_yaml(r"""{a: "\uDCe9", b: '\uDCe9', c: \uDCe9, d: "\\uDCe9"}""")[1] == {
        "a": "\udce9",
        **dict.fromkeys("bcd", r"\uDCe9"),
    }
    assert parse_yaml('a: "\\udce9 \U0010f000 \U0010f001"')[1] == {"a": "\udce9 \U0010f000 \U0010f001"}


@pytest.mark.parametrize("name", NAMES)
def test_plan_with_an_odd_name_is_saved_and_read(name: str, tmp_path: Path):
    plan = Plan(checkpoint=name, sha256="0" * 64)
    file = odd_path(tmp_path, b"pl\xe9n.yaml")
    save_plan(file, plan)
    assert read_plan(file) == plan


def test_message_keeps_odd_names_and_values_that_are_not_numbers():
    asked = ScanParameters(checkpoint=CAFE, sha256="0", data="/d\udce4ta.yaml", imgsz=64)
    assert asked.to_json().isascii() and ScanParameters.from_json(asked.to_json()) == asked
    exported = ExportParameters(checkpoint=CAFE, sha256="0", imgsz=64, output="\udcff.onnx")
    assert ExportParameters.from_json(exported.to_json()) == exported
    assert JobProgress.from_json(JobProgress(done=1, total=2, doing=CAFE, metrics={"a": float("inf")}).to_json()).metrics["a"] == float(
        "inf"
    )
    for broken in (b"", b"[1]", b"{", b"[" * 100_000):
        with pytest.raises(ValidationError):
            ScanParameters.from_json(broken)


@pytest.mark.parametrize("name", NAMES)
def test_shell_passes_the_exact_bytes_of_a_printed_command_line(name: str):
    line = command_line(["printf", "%s", name])
    assert line.isprintable() and (name != "plain" or line == shlex.join(["printf", "%s", name]))
    assert subprocess.run(["bash", "-c", line], capture_output=True, check=True, timeout=HANGING).stdout == os.fsencode(name)


def test_generated_name_is_typable_and_short_enough_for_any_file_system():
    assert own_name("caf\udce9 é\x1b") == "caf_ é_"
    assert own_name("é" * 200) == "é" * 100 and own_name("aé", 2) == "a"


@pytest.mark.parametrize("model", [f"/models/{CAFE}", f"/models/{'é' * 120}.pt", f"/models/{'模' * 80}.pt"])
def test_session_with_an_odd_name_is_saved_and_found_again(model: str):
    kept = SavedSession(
        id=new_id(model), model=model, data=f"/{CAFE}", plan={"checkpoint": CAFE, "sha256": "0", "steps": [{"cuts": []}]}, steps=1
    )
    file = SessionFile(kept.id)
    file.keep(kept)
    file.close()
    found = sessions.session_to_resume()
    assert (found.model, found.data, found.plan["checkpoint"]) == (model, f"/{CAFE}", CAFE)
    assert found.id.isprintable() and found.damaged == 0
    (journal,) = sessions.paths.sessions_folder().iterdir()
    assert journal.read_bytes().isascii() and read(journal).state["model"] == model
    assert sessions.sessions_of(model, "0")


def test_crash_report_with_an_odd_name_is_written():
    report = write_report(OutputError(CAFE))
    assert report is not None and SHOWN in report.read_text(encoding="utf-8")
    report = write_report(FileNotFoundError(2, "no such file", CAFE))
    assert report is not None and final_message(ValueError(CAFE), report).encode() and SHOWN in final_message(ValueError(CAFE), report)
    assert json.dumps(CAFE) == r'"caf\udce9.pt"'
