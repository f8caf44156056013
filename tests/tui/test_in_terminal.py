"""In a real terminal: errors of the engine and odd file names never leave a loading screen or a wrong text."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from tests.terminal import Terminal
from tests.warm_processes import ROOT

FAULTY = """
from tui_pruner.engine import processes
async def faulty(): return await processes.start_module("tests.engine.faulty", {faults!r})
processes.start_engine = faulty
"""
"""As `sitecustomize` of the app's process."""


def test_engine_faults_in_a_terminal_end_neither_the_app_nor_leave_it_loading(tiny_checkpoint: Path, tmp_path: Path):
    faults = tmp_path / "faults"
    faults.write_text("open SystemExit")
    (tmp_path / "sitecustomize.py").write_text(FAULTY.format(faults=str(faults)))
    environment = {"PYTHONPATH": os.pathsep.join([str(tmp_path), str(ROOT), os.environ.get("PYTHONPATH", "")])}
    with Terminal([sys.executable, "-m", "tui_pruner", str(tiny_checkpoint), "--imgsz", "64"], 160, 40, env=environment) as terminal:
        terminal.wait_for("SystemExit")
        assert "Which checkpoint is to be pruned?" in terminal.text
        faults.write_text("preview MemoryError\ncheck_shapes RecursionError")
        terminal.press("enter")
        terminal.wait_for("Backbone")
        terminal.press("/", "model.5", "enter", "3", "0", "enter")
        terminal.wait_for(r"no detail: preview model[.]5")
        faults.write_text("")
        terminal.press("right")
        terminal.wait_for("the shapes fit")
        terminal.press("a")
        terminal.wait_for(r"1 model[.]5 [−-]31% .*proved")
        assert "out of memory?" not in terminal.text
        terminal.press("q")
        terminal.wait_for("Quit[?]")
        terminal.press("q")
        assert terminal.wait_for_end() == 0
