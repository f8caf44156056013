"""The app in a pseudo-terminal, killed or hung up on at random moments: what the screen showed comes back with `--resume`."""

from __future__ import annotations

import contextlib
import random
import re
import signal
import sys
import tempfile
import threading
from collections import Counter
from pathlib import Path

from tests.deadlines import wait_until
from tests.faults.kill_loop import alive, descendants, prepared, strays
from tests.terminal import Terminal

RUNS = 60
SIGNALS = (signal.SIGKILL, signal.SIGKILL, signal.SIGKILL, signal.SIGHUP, signal.SIGTERM)
LAYERS = ("model.1", "model.3", "model.5", "model.7", "model.16")
STEP = re.compile(r"^│ +(\d+) (model[.]\d+ -\d+%) ", re.MULTILINE)
Shown = dict[int, str]
"""Applied steps by their numbers, as far as the pane has room."""


def once(command: list[str], expected: Shown, chance: random.Random) -> tuple[Shown, str]:
    """One life: what was shown last, and what went wrong."""
    with Terminal(command, 160, 40) as terminal:
        terminal.wait_for("Backbone")
        if expected:
            terminal.wait_for("back in the session")
            with contextlib.suppress(AssertionError):  # what is missing is told below, with what came back
                terminal.wait_for(lambda text: max(steps_in(text), default=0) >= max(expected))
        back = shown = steps_on(terminal)
        timer = threading.Timer(chance.uniform(0.2, 5.0), end_with, [terminal, chance.choice(SIGNALS)])
        timer.start()
        family: list[int] = []
        while terminal.process.poll() is None:
            family = descendants(terminal.process.pid) or family
            shown = cut_once(terminal, shown, chance)
        timer.join()
        try:
            wait_until(lambda: not any(map(alive, family)), "the end of its family")
        except AssertionError:
            return shown, "orphans were left"
        return shown, "" if comes_after(back, expected) else f"came back with {back}, had shown {expected}"


def end_with(terminal: Terminal, number: int) -> None:
    """A dropped line, a kill or a polite request."""
    terminal.process.send_signal(number)


def cut_once(terminal: Terminal, shown: Shown, chance: random.Random) -> Shown:
    """Type one cut and wait until the screen has it or the program is gone; gives what was shown last."""
    last = max(shown, default=0)
    with contextlib.suppress(OSError, AssertionError):  # it has just ended
        terminal.press("/", chance.choice(LAYERS), "enter", f"{chance.randint(5, 30)}", "enter", "a")
        terminal.wait_for(lambda text: max(steps_in(text), default=0) > last or terminal.process.poll() is not None)
    return steps_on(terminal) or shown


def comes_after(back: Shown, expected: Shown) -> bool:
    """Whether what came back is what was shown, or one step more, which was under way."""
    same = all(back[number] == title for number, title in expected.items() if number in back)
    last = max(expected, default=0)
    return same and max(back, default=0) in (last, last + 1)


def steps_on(terminal: Terminal) -> Shown:
    """The applied steps on the screen."""
    return steps_in(terminal.text)


def steps_in(text: str) -> Shown:
    """The rows of the steps pane."""
    return {int(number): title for number, title in STEP.findall(text)}


def run(runs: int = RUNS, seed: int = 1) -> list[str]:
    """Kill this many; gives what went wrong."""
    faults: list[str] = []
    kinds: Counter[str] = Counter()
    with tempfile.TemporaryDirectory(prefix="kill-in-terminal-") as folder:
        before = tempfile.tempdir
        try:
            loop = prepared(Path(folder), seed)
            program = [sys.executable, "-m", "tui_pruner"]
            shown: Shown = {}
            for number in range(runs):
                command = [*program, *(["--resume"] if shown else [str(loop.checkpoint), "--imgsz", "64"])]
                shown, fault = once(command, shown, loop.chance)
                kinds[fault or "well"] += 1
                faults += [f"life {number}: {fault}"] if fault else []
            faults += [f"{stray} was left" for stray in strays(loop.folder)]
        finally:
            tempfile.tempdir = before
    print(f"      {runs} lives in a terminal: {dict(kinds)}", flush=True)
    return faults


if __name__ == "__main__":
    sys.exit(1 if run(int(sys.argv[1]) if len(sys.argv) > 1 else RUNS) else 0)
