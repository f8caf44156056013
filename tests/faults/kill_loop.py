"""Random processes killed at random moments: what the screen showed is there afterwards, files are whole, nothing is left running.

The app is the real one without a terminal (`random_user.py`); `kill_in_terminal.py` does the same with keys in a pseudo-terminal.
"""

from __future__ import annotations

import json
import os
import queue
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.deadlines import HANGING, wait_until
from tests.jobs.conftest import draw_scenes
from tests.jobs.narrow import narrow, save_whole
from tui_pruner.domain.errors import PrunerError
from tui_pruner.frameworks.ultralytics import read_checkpoint
from tui_pruner.storage import paths
from tui_pruner.storage.atomic import WRITING
from tui_pruner.storage.journal import is_held, read
from tui_pruner.storage.sessions import SavedSession

RUNS = 240
MOST_ENGINES = 3
"""Engines that are killed in one life of the interface: the fifth death in three minutes would rightly be the last."""
UNDER_WAY = 3
INTERFACE, ENGINE, JOB = "interface", "engine", "job"


@dataclass
class Life:
    """One life of the interface: the process, and what it said."""

    process: subprocess.Popen[str]
    lines: queue.Queue[dict[str, Any]] = field(default_factory=queue.Queue)
    shown: list[str] = field(default_factory=list)
    ahead: list[str] = field(default_factory=list)
    did: str = ""
    resumed: bool = False
    engines_killed: int = 0

    def listen(self) -> None:
        """Collect what it says, from a thread."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if line.startswith("{"):
                self.lines.put(json.loads(line))

    def follow(self, seconds: float, until: str = "") -> bool:
        """Take in what it says for so long, or until it says something; whether it did."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            try:
                said = self.lines.get(timeout=left)
            except queue.Empty:
                break
            self.shown, self.ahead = said.get("shows", self.shown), said.get("ahead", self.ahead)
            self.did, self.resumed = said.get("does", self.did), self.resumed or "resumed" in said
            if until and until in said:
                return True
        return False


@dataclass
class Loop:
    """The state between lives: where everything is, what stood on the screen last, and what went wrong."""

    folder: Path
    checkpoint: Path
    data: Path
    chance: random.Random
    shown: list[str] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    kills: Counter[str] = field(default_factory=Counter)
    during: Counter[str] = field(default_factory=Counter)

    @property
    def output(self) -> Path:
        """The file that is written over and over."""
        return self.folder / "out" / "pruned.pt"

    def fault(self, what: str, life: Life | None = None) -> None:
        """Note what must not happen."""
        during = f" during {life.did}" if life else ""
        self.faults.append(f"run {sum(self.kills.values())}{during}: {what}")
        print(f"      {self.faults[-1]}", flush=True)

    def begin(self) -> Life:
        """Start the app, which goes on with the session that the last life left."""
        seed = str(self.chance.randrange(1 << 30))
        command = [sys.executable, "-m", "tests.faults.random_user", str(self.checkpoint), str(self.data), str(self.output), seed]
        log = (self.folder / "hand.log").open("ab")
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True, start_new_session=True)
        life = Life(process)
        threading.Thread(target=life.listen, daemon=True).start()
        if not life.follow(HANGING, until="ready"):
            self.fault("the app did not come up again", life)
        if self.shown and not life.resumed:
            self.fault(f"no session was offered, but {len(self.shown)} steps had been shown", life)
        life.follow(0.5)
        if self.shown and [*life.shown, *life.ahead][: len(self.shown)] != self.shown and not follows(life.shown, self.shown):
            self.fault(f"the session came back with {life.shown}, the screen had shown {self.shown}", life)
        for stray in strays(self.folder):
            self.fault(f"{stray} was left by an earlier life", life)
        return life

    def run(self, runs: int) -> None:
        """Lives and deaths until this many were killed."""
        while sum(self.kills.values()) < runs and len(self.faults) < 10:
            life = self.begin()
            while life.process.poll() is None and sum(self.kills.values()) < runs:
                life.follow(self.chance.uniform(0.0, 2.0))
                self.kill(life, self.victim(life))
            if sum(self.kills.values()) % 20 < 3:
                print(f"      {sum(self.kills.values())} killed: {dict(self.kills)}", flush=True)
            if life.process.poll() is None:
                self.kill_interface(life)

    def victim(self, life: Life) -> str:
        """Whom to kill now."""
        kinds = {kind for _, kind in children(life.process.pid)}
        choices = [INTERFACE, *([JOB] * 2 if JOB in kinds else [])]
        if ENGINE in kinds and life.engines_killed < MOST_ENGINES:
            choices.append(ENGINE)
        return self.chance.choice(choices)

    def kill(self, life: Life, victim: str) -> None:
        """Kill one process of a life, and look at what is there."""
        self.kills[victim] += 1
        self.during[life.did] += 1
        if victim == INTERFACE:
            self.kill_interface(life)
            return
        before = list(life.shown)
        for pid, kind in children(life.process.pid):
            if kind == victim:
                end(pid)
        if victim == ENGINE:
            life.engines_killed += 1
            life.follow(2.5)
            if not life.shown and len(before) > 1:
                self.fault(f"the steps {before} were lost with the engine", life)

    def kill_interface(self, life: Life) -> None:
        """Kill the interface; its children must end by themselves."""
        family = descendants(life.process.pid)
        end(life.process.pid)
        life.process.wait()
        life.follow(0.3)
        try:
            wait_until(lambda: not any(map(alive, family)), "the end of its family")
        except AssertionError:
            self.fault(f"orphans: {[command_of(pid) for pid in family if alive(pid)]}", life)
        self.shown = life.shown
        self.look(life)

    def look(self, life: Life) -> None:
        """What is on the disk after a death."""
        files = list(paths.sessions_folder().glob("*.jsonl"))
        kept = [SavedSession.of_state(read(file).state) for file in files if read(file).state]
        newest = max(kept, key=lambda session: session.saved_at, default=None)
        titles = [] if newest is None else [title_of(step) for step in newest.plan["steps"]]  # the undone ones too
        if life.shown and newest is None:
            self.fault(f"{life.shown} had been shown, and no session is kept", life)
        elif newest is not None and titles[: len(life.shown)] != life.shown and not follows(titles[: newest.steps], life.shown):
            self.fault(f"the journal has {newest.steps} of {titles}, the screen had shown {life.shown}", life)
        for file in files:
            if is_held(file):
                self.fault(f"{file.name} is still locked", life)
        if self.output.exists():
            try:
                read_checkpoint(self.output)
            except PrunerError as error:
                self.fault(f"the written file is damaged: {error}", life)


