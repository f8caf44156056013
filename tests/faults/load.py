"""`python -m tests.faults load`: 10,000 cuts and undos in one engine, as many through one journal, and 300 through the interface.

Neither memory nor open files nor threads may grow after a warm-up, an action must not get slower, and the journal stays short.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from tests.faults.load_in_the_app import LAYERS
from tests.faults.resource_use import watched
from tests.jobs.narrow import SIDE, narrow, save_whole
from tui_pruner.engine.service import Service
from tui_pruner.storage import journal
from tui_pruner.storage.sessions import SavedSession, SessionFile, new_id

PAIRS, WARM_UP, IN_THE_APP = 10_000, 500, 300


def in_the_engine(checkpoint: Path, pairs: int = PAIRS) -> list[str]:
    """Cuts and undos, each proved in the background as ever, and waited for."""
    service = Service(lambda event, data: None)
    service.answer("open", {"path": str(checkpoint), "imgsz": SIDE})

    def act(number: int) -> None:
        service.answer("apply", {"requests": [{"layer": LAYERS[number % len(LAYERS)], "amount": f"{5 + number % 7 * 5}%"}]})
        service.slow.submit(int).result()
        service.answer("undo", {})

    try:
        return watched("engine, a cut and an undo", act, pairs, WARM_UP)
    finally:
        service.slow.shutdown()


def in_the_journal(pairs: int = PAIRS) -> list[str]:
    """Steps that come and go, each on the disk."""
    file = SessionFile(new_id("narrow.pt"))
    steps = [step_of(number) for number in range(40)]
    largest = 0

    def act(number: int) -> None:
        nonlocal largest
        for count in (number % len(steps) + 1, number % len(steps)):
            plan: dict[str, Any] = {"sha256": "0", "steps": steps[: number % len(steps) + 1]}
            file.keep(SavedSession(id=file.id, model="narrow.pt", plan=plan, steps=count, marks=["model.1"]))
        largest = max(largest, file._journal.file.stat().st_size)

    found = watched("journal, a cut and an undo", act, pairs, WARM_UP)
    print(f"      the journal was {largest / 1024:.0f} KiB at most and is {file._journal.file.stat().st_size / 1024:.0f} KiB", flush=True)
    file.close()
    whole = len(journal.line_of({"set": SavedSession(id=file.id, model="narrow.pt", plan={"steps": steps}, steps=40).state}))
    bound = max(journal.SMALLEST_TO_COMPACT, journal.GROWTH * whole) * 1.1
    return found + ([f"the journal grew to {largest} bytes, more than {bound:.0f}"] if largest > bound else [])


def step_of(number: int) -> dict[str, Any]:
    """A step as plans have them, with the channels that go."""
    removes = {f"model.{number % 20}.conv.weight": {"0": list(range(number, number + 30))}}
    return {"name": "", "cuts": [{"layer": f"model.{number % 20}", "amount": "25%", "criterion": "l2", "round_to": 1, "removes": removes}]}


def in_the_app(checkpoint: Path, pairs: int = IN_THE_APP) -> list[str]:
    """The same by the interface, which has a process of its own here as always."""
    command = [sys.executable, "-m", "tests.faults.load_in_the_app", str(checkpoint), str(pairs)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    print(done.stdout, end="", flush=True)
    return [f"interface: status {done.returncode}: {done.stdout.strip().splitlines()[-1:]}"] if done.returncode else []


def run(pairs: int = PAIRS, times_in_the_app: int = IN_THE_APP) -> list[str]:
    """All three; gives what grew."""
    with tempfile.TemporaryDirectory(prefix="load-") as folder:
        checkpoint = save_whole(narrow(Path(folder)), Path(folder, "narrow.pt"))
        found = in_the_engine(checkpoint, pairs) + in_the_journal(pairs)
        return found + in_the_app(checkpoint, times_in_the_app)
