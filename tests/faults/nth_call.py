"""`python -m tests.faults nth_call`: each call on the disk fails in turn, while a model, a plan and the journal of a session are written.

No matter what fails, the old file is intact or the new one is complete, the error is one line, no descriptor stays open, and once the disk
works again the same can be done and leaves no stray file. A journal never says less than what was acknowledged.
"""

from __future__ import annotations

import errno
import itertools
import os
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol
from unittest.mock import patch

import torch
from torch import nn

from tests.faults.failing_disk import ERRORS, OPERATIONS, FailingDisk, Fault
from tests.faults.journalling import Journalling
from tests.jobs.narrow import SIDE, short
from tui_pruner.core.model.analysis import analyse
from tui_pruner.core.pruning.plan import dump_yaml, save_plan
from tui_pruner.core.pruning.session import PruningSession
from tui_pruner.core.pruning.surgery import cut
from tui_pruner.domain.cuts import parse_request
from tui_pruner.domain.errors import PrunerError
from tui_pruner.frameworks.ultralytics import write_checkpoint, writing
from tui_pruner.storage import paths
from tui_pruner.storage.atomic import remove_leftovers

REFUSED, DONE = "refused in one line", "done all the same"


class Work(Protocol):
    """Something that is written: done on a failing disk, looked at, and done again on a working one; both looks say what is wrong."""

    name: str

    def prepare(self, folder: Path) -> None: ...
    def attempt(self, disk: FailingDisk) -> Iterator[Exception]: ...
    def look(self, folder: Path, done: bool) -> Iterator[str]: ...
    def again(self, folder: Path) -> Iterator[str]: ...


@dataclass(frozen=True)
class Writing:
    """A file that is written, over an old one or where there was none."""

    name: str
    file: str
    write: Callable[[Path, bool], object]
    complete: Callable[[Path], bool]
    old: bytes | None = None

    def prepare(self, folder: Path) -> None:
        """Have the old file there."""
        if self.old is not None:
            (folder / self.file).write_bytes(self.old)

    def attempt(self, disk: FailingDisk) -> Iterator[Exception]:
        """Write it once; gives the refusal."""
        try:
            self.write(disk.folder / "out" / self.file, self.old is not None)
        except (PrunerError, OSError) as error:
            yield error

    def look(self, folder: Path, done: bool) -> Iterator[str]:
        """Whether the file is the old or the complete new one."""
        file = folder / self.file
        there = file.read_bytes() if file.exists() else None
        if there != self.old and not self.complete(file):
            yield f"the file is neither the old nor the complete new one: {len(there or b'')} bytes"
        elif there == self.old and done:
            yield "it was said to be written, and is not"

    def again(self, folder: Path) -> Iterator[str]:
        """Whether it can be written now, without anything left beside it."""
        self.write(folder / self.file, (folder / self.file).exists())
        yield from self.look(folder, True)
        if names := [path.name for path in folder.iterdir() if path.name != self.file]:
            yield f"{names} were left"


def tried(work: Work, fault: Fault | None, found: list[str]) -> tuple[bool, str]:
    """Do it in an empty home on a disk with a fault; whether that was hit, and what came of it. What is wrong goes to `found`."""
    with tempfile.TemporaryDirectory(prefix="nth-call-") as home, patch.dict(os.environ, XDG_STATE_HOME=f"{home}/state"):
        disk, folder = FailingDisk(Path(home), fault), Path(home, "out")
        folder.mkdir()
        work.prepare(folder)
        open_before = descriptors()
        with disk.used():
            refusals = list(work.attempt(disk))
        wrong = [f"not one line: {error}" for error in refusals if len(str(error).splitlines()) != 1]
        if fault is None and refusals:
            wrong.append(f"refused without a fault: {refusals[0]}")
        wrong += work.look(folder, not refusals)
        if descriptors() != open_before:
            wrong.append("a descriptor stays open")
        remove_leftovers()
        try:
            wrong += work.again(folder)
        except (PrunerError, OSError) as error:
            wrong.append(f"it cannot be done again: {error}")
        if (pending := paths.state_folder() / "pending").exists() and (notes := list(pending.iterdir())):
            wrong.append(f"{len(notes)} notes were left")
        found += [f"{work.name}, {fault or 'no fault'}: {what}" for what in wrong]
        return disk.failed > 0, REFUSED if refusals else DONE


