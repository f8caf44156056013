"""One session in a real terminal through the features of the second edition; every screen in four window sizes."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import sys
from pathlib import Path

from tests.terminal import Terminal
from tests.tui.helpers import GOLDEN, check_golden, steady
from tests.tui.test_newcomers_workflow import without_paths_and_times

COMMAND = [sys.executable, "-m", "tui_pruner"]
SIZES = ((120, 40), (80, 24), (60, 20), (200, 60))
QUIET = 1.5
SETTLED = 0.4
"""Seconds: an escape must not be followed by a key before it was taken, which would be one key with Alt."""


def without_machine_details(text: str) -> str:
    """A screen without what differs between machines: places, moments, digits of metrics, the dots that stand for them."""
    text = re.sub("[\u2801-\u28ff]", "\u28ff", without_paths_and_times(text))
    text = re.sub(r"differs by (0|\d+e-\d+)", "differs by FIGURE", text)
    text = re.sub(r"(?<=[.]\d{3}) \([−+]\d+[.]\d%\)", "", text)
    return re.sub(r"(?<![\d\w])[.]\d{3}|1[.]000(?!\d)", ".###", re.sub(r"[−+][.]\d{3}(?!\d)|(?<= )0(?= +│)", "±.###", text))


def check_screen_in_all_sizes(terminal: Terminal, title: str) -> None:
    """The screen in every size is what it was when someone looked at it; the window is as before then."""
    before = terminal.screen.columns, terminal.screen.lines
    for columns, rows in SIZES:
        name = f"goals-{title}-{columns}x{rows}"
        terminal.resize(columns, rows)
        if os.environ.get("TUI_PRUNER_GOLDEN") == "write":
            terminal.wait_for_quiet(QUIET)
        elif (GOLDEN / f"{name}.txt").exists():
            with contextlib.suppress(AssertionError):  # the comparison says it better
                stored = (GOLDEN / f"{name}.txt").read_text(encoding="utf-8")
                terminal.wait_for(lambda text, stored=stored: steady(without_machine_details(text)) + "\n" == stored)
        check_golden(name, without_machine_details(terminal.text))
    terminal.resize(*before)
    terminal.wait_for_quiet(SETTLED)


def test_features_of_the_second_edition_work_in_every_window_size(demo_checkpoint: Path, demo_data: Path, tmp_path_factory):
    folder = tmp_path_factory.mktemp("walk")
    shutil.copy(demo_checkpoint, folder / "best.pt")
    place = {"XDG_STATE_HOME": str(folder / "state"), "XDG_CONFIG_HOME": str(folder / "config"), "XDG_CACHE_HOME": str(folder / "cache")}
    command = [*COMMAND, "best.pt", "--data", str(demo_data), "--images", "4"]
    with Terminal(command, 120, 40, cwd=folder, env={**place, "PWD": str(folder)}) as terminal:
        terminal.wait_for(r"checkpoint mAP [.\d]+ .*4 images")
        drag_a_target(terminal)
        see_the_stages(terminal)
        see_the_flow(terminal)
        measure_and_write_a_mask(terminal)
        compare_detections(terminal)
        copy_and_compress(terminal)
        scan_until_it_is_enough(terminal)


def drag_a_target(terminal: Terminal) -> None:
    """The slider with the tree and with the map; what it stands on becomes a step."""
    terminal.press("ctrl+t")
    terminal.wait_for("reachable 7 to 100 %")
    terminal.press(*["left"] * 6)
    terminal.wait_for("(?s)the shapes fit.*70 % left")
    check_screen_in_all_sizes(terminal, "slider")
    terminal.press("m")
    terminal.wait_for("Map")
    check_screen_in_all_sizes(terminal, "slider-map")
    terminal.press("m", "enter")
    terminal.wait_for("70 % of the FLOPs left; a applies it")
    terminal.press("a")
    terminal.wait_for(r"step 1 mAP [.\d]+ ")


def see_the_stages(terminal: Terminal) -> None:
    """The lineage as a tree and on the front."""
    terminal.press("H")
    terminal.wait_for("95 % interval")
    check_screen_in_all_sizes(terminal, "lineage")
    terminal.press("tab")
    terminal.wait_for("mAP over GFLOPs")
    check_screen_in_all_sizes(terminal, "front")
    terminal.press("escape")
    terminal.wait_for("Backbone")


def see_the_flow(terminal: Terminal) -> None:
    """Where channels come from, at the first block whose widths differ from those before."""
    terminal.press("E")
    terminal.wait_for("Channel flow after 1 step")
    terminal.press("]")
    terminal.wait_for("no mismatch")
    check_screen_in_all_sizes(terminal, "flow")
    terminal.press("escape")
    terminal.wait_for(lambda text: "Channel flow" not in text)


def measure_and_write_a_mask(terminal: Terminal) -> None:
    """The step as a mask computes the same; the question where to write offers it."""
    terminal.press("M")
    terminal.wait_for(r"step 1 masked mAP [.\d]+ as the cut has")
    terminal.press("w")
    terminal.wait_for("Write the pruned model to")
    terminal.press("tab")
    terminal.wait_for("best-masked[.]pt")
    check_screen_in_all_sizes(terminal, "mask")
    terminal.press("escape")
    terminal.wait_for(lambda text: "Tab switch" not in text and "Backbone" in text)


def compare_detections(terminal: Terminal) -> None:
    """The same image at two stages, and the next one."""
    terminal.press("I")
    terminal.wait_for(r"(?s)1/4 .*best[.]pt: \d+ found.*1: 27 layers: \d+ found.*▀.*in both")
    terminal.press("j")
    terminal.wait_for("2/4 ")
    for columns, rows in SIZES:
        terminal.resize(columns, rows)
        terminal.wait_for(lambda text, columns=columns: max(map(len, text.splitlines())) == columns and "▀" in text and "in both" in text)
    terminal.resize(120, 40)
    terminal.press("escape")
    terminal.wait_for("Backbone")


def copy_and_compress(terminal: Terminal) -> None:
    """What can be copied, what was done as commands, and the recipe."""
    for key, words in (("y", "(?s)clipboard.*--cut"), ("P", "(?s)newest first.*tui-pruner"), ("C", "recipe file")):
        terminal.press(key)
        terminal.wait_for(words)
        if key == "C":  # the others have paths in them, which are broken differently elsewhere
            check_screen_in_all_sizes(terminal, "recipe")
        terminal.press("escape")
        terminal.wait_for(lambda text: "Esc c" not in text and "Backbone" in text)
        terminal.wait_for_quiet(SETTLED)


def scan_until_it_is_enough(terminal: Terminal) -> None:
    """A scan fills the tree, names of ordered layers stay whole beside its curve, and it ends when it is told so."""
    terminal.press("o", "S")
    terminal.wait_for(r"scan: \d+ of \d+ trials")
    terminal.wait_for(r"(?s)Drop@30%.*22[.]cv2[.]0[.]0 +\d")
    terminal.press("S")
    terminal.wait_for(r"scan stopped after \d+ of \d+ trials")
    terminal.press("2", "0", "enter")
    terminal.wait_for(r"mAP .*~([.]\d{3}|[?])")
