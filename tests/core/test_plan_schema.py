"""The plan's schema in the documentation is that of the program; an editor checks hand-written plans with it."""

from __future__ import annotations

import json
import os
from pathlib import Path

from tui_pruner.core.pruning.plan import Plan

SCHEMA = Path(__file__).parent.parent.parent / "docs" / "plan.schema.json"


def test_documented_schema_equals_the_programs():
    text = json.dumps(Plan.model_json_schema(), indent=2) + "\n"
    if os.environ.get("TUI_PRUNER_GOLDEN") == "write":
        SCHEMA.write_text(text, encoding="utf-8")
    assert SCHEMA.read_text(encoding="utf-8") == text


def test_every_key_of_the_schema_has_a_description():
    schema = json.loads(SCHEMA.read_text(encoding="utf-8"))
    keys = {name: about for part in (schema, *schema["$defs"].values()) for name, about in part["properties"].items()}
    assert {name for name, about in keys.items() if "description" not in about} == {"steps", "cuts"}