def descriptors() -> int:
    """How many files this process has open."""
    return len(list(Path("/dev/fd").iterdir()))


def every_fault(work: Work, found: list[str], errors: Iterable[int] = ERRORS, step: int = 1) -> Counter[tuple[str, str]]:
    """Fail each call of each kind with each error, once and from then on, until nothing is left to fail; counts what came of it."""
    outcomes: Counter[tuple[str, str]] = Counter()
    tried(work, None, found)
    for operation, error, lasting in itertools.product(OPERATIONS, errors, (False, True)):
        for number in itertools.count(1, step):
            hit, outcome = tried(work, Fault(operation, number, error, lasting), found)
            if not hit:
                break
            outcomes[operation, outcome] += 1
    return outcomes


def writings(folder: Path) -> list[Writing]:
    """A pruned model and its plan: where nothing was, over an old file, and where there are no hard links."""
    checkpoint = short(folder)
    analysis = analyse(checkpoint, SIDE)
    session = PruningSession(analysis)
    session.apply([parse_request("model.1=25%")])
    pruned = cut(checkpoint.model, analysis.coupling, session.removal)
    kept, plan = session.removal.kept(analysis.coupling), session.plan

    def write(file: Path, force: bool) -> None:
        write_checkpoint(pruned, checkpoint, file, plan=plan.plain(), kept=kept, proof={"equal": True}, force=force)

    def write_without_links(file: Path, force: bool) -> None:
        with patch.object(os, "link", side_effect=OSError(errno.EPERM, "Operation not permitted")):
            write(file, force)

    def same_plan(file: Path) -> bool:
        return file.read_bytes() == dump_yaml(plan).encode()

    def same_model(file: Path) -> bool:
        return same_weights(file, pruned)

    return [
        Writing("plan", "plan.yaml", lambda file, force: save_plan(file, plan), same_plan),
        Writing("plan over an old one", "plan.yaml", lambda file, force: save_plan(file, plan), same_plan, b"old"),
        Writing("model", "pruned.pt", write, same_model),
        Writing("model over an old one", "pruned.pt", write, same_model, b"old"),
        Writing("model without hard links", "pruned.pt", write_without_links, same_model),
    ]


def same_weights(file: Path, model: nn.Module) -> bool:
    """Whether a file has exactly a model's weights."""
    try:
        found = torch.load(file, weights_only=False)["model"].state_dict()
    except Exception:
        return False
    return all(
        torch.equal(tensor.half() if tensor.is_floating_point() else tensor, found[name]) for name, tensor in model.state_dict().items()
    )


@contextmanager
def quick_verification() -> Iterator[None]:
    """The check in a clean process takes three seconds and fails for reasons of its own: here a reload in this process stands for it."""

    def reload(file: Path, saved: nn.Module, own_names: Any = ()) -> tuple[Any, ...]:
        torch.load(file, weights_only=False)
        return ()

    with patch.object(writing, "verify", reload):
        yield


def run() -> list[str]:
    """Every fault for every kind of writing; gives what went wrong."""
    found: list[str] = []
    with tempfile.TemporaryDirectory(prefix="nth-call-") as folder, quick_verification():
        for work in (*writings(Path(folder)), Journalling()):
            outcomes = every_fault(work, found)
            print(f"      {work.name}: {sum(outcomes.values())} faults", flush=True)
            for operation in OPERATIONS:
                print(f"        {operation:12} {outcomes[operation, REFUSED]:4} {REFUSED} {outcomes[operation, DONE]:4} {DONE}", flush=True)
    return found
