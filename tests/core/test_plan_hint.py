"""The path of the checkpoint in a plan: never absolute unless typed so, and the file need not exist."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from tui_pruner.core.pruning.plan import Plan, path_hint, read_plan, save_plan


@pytest.mark.parametrize(
    ("file", "checkpoint", "typed", "hint"),
    [
        ("/folder/plans/plan.yaml", "/folder/models/best.pt", False, "../models/best.pt"),
        ("/folder/plan.yaml", "/folder/models/best.pt", True, "models/best.pt"),
        ("/folder/plan.yaml", "/folder/best.pt", True, ""),
        ("/one/plan.yaml", "/other/best.pt", True, "/other/best.pt"),
        ("/one/plan.yaml", "/other/best.pt", False, ""),
        ("plan.yaml", "best.pt", True, ""),
        ("plans/plan.yaml", "runs/best.pt", True, "../runs/best.pt"),
    ],
)
def test_path_hint_is_relative_where_possible(file: str, checkpoint: str, typed: bool, hint: str):
    assert path_hint(Path(file), checkpoint, typed) == hint


def test_saved_plan_has_a_path_hint_and_one_without_is_written_unchanged(tmp_path: Path):
    plan = Plan(checkpoint="best.pt", sha256="0" * 64)
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "best.pt").touch()
    save_plan(tmp_path / "plan.yaml", plan, str(tmp_path / "models" / "best.pt"))
    assert read_plan(tmp_path / "plan.yaml").path == "models/best.pt"
    save_plan(tmp_path / "old.yaml", plan)
    assert list(yaml.safe_load((tmp_path / "old.yaml").read_text())) == ["format", "checkpoint", "sha256", "steps"]
    save_plan(tmp_path / "built.yaml", plan, "yolov8n.yaml", typed=True)
    assert read_plan(tmp_path / "built.yaml") == plan
