"""`python -m tests.faults hostile`: files that want to run something, opened, previewed, cut and written by the engine.

A canary file must not appear, a guarded one must not change, and no one may call the listening socket. Each file is then given to plain
`torch.load` as well, in a process of its own: a trap that springs nowhere would prove nothing.
"""

from __future__ import annotations

import contextlib
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any

from tests.faults.archives import PICKLE, loaded, members_of, write_archive
from tests.faults.reader import BAD, LONGEST, OPENED, Outcome, Reader, reader
from tests.faults.traps import PAYLOADS, POISONED, Trap, trap
from tests.jobs.narrow import narrow, save_whole
from tui_pruner.engine.processes import child_environment

FEWEST_THAT_SPRING = 15
PLAINLY = "import sys, torch, ultralytics; torch.load(sys.argv[1], weights_only=False)"
Make = Callable[[Path, Path, Trap], None]


@dataclass(frozen=True)
class Attempt:
    """One hostile file: what the engine made of it, whether its trap sprang there, and whether it does elsewhere."""

    kind: str
    outcome: Outcome
    sprung: bool
    springs_elsewhere: bool


def with_payload(payload: Callable[[Trap], bytes]) -> Make:
    """A good checkpoint with one more entry, which wants something."""

    def make(original: Path, path: Path, trap: Trap) -> None:
        members = members_of(original)
        wanting = members[PICKLE][:-1] + b"X\x05\0\0\0extra" + payload(trap) + b"s."
        write_archive(path, {**members, PICKLE: wanting})

    return make


def poisoned(poison: Callable[[dict[str, Any], Path, Trap], None]) -> Make:
    """A good checkpoint in which something harmless-looking is not."""
    return lambda original, path, trap: poison(loaded(original), path, trap)


KINDS: dict[str, Make] = {
    **{kind: with_payload(payload) for kind, payload in PAYLOADS.items()},
    **{kind: poisoned(poison) for kind, poison in POISONED.items()},
}


def used(engine: Reader, path: Path) -> Outcome:
    """What comes of opening a file, and where that is possible of all that one does with it."""
    cuts = [{"layer": "model.4.m.0.cv1", "amount": "50%"}]
    outcome = engine.open(path, imgsz=64)
    for method, params in (
        ("preview", {"requests": cuts}),
        ("apply", {"requests": cuts}),
        ("write", {"path": str(path.with_name("written.pt")), "force": True}),
    ):
        if outcome.kind != OPENED:
            return outcome
        if obeyed := [text for text in texts_in(engine.result) if not text.isprintable()]:
            return replace(outcome, message=obeyed[0])
        outcome = engine.ask(method, **params)
    return outcome


def texts_in(content: Any) -> Iterator[str]:
    """All strings in plain data, keys too."""
    if isinstance(content, str):
        yield content
    elif isinstance(content, dict):
        yield from chain.from_iterable(map(texts_in, (*content.keys(), *content.values())))
    elif isinstance(content, list):
        yield from chain.from_iterable(map(texts_in, content))


def attempt(kind: str, original: Path, engine: Reader, folder: Path, elsewhere: bool = True) -> Attempt:
    """Make a hostile file and use it."""
    with trap(folder) as ours:
        path = folder / "hostile.pt"
        KINDS[kind](original, path, ours)
        outcome, sprung = used(engine, path), ours.sprung
    if not elsewhere:
        return Attempt(kind, outcome, sprung, False)
    with trap(folder) as theirs:
        KINDS[kind](original, path, theirs)
        with contextlib.suppress(subprocess.TimeoutExpired):  # it waits for an answer of our socket
            subprocess.run([sys.executable, "-c", PLAINLY, str(path)], timeout=LONGEST, **alone())
        return Attempt(kind, outcome, sprung, theirs.sprung)


def alone() -> dict[str, Any]:
    """How a process is run that no one hears."""
    return {"env": child_environment(), "stdin": subprocess.DEVNULL, "capture_output": True, "check": False}


def fault(found: Attempt) -> str:
    """What must not have happened; empty where nothing did."""
    if found.sprung:
        return f"{found.kind}: it sprang"
    if found.outcome.kind in BAD or not found.outcome.message.isprintable():
        return f"{found.kind}: {found.outcome.kind}: {found.outcome.message!r}"
    return ""


def run() -> list[str]:
    """Try all and tell what came of each; gives what must not have happened."""
    with tempfile.TemporaryDirectory(prefix="hostile-") as name, reader() as engine:
        folder = Path(name)
        original = save_whole(narrow(folder), folder / "original.pt")
        attempts = [attempt(kind, original, engine, folder) for kind in KINDS]
    for found in attempts:
        springs = "springs in torch.load" if found.springs_elsewhere else "-"
        print(f"      {found.kind:44} {found.outcome.kind:8} {springs:22} {found.outcome.message[len(str(folder)) :][:90]}")
    springing = sum(found.springs_elsewhere for found in attempts)
    refused = sum(found.outcome.kind != OPENED for found in attempts)
    print(f"      {len(attempts)} files, {refused} refused; {springing} spring in plain torch.load, {sum(a.sprung for a in attempts)} here")
    few = [f"only {springing} of the traps work"] if springing < FEWEST_THAT_SPRING else []
    return [*few, *filter(None, map(fault, attempts))]
