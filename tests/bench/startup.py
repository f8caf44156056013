"""How soon the app and the commands answer, and how much memory the app holds, against Ultralytics alone."""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Callable
from statistics import median

from tests.bench.figures import Figure, compared
from tests.bench.processes import children_of, course_of, resident_bytes, seconds_of, wait_until_idle
from tests.bench.sandbox import CHECKPOINT, PROGRAM
from tests.bench.screen import Terminal, Text

MIB = 1 << 20
ROUNDS = 7
IMPORT = "from ultralytics import YOLO"
LOAD = f"{IMPORT}; model = YOLO({str(CHECKPOINT)!r})"
BARE_APP = """
from textual.app import App
from textual.widgets import Static
class Bare(App):
    def compose(self):
        yield Static("a bare app")
Bare().run()
"""
READY_WORDS = ("Backbone", "Neck", "Head", "Also affected", "reads it")

Series = defaultdict[str, list[float]]


def startup_figures(say: Callable[[str], None]) -> list[Figure]:
    """All figures of starting, each measured once per round so that noise of the machine falls on ours and theirs alike."""
    seen: Series = defaultdict(list)
    for number in range(ROUNDS + 1):
        say(f"starting everything in turn, round {number} of {ROUNDS}" if number else "starting everything once, to fill the caches")
        if number == 1:
            seen.clear()
        one_round(seen)
    return [
        compared("first paint, against importing YOLO", "s", seen["paint"], seen["import"], 0.20),
        compared("  a bare Textual app, for reference", "s", seen["bare"], seen["import"]),
        compared("tui-pruner --version, against the same", "s", seen["version"], seen["import"], 0.25),
        compared("tui-pruner --help, against the same", "s", seen["help"], seen["import"], 0.25),
        compared("ready: tree and groups, against a process of YOLO(path)", "s", seen["ready"], seen["load"], 1.3),
        compared("  the same, against that process until it has loaded", "s", seen["ready"], seen["loaded"]),
        Figure("memory of the interface", median(seen["app MB"]), "MB", target=80),
        compared("memory of the engine, against YOLO(path)", "MB", seen["engine MB"], seen["load MB"], 1.3),
        Figure("  bytes to the terminal until ready", median(seen["KB"]), "KB"),
    ]


def one_round(seen: Series) -> None:
    """Each thing once: theirs, ours, theirs, ours."""
    seen["import"].append(seconds_of([sys.executable, "-c", IMPORT]))
    run_app(seen)
    loading = course_of(LOAD)
    seen["load"].append(loading.ended)
    seen["loaded"].append(loading.done)
    seen["load MB"].append(loading.resident / MIB)
    seen["version"].append(seconds_of([str(PROGRAM), "--version"]))
    seen["help"].append(seconds_of([str(PROGRAM), "--help"]))
    seen["bare"].append(bare_paint())


def run_app(seen: Series) -> None:
    """The app on the bundled checkpoint until it is ready and its engine has nothing left to do."""
    with Terminal([str(PROGRAM), str(CHECKPOINT)]) as terminal:
        terminal.read_until(READY_WORDS)
        (engine,) = children_of(terminal.process.pid)
        wait_until_idle(engine)
        seen["app MB"].append(resident_bytes(terminal.process.pid) / MIB)
        seen["engine MB"].append(resident_bytes(engine) / MIB)
    seen["paint"].append(terminal.recording.when(is_painted))
    seen["ready"].append(terminal.recording.when(is_ready))
    seen["KB"].append(terminal.recording.size / 1024)


def bare_paint() -> float:
    """Seconds until Textual alone has its one line on the screen."""
    with Terminal([sys.executable, "-c", BARE_APP]) as terminal:
        terminal.read_until(["a bare app"])
    return terminal.recording.when(lambda lines: "a bare app" in lines[0])


def is_painted(lines: Text) -> bool:
    """The whole first frame: the header names the checkpoint, the panes have their borders, the footer its keys."""
    return CHECKPOINT.name in lines[0] and "Model" in lines[1] and "quit" in lines[-1]


def is_ready(lines: Text) -> bool:
    """The tree has its sections, and the detail pane what also affected with the first layer, and why."""
    shown = "\n".join(lines)
    return all(word in shown for word in READY_WORDS)
