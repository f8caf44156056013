"""Looking around in a real terminal of 80x24: order, filter, explain, walk the path, and the map."""

from __future__ import annotations

import sys
from pathlib import Path

from tests.terminal import Terminal

PLAIN = {"NO_COLOR": "1", "TUI_PRUNER_ASCII": "1"}


def test_heaviest_free_layer_is_found_and_explained_without_colour_and_unicode(demo_checkpoint: Path):
    command = [sys.executable, "-m", "tui_pruner", str(demo_checkpoint)]
    with Terminal(command, 80, 24, cwd=demo_checkpoint.parent, env=PLAIN) as terminal:
        terminal.wait_for("Backbone")
        terminal.press("o")
        terminal.wait_for("64 layers  by FLOPs")
        terminal.press("of")
        terminal.wait_for(r"free  43 of 64 layers  by parameters")
        terminal.wait_for(r"7 Conv .* 9[.]8% .*free")
        terminal.press("escape")
        terminal.wait_for(lambda text: "of 64" not in text)
        terminal.press("escape")
        terminal.wait_for("Backbone")
        terminal.press("/4.cv2", "enter")
        terminal.wait_for(r"4[.]cv2  2 of 64 layers|4[.]cv2  1 of 64 layers")
        terminal.press("e")
        terminal.wait_for(r"4[.]cv2 touches 5 \(input\), 15[.]cv1 \(input\), nothing else")
        terminal.press("p14", "enter")
        terminal.wait_for(r"4[.]cv2 and 14: Concat at channel 128[.][.]191")
        terminal.press("ll", "m")
        terminal.wait_for(r"14 Concat")
        terminal.wait_for(r"2/4 14 Concat at channel 128[.][.]191")
        terminal.press("escape")
        terminal.wait_for("Layer  ")
        terminal.press("q")
        assert terminal.wait_for_end() == 0