def follows(now: list[str], before: list[str]) -> bool:
    """Whether steps are those that were shown, or what the few actions that were under way make of them."""
    common = next((place for place, (a, b) in enumerate(zip(now, before)) if a != b), min(len(now), len(before)))
    return common >= len(before) - 1 and len(now) <= len(before) + UNDER_WAY


def title_of(step: dict[str, Any]) -> str:
    """A kept step as the screen names it."""
    cut = step["cuts"][0]
    return step.get("name") or f"{cut['layer']} -{cut['amount']}"


def strays(folder: Path) -> list[Path]:
    """Temporary files that no one works on any more: what writes now has a note."""
    working = {Path(os.fsdecode(note.read_bytes())) for note in (paths.state_folder() / "pending").glob("*")}
    roots = (folder / "out", paths.state_folder(), paths.cache_folder())
    found = [path for root in roots for path in root.rglob(f"{WRITING}*")] + list(Path(tempfile.gettempdir()).glob("tui-pruner-job-*"))
    return [path for path in found if path not in working]


def children(pid: int) -> list[tuple[int, str]]:
    """The engine and the jobs of an interface."""
    kinds = {"tui_pruner.engine": ENGINE, "tui_pruner.jobs": JOB}
    found = [(child, command_of(child)) for child in children_of(pid)]
    return [(child, kind) for child, command in found for module, kind in kinds.items() if module in command]


def descendants(pid: int) -> list[int]:
    """All processes below one."""
    return [below for child in children_of(pid) for below in (child, *descendants(child))]


def children_of(pid: int) -> list[int]:
    """The processes that a process has started; none where it is gone."""
    try:
        tasks = list(Path(f"/proc/{pid}/task").iterdir())
        return [int(child) for task in tasks for child in (task / "children").read_text().split()]
    except OSError:
        return []


def alive(pid: int) -> bool:
    """Whether a process runs; a dead one that no one has waited for does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in ("Z", "X")
    except OSError:
        return False


def command_of(pid: int) -> str:
    """What was started."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
    except OSError:
        return ""


def end(pid: int) -> None:
    """SIGKILL, unless it has just ended."""
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return


def prepared(folder: Path, seed: int) -> Loop:
    """A narrow checkpoint, four images, and a folder to write into."""
    (folder / "out").mkdir()
    (folder / "tmp").mkdir()
    tempfile.tempdir = os.environ["TMPDIR"] = str(folder / "tmp")
    checkpoint = save_whole(narrow(folder), folder / "narrow.pt")
    return Loop(folder, checkpoint, draw_scenes(folder / "scenes", 4), random.Random(seed))


def run(runs: int = RUNS, seed: int = 0) -> list[str]:
    """Kill this many; gives what went wrong."""
    with tempfile.TemporaryDirectory(prefix="kill-loop-") as folder:
        before = tempfile.tempdir
        try:
            loop = prepared(Path(folder), seed)
            loop.run(runs)
        finally:
            tempfile.tempdir = before
    print(f"      killed {sum(loop.kills.values())}: {dict(loop.kills)}, during {dict(loop.during)}; {len(loop.faults)} faults", flush=True)
    return loop.faults


if __name__ == "__main__":
    sys.exit(1 if run(int(sys.argv[1]) if len(sys.argv) > 1 else RUNS) else 0)
