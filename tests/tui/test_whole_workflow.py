"""The main workflow in a real terminal: look, mark, set ratios, apply, see the proof and the mAP, undo, redo, write, quit."""

from __future__ import annotations

import re
import shutil
import sys
import time
import zipfile
from pathlib import Path

import pytest

from tests.terminal import Terminal

DONE = re.compile(r"1 2 layers.*\de-\d.*[.]\d\d")
SLOWEST_KEYS = 2.0


@pytest.fixture
def checkpoint(tmp_path: Path, demo_checkpoint: Path) -> Path:
    """A copy of the bundled checkpoint in a folder of its own."""
    return Path(shutil.copy(demo_checkpoint, tmp_path / "digits.pt"))


@pytest.mark.parametrize(("columns", "rows"), [(80, 24)])
def test_whole_workflow_from_look_to_written_file_works(checkpoint: Path, demo_data: Path, columns: int, rows: int):
    wide = columns >= 120
    command = [sys.executable, "-m", "tui_pruner", str(checkpoint), "--data", str(demo_data), "--images", "16"]
    with Terminal(command, columns, rows, cwd=checkpoint.parent) as terminal:
        terminal.wait_for("Backbone")
        terminal.wait_for("3.01M")
        filter_and_mark(terminal, "6.m.0.cv1", "6 C2f", "12 C2f")
        filter_and_mark(terminal, "12.cv2", "12 C2f", "6 C2f")
        terminal.press("30", "enter")
        terminal.wait_for(r"128→90")
        terminal.wait_for(r"2[.]9\dM|▼")
        check_also_affected_layers(terminal, wide)
        terminal.press("a")
        wait_for_proof_and_validation_with_keys(terminal)
        terminal.press("u")
        terminal.wait_for(lambda text: "128→90" not in text)
        terminal.press("ctrl+r")
        terminal.wait_for("128→90")
        terminal.press("w")
        terminal.wait_for("Write the pruned model to")
        terminal.press("enter")
        terminal.wait_for(lambda text: (checkpoint.parent / "digits-pruned.pt").exists())
        terminal.wait_for(r"(?i)written|saved|wrote")
        terminal.press("q")
        assert terminal.wait_for_end() == 0
    with zipfile.ZipFile(checkpoint.parent / "digits-pruned.pt") as archive:
        assert archive.testzip() is None


def filter_and_mark(terminal: Terminal, words: str, block: str, others: str) -> None:
    """Filter for one layer, stand on it and mark it; then drop the filter."""
    terminal.press("/")
    terminal.press(words, "enter")
    terminal.wait_for(lambda text: f"/ {words}" in text and block in text and others not in text)
    terminal.press(" ")
    terminal.wait_for(lambda text: text.count("●") == 1)
    terminal.press("escape")
    terminal.wait_for(lambda text: f"/ {words}" not in text and text.count("C2f") > 1)  # else the next key and escape come as one


def check_also_affected_layers(terminal: Terminal, wide: bool) -> None:
    """The coupled layers and the new shapes stand in the detail pane; on a narrow screen one tab away."""
    if not wide:
        terminal.press("tab")
    terminal.wait_for("Also affected")
    terminal.wait_for(r"model[.]1[58]")
    terminal.wait_for(r"reads it")
    if not wide:
        terminal.press(*["down"] * 30)
    terminal.wait_for(r"90×")
    if not wide:
        terminal.press("tab")


def wait_for_proof_and_validation_with_keys(terminal: Terminal) -> None:
    """The proof and the validation arrive from the background; until then every key press changes the screen at once."""
    slowest = 0.0
    while not DONE.search(terminal.text):
        pressed = time.perf_counter()
        terminal.press("?")
        terminal.wait_for(lambda text: "Esc close" in text)
        terminal.press("escape")
        terminal.wait_for(lambda text: "Esc close" not in text and "─ Keys" not in text)
        slowest = max(slowest, time.perf_counter() - pressed)
    assert 0 < slowest < SLOWEST_KEYS
