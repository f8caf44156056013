"""How soon a position of the target slider is on the screen after its key, with the tree and with the map."""

from __future__ import annotations

import time
from collections.abc import Callable
from statistics import median

from tests.bench.figures import Figure
from tests.bench.processes import seconds_used
from tests.bench.sandbox import PROGRAM
from tests.bench.screen import Terminal

MODELS = ("yolov8n.yaml", "yolov8x.yaml")
FRAME = 0.06
OPEN, LESS, MORE = "\x14", "\x1b[D", "\x1b[C"
LOWEST, STEP = 10, 5
SETTLING = 0.5


def sliding_figures(say: Callable[[str], None]) -> list[Figure]:
    """The medians and the slowest of all positions on the way down (tree) and up again (map), and when all were planned."""
    figures = []
    for model in MODELS:
        say(f"dragging a target on {model}")
        planned, down, up, own = drag(model)
        for where, frames in (("tree", down), ("map", up)):
            name = f"a position of the target slider, {model}, {where}: median of {len(frames)}"
            figures += [Figure(name, median(frames), "s", target=FRAME), Figure("  the same, the slowest", max(frames), "s", target=FRAME)]
        figures.append(Figure("  the processor's time in the interface for a position, mean", own, "s", target=FRAME))
        figures.append(Figure("  until all its positions were planned", planned, "s"))
    return figures


def drag(model: str) -> tuple[float, list[float], list[float], float]:
    """Seconds until all positions are planned, and from each key to its position on the screen: down with the tree, up with the map; and
    what of the processor's time a position takes in the interface, which does not depend on what else the machine does."""
    shares = range(100 - STEP, LOWEST - 1, -STEP)
    with Terminal([str(PROGRAM), model]) as terminal:
        terminal.read_until(["Backbone", "reads it"])
        terminal.press("z")
        terminal.record_until_silent(SETTLING)
        started = time.perf_counter()
        terminal.press(OPEN)
        terminal.read_until(["reachable"], settled=False)
        planned = time.perf_counter() - started
        terminal.record_until_silent(SETTLING)
        before = seconds_used(terminal.process.pid)
        down = [position(terminal, LESS, share) for share in shares]
        own = seconds_used(terminal.process.pid) - before
        terminal.press("m")
        terminal.record_until_silent(SETTLING)
        before = seconds_used(terminal.process.pid)
        up = [position(terminal, MORE, share) for share in reversed(shares[:-1])]
        own += seconds_used(terminal.process.pid) - before
    return planned, down, up, own / (len(down) + len(up))


def position(terminal: Terminal, key: str, share: int) -> float:
    """Seconds from a key to the share that it drags to."""
    seconds = terminal.answer(key, f"{share} % left")
    terminal.record(0.02 + 0.0037 * share % 0.03)  # at all phases of the screen's own pulse
    return seconds
