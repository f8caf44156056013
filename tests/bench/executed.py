"""`python -m tests.bench.executed`: which files of the package run for one event, in all processes, until everything is quiet again.

Every process has a hook on calls (a `sitecustomize` that only this measurement puts in front; a trace that enters no function is
cheaper than a profile, which hears of C functions too). A file is counted where a function of it was
called, or where it was imported meanwhile; processes that start by the event count with all that they import. With `--list` the files are
printed, those that were only imported in brackets. With `--cpu`, no hook: processor milliseconds of interface and engine for each key.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import subprocess
import sys
import tempfile
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.bench.processes import seconds_used
from tests.bench.sandbox import CHECKPOINT, ROOT, temporary_home

DATA = CHECKPOINT.with_suffix(".yaml")
LAYER = "model.6.m.0.cv1"
KEYS = 100
QUIET = 1.5
"""Seconds in which nothing new is called: longer than the pause before a dry run and than the timers of the screen."""
MOST = {"right arrow": 30, "apply": 55, "scan": 75, "prune": 50}
HOOK = """
import os, sys, threading
FOLDER, ROOT = os.environ["EXECUTED_FOLDER"], os.environ["EXECUTED_ROOT"]
LOG = os.open(os.path.join(FOLDER, f"{os.getpid()}.log"), os.O_WRONLY | os.O_APPEND | os.O_CREAT)
SEEN = {"": set()}
EVENT = os.path.join(FOLDER, "event")
import mmap
with open(EVENT, "r+b") as file:
    NOW = mmap.mmap(file.fileno(), 1)
def hook(frame, event, argument):
    code = frame.f_code
    name = code.co_filename
    if not NOW[0] or not name.startswith(ROOT):
        return
    key = (NOW[0], name, code.co_name)
    if key not in SEEN[""]:
        SEEN[""].add(key)
        os.write(LOG, f"{key[0]} {name[len(ROOT):]} {key[2]}\\n".encode())
threading.settrace(hook)
sys.settrace(hook)
"""
"""Writes what is called while the number in the file `event` is not 0, once for each number, file and function."""


class Recorder:
    """The switch of all hooks, and what they wrote."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._event = folder / "event"
        self._event.write_bytes(b"\0")
        self._number = 0

    def begin(self) -> None:
        """Record from now on."""
        self._number += 1
        with self._event.open("r+b") as file:
            file.write(bytes([self._number]))

    def end(self) -> dict[str, set[str]]:
        """Stop; gives the functions that ran, by file."""
        with self._event.open("r+b") as file:
            file.write(b"\0")
        return self.found()

    def found(self) -> dict[str, set[str]]:
        """What has been called since the beginning."""
        called: dict[str, set[str]] = {}
        for log in self._folder.glob("*.log"):
            for line in log.read_text().splitlines():
                number, file, function = line.split(" ", 2)
                if int(number) == self._number:
                    called.setdefault(file, set()).add(function)
        return called


@contextmanager
def hooked() -> Iterator[Recorder]:
    """Have the children of this process record, and this process too."""
    with tempfile.TemporaryDirectory(prefix="tui-pruner-executed-") as name:
        folder = Path(name)
        recorder = Recorder(folder)
        (folder / "sitecustomize.py").write_text(HOOK)
        os.environ |= {
            "EXECUTED_FOLDER": name,
            "EXECUTED_ROOT": f"{ROOT / 'tui_pruner'}{os.sep}",
            "PYTHONPATH": os.pathsep.join([name, str(ROOT)]),
        }
        exec(HOOK, {})  # this process began without it
        yield recorder
        sys.settrace(None)


async def quiet(recorder: Recorder) -> None:
    """Wait until nothing new was called for a while."""
    before, since = -1, 0.0
    while since < QUIET:
        await asyncio.sleep(0.1)
        now = sum(map(len, recorder.found().values()))
        before, since = now, since + 0.1 if now == before else 0.0


