"""A scan from the command line that is killed for good and started again."""

from __future__ import annotations

import os
import random
import re
from pathlib import Path

import pytest

from tests.cli.conftest import Call, start

SCAN = ("--images", 4, "--imgsz", 64, "--ratios", "50%")
LATEST = 40
"""Of 51 trials: the next wave is then still to be measured when the signal arrives."""
SEEDS, KILLS = (range(8), 3) if os.environ.get("TUI_PRUNER_PROPERTY") == "thorough" else (range(1), 1)


@pytest.mark.parametrize("seed", SEEDS)
def test_scan_killed_at_random_moments_and_restarted_writes_the_same_bytes(
    seed: int, call: Call, demo_checkpoint: Path, demo_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    scan = ("scan", demo_checkpoint, "--data", demo_data, *SCAN, "-o")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "whole"))
    assert call(*scan, tmp_path / "whole.json").status == 0
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "killed"))
    for moment in sorted(random.Random(seed).sample(range(1, LATEST), KILLS)):
        child = start(*scan, tmp_path / "killed.json")
        for line in child.stderr:
            if line.startswith("scan ") and int(line.split()[1].partition("/")[0]) >= moment:
                child.kill()
        child.communicate()
        assert child.returncode == -9 and not (tmp_path / "killed.json").exists()
    last = call(*scan, tmp_path / "killed.json")
    known = re.search(r"\((\d+) known before\)", last.out)
    assert last.status == 0 and known and moment <= int(known[1]) < 51
    assert (tmp_path / "killed.json").read_bytes() == (tmp_path / "whole.json").read_bytes()
