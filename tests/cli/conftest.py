"""The command line called in this process with both streams read back, and one checkpoint that it pruned."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import ultralytics  # noqa: F401  # its log handler keeps the stdout of anyone who imports it first, which must not be one test's

from tests.deadlines import HANGING
from tests.warm_processes import heed_interrupts
from tui_pruner.__main__ import run

CUTS = ("model.6.m.*.cv1=30%", "6.cv1=25%", "model.12.cv2=20%")
FIELD_MODEL = ("yolov8n.yaml", "--classes", "7")


@dataclass(frozen=True)
class Answer:
    """What one call came to."""

    status: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        """The JSON document that is alone on stdout."""
        return json.loads(self.out)

    @property
    def remarks(self) -> list[str]:
        """The lines on stderr."""
        return self.err.splitlines()


Call = Callable[..., Answer]


@pytest.fixture
def call(capfd: pytest.CaptureFixture[str]) -> Call:
    """Runs a command line in this process."""

    def calling(*arguments: object) -> Answer:
        capfd.readouterr()
        status = run([str(argument) for argument in arguments])
        return Answer(status, *capfd.readouterr())

    return calling


def start(*arguments: object, **options: Any) -> subprocess.Popen[str]:
    """The command line as a process of its own, with pipes."""
    command = [sys.executable, "-m", "tui_pruner", *map(str, arguments)]
    return subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=heed_interrupts, **options
    )


def spawn(*arguments: object, **options: Any) -> Answer:
    """The command line as a process of its own, until it ends."""
    process = start(*arguments, **options)
    out, err = process.communicate(timeout=HANGING)
    return Answer(process.returncode, out, err)


@dataclass(frozen=True)
class Pruned:
    """A checkpoint that `prune` wrote, and what it said about it."""

    file: Path
    plan: Path
    answer: Answer


@pytest.fixture(scope="session")
def pruned(demo_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Pruned:
    """The bundled checkpoint, pruned once by a process of its own."""
    folder = tmp_path_factory.mktemp("pruned")
    file, plan = folder / "digits-pruned.pt", folder / "plan.yaml"
    cuts = [part for cut in CUTS for part in ("--cut", cut)]
    answer = spawn("prune", demo_checkpoint, *cuts, "-o", file, "--save-plan", plan, "--json")
    assert answer.status == 0, answer.err
    return Pruned(file, plan, answer)


@pytest.fixture
def own_checkpoint(demo_checkpoint: Path, tmp_path: Path) -> Path:
    """A copy of the bundled checkpoint in the test's own folder."""
    copied = tmp_path / "best.pt"
    copied.write_bytes(demo_checkpoint.read_bytes())
    return copied
