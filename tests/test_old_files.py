"""What an earlier version left on a disk is still read: a kept session and a plan, as 0.1.0 wrote them before the folders were moved."""

from __future__ import annotations

import shutil
from pathlib import Path

import yaml

import tui_pruner as tp
from tui_pruner.storage.paths import sessions_folder
from tui_pruner.storage.sessions import sessions

OLD = Path(__file__).parent / "old"


def test_session_of_0_1_0_is_found_with_everything_in_it():
    folder = sessions_folder()
    folder.mkdir(parents=True)
    shutil.copyfile(OLD / "session.jsonl", folder / "old-digits.jsonl")
    (found,) = sessions()
    assert (found.id, found.model, found.imgsz, found.data, found.steps) == ("old-digits", "digits.pt", 160, "digits.yaml", 1)
    assert (found.asked, found.marks, found.cursor, found.metrics) == ({"model.5": "20%"}, ["model.7"], "model.5", {"": 0.898})
    assert found.plan == yaml.safe_load((OLD / "plan.yaml").read_text()) and (found.damaged, found.left, found.running) == (0, False, False)


def test_plan_of_0_1_0_cuts_the_same_channels(demo_checkpoint: Path):
    session = tp.open(demo_checkpoint, imgsz=64)
    session.load(OLD / "plan.yaml")
    old = yaml.safe_load((OLD / "plan.yaml").read_text())["steps"][0]["cuts"]
    kept = session.kept()
    for cut in old:
        for parameter, axes in cut["removes"].items():
            for axis, gone in axes.items():
                assert not set(kept[parameter][axis]) & set(gone)
    assert session.prove().equal and "model.8.m.0.cv1.conv.weight" not in dict(session.model().named_parameters())
