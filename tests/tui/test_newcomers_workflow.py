"""A newcomer's whole workflow by the texts on the screen: from the file picker to a report, killed once and resumed."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import sys
from pathlib import Path

import pytest
import yaml

from tests.terminal import Terminal
from tests.tui.helpers import GOLDEN, check_golden, steady

COMMAND = [sys.executable, "-m", "tui_pruner"]
RATIOS = (15, 20, 30, 40)
QUIET = 2.0
FIRST, OTHER = "6.m.0.cv2", "6.m.1.cv2"


class Walk:
    """A terminal whose screens are compared with stored ones."""

    def __init__(self, terminal: Terminal, name: str) -> None:
        self.terminal = terminal
        self.name = name
        self.wide = terminal.screen.columns >= 100

    def sees(self, title: str) -> None:
        """The screen becomes what it was when someone looked at it, but for what differs from run to run and machine to machine."""
        name = f"walk-{self.name}-{title}"
        if os.environ.get("TUI_PRUNER_GOLDEN") == "write":
            self.terminal.wait_for_quiet(QUIET)
        elif (GOLDEN / f"{name}.txt").exists():
            with contextlib.suppress(AssertionError):  # the comparison says it better
                stored = (GOLDEN / f"{name}.txt").read_text(encoding="utf-8")
                self.terminal.wait_for(lambda text: steady(without_paths_and_times(text)) + "\n" == stored)
        check_golden(name, without_paths_and_times(self.terminal.text))

    def find(self, words: str) -> None:
        """Stand on the one layer that the filter finds, without the filter."""
        self.terminal.press("/", words, "enter")
        self.terminal.wait_for(lambda text: f"/ {words}" in text and len(layers(text)) <= 2)
        self.terminal.press("escape")
        self.terminal.wait_for(lambda text: f"/ {words}" not in text)

    def answer(self, prompt: str, proposed: str, text: str) -> None:
        """Replace what an open prompt proposes."""
        self.terminal.wait_for(re.escape(prompt))
        self.terminal.wait_for(re.escape(proposed))
        self.terminal.press("end", "ctrl+u")
        self.terminal.wait_for(lambda text: proposed not in text)
        self.terminal.press(text, "enter")

    def steps(self) -> None:
        """Go to the steps, and on a narrow screen see them."""
        self.terminal.press("s")
        self.terminal.wait_for("enter go")


def without_paths_and_times(text: str) -> str:
    """A screen without places, moments, and the last digits of a computation."""
    text = re.sub(r"\S*/walk\d*\S* ?─*", "PATH", text)
    text = re.sub(r"proved (0|\d+e-\d+)", "proved FIGURE", text)
    text = re.sub(r"\d{4}-\d\d-\d\d \d\d:\d\d|just now|\d+ minutes? ago", "WHEN", text)
    return re.sub(r"[\d.]+ KB", "SIZE", text)


STATUS = re.compile(r"\b(free|coupled|linked|locked|affected|fewer inputs)\b|−\d+%")


def layers(text: str) -> dict[str, str]:
    """The tree's lines that are about one layer, by the layer's name."""
    lines = [line.split("││")[0].strip("│ ●▸") for line in text.splitlines()]
    return {line.split()[0]: line for line in lines if line[:1].isdigit() and STATUS.search(line)}


@pytest.mark.parametrize(("columns", "rows"), [(120, 40), (80, 24)])
def test_newcomer_completes_the_whole_workflow_by_the_texts_on_the_screen(
    demo_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory, columns: int, rows: int
):
    folder = tmp_path_factory.mktemp("walk")
    (folder / "weights").mkdir()
    shutil.copy(demo_checkpoint, folder / "weights" / "best.pt")
    place = {"XDG_STATE_HOME": str(folder / "state"), "XDG_CONFIG_HOME": str(folder / "config"), "PWD": str(folder)}
    with Terminal(COMMAND, columns, rows, cwd=folder, env=place) as terminal:
        walk = Walk(terminal, f"{columns}x{rows}")
        open_by_the_picker(walk)
        cut_the_heaviest(walk)
        settle_a_conflict(walk)
        explain_and_jump(walk)
        apply_compare_and_go_back(walk)
        save_and_report(walk, folder)
    assert (folder / "weights" / "best.pt").read_bytes() == demo_checkpoint.read_bytes()
    with Terminal([*COMMAND, "--resume"], columns, rows, cwd=folder, env=place) as terminal:
        walk = Walk(terminal, f"{columns}x{rows}")
        terminal.wait_for("back in the session")
        terminal.wait_for("1 5 layers" if walk.wide else "5 layers")
        terminal.wait_for("proved")
        terminal.press("q")
        terminal.wait_for("Quit[?]")
        terminal.press("q")
        assert terminal.wait_for_end() == 0


def open_by_the_picker(walk: Walk) -> None:
    """The start screen, the folders, the file."""
    terminal = walk.terminal
    terminal.wait_for("Which checkpoint is to be pruned")
    terminal.wait_for("browse the folders")
    walk.sees("start")
    terminal.press("ctrl+o")
    terminal.wait_for("the folder above")
    terminal.press("wei", "enter")
    terminal.wait_for(r"/weights ─")
    terminal.wait_for(r" best[.]pt .*MB")
    walk.sees("picker")
    terminal.press("best", "enter")
    terminal.wait_for("Backbone")
    terminal.wait_for(r"3[.]01M")


def cut_the_heaviest(walk: Walk) -> None:
    """The four layers with the most FLOPs that can be cut, each with a ratio of its own."""
    terminal = walk.terminal
    terminal.press("o")
    terminal.wait_for("by FLOPs")
    terminal.press("home")
    rows = layers(terminal.text)
    heaviest = [name for name, line in rows.items() if "locked" not in line][: len(RATIOS)]
    assert len(heaviest) == len(RATIOS)
    for name, ratio in zip(heaviest, RATIOS, strict=True):
        terminal.press("home", *["down"] * list(rows).index(name), str(ratio), "enter")
        terminal.wait_for(rf"−{ratio}%")
    terminal.wait_for(r"4 layers −\d+…\d+%")
    walk.sees("heaviest")
    terminal.press("escape")
    terminal.wait_for(lambda text: "by FLOPs" not in text)


def settle_a_conflict(walk: Walk) -> None:
    """Two layers of one group are asked for different shares: it is said, and one of them is let go."""
    terminal = walk.terminal
    for words, ratio in ((FIRST, "30"), (OTHER, "20")):
        walk.find(words)
        terminal.press(ratio, "enter")
        terminal.wait_for(rf"−{ratio}%")
    terminal.wait_for("conflict")
    walk.sees("conflict")
    terminal.press("T")
    terminal.wait_for("Settle")
    walk.sees("settle")
    terminal.press("enter")
    terminal.wait_for(lambda text: "conflict" not in text and "Settle" not in text)


def explain_and_jump(walk: Walk) -> None:
    """What a cut touches, and one of its layers in the tree."""
    terminal = walk.terminal
    walk.find(FIRST)
    terminal.press("e")
    terminal.wait_for("Explain")
    terminal.wait_for("touches")
    terminal.press("]")
    terminal.wait_for("▸ 6[.]")
    walk.sees("explained")
    terminal.press("escape")
    terminal.wait_for(lambda text: "Explain " not in text)


def apply_compare_and_go_back(walk: Walk) -> None:
    """A step, its proof, its comparison with the checkpoint; back, and forth again."""
    terminal = walk.terminal
    terminal.press("a")
    terminal.wait_for(r"5 layers.*proved" if not walk.wide else r"1 5 layers.*proved")
    walk.steps()
    if not walk.wide:
        terminal.press("tab")
    terminal.wait_for("Compare checkpoint")
    walk.sees("compared")
    if not walk.wide:
        walk.steps()
    terminal.press("up", "enter")
    terminal.wait_for("undone")
    walk.sees("gone-back")
    terminal.press("down", "enter")
    terminal.wait_for(lambda text: "undone" not in text and "proved" in text)


def save_and_report(walk: Walk, folder: Path) -> None:
    """The plan as YAML, and the report of it."""
    terminal = walk.terminal
    terminal.press("p")
    walk.answer("Save the plan as", "best-plan.yaml", str(folder / "plan.yaml"))
    terminal.wait_for(lambda _: (folder / "plan.yaml").exists())
    plan = yaml.safe_load((folder / "plan.yaml").read_text())
    assert len(plan["steps"]) == 1 and len(plan["steps"][0]["cuts"]) == 5
    terminal.press("r")
    terminal.wait_for("neutral names")
    terminal.press("1")
    walk.answer("Write the report to", "best-report.html", str(folder / "report.html"))
    terminal.wait_for("1 step all proved")
    assert "<html" in (folder / "report.html").read_text()[:200].lower()