async def at_the_desk(measure: Callable[..., Awaitable[None]]) -> None:
    """The app on the bundled checkpoint in a terminal of 120x40, on a layer, at rest."""
    from tests.tui.helpers import Desk, until
    from tui_pruner.tui.app import PrunerApp
    from tui_pruner.tui.opening import Opening

    app = PrunerApp(Opening(str(CHECKPOINT), data=str(DATA)))
    async with app.run_test(size=(120, 40), notifications=True) as pilot:
        desk = Desk(app, pilot)
        await until(pilot, lambda: desk.ready, "the model")
        await desk.until(lambda: not desk.queue.busy and not desk.state.doing, "nothing at work")
        await desk.go(LAYER)
        await measure(desk)


Result = dict[str, dict[str, set[str]]]


def of_the_app(recorder: Recorder) -> Result:
    """A key, a step with its proof and validation, and a scan."""
    found: Result = {}

    async def measure(desk) -> None:  # type: ignore[no-untyped-def]
        async def record(event: str, keys: str, over: Callable[[], bool]) -> None:
            print(event, file=sys.stderr)
            recorder.begin()
            await desk.press(keys)
            await desk.until(over, event)
            await quiet(recorder)
            found[event] = recorder.end()

        await desk.press("right")
        await desk.previewed()
        await asyncio.sleep(QUIET)
        await record("nothing", "f20", lambda: True)
        await record("right arrow", "right", lambda: desk.state.dry_run is not None)
        await record("down arrow", "down", lambda: True)
        await record("apply", "a", lambda: bool(desk.state.session.steps) and desk.state.metrics.measurement_of_step(1) is not None)
        if desk.app.screen is not desk.bench:
            raise RuntimeError("a question came up")
        await record("scan", "S", lambda: desk.state.scan is not None)

    asyncio.run(at_the_desk(measure))
    return found


def of_the_command_line(recorder: Recorder) -> Result:
    """One command that cuts and writes."""
    recorder.begin()
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "tui_pruner", "prune", str(CHECKPOINT), "--cut", f"{LAYER}=30%", "-o", f"{folder}/a.pt"]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return {"prune": recorder.end()}


def processor_time() -> None:
    """Print the processor milliseconds of both processes for each right arrow, without a hook."""

    async def measure(desk) -> None:  # type: ignore[no-untyped-def]
        await desk.press("right")
        await desk.previewed()
        engine = desk.engine._client._process.pid
        for round_number in range(3):
            before = seconds_used(os.getpid()), seconds_used(engine)
            for number in range(KEYS):
                await desk.press("right" if number % 60 < 30 else "left")
                await asyncio.sleep(0.03)
            await asyncio.sleep(1)
            spent = [1000 * (now - then) / KEYS for now, then in zip((seconds_used(os.getpid()), seconds_used(engine)), before)]
            print(f"right arrow, round {round_number + 1}: interface {spent[0]:.2f} ms, engine {spent[1]:.2f} ms of processor time a key")

    asyncio.run(at_the_desk(measure))


def main() -> None:
    """Print the number of files for each event."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--list", action="store_true", help="name the files and the functions")
    options.add_argument("--cpu", action="store_true", help="measure processor time instead")
    options.add_argument("--only", default="", help="app or prune")
    options = options.parse_args()
    with temporary_home():
        if options.cpu:
            processor_time()
            return
        with hooked() as recorder:
            found: Result = {}
            if options.only != "prune":
                found |= of_the_app(recorder)
            if options.only != "app":
                found |= of_the_command_line(recorder)
    for event, called in found.items():
        run = {file for file, functions in called.items() if functions != {"<module>"}}
        wanted = f", wanted {MOST[event]}" if event in MOST else ""
        print(f"{event}: {len(called)} files ran{wanted}; {len(called) - len(run)} of them were only imported")
        if options.list:
            for file in sorted(called):
                functions = sorted(called[file] - {"<module>"})
                print(f"    {file:44} {', '.join(functions[:8])}" if functions else f"    ({file})")


if __name__ == "__main__":
    main()
