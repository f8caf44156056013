"""One pytest run in a forked child: the libraries are in memory already, the program is imported afresh, broken or not."""

from __future__ import annotations

import json
import os
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

OPTIONS = ("-q", "-p", "no:cacheprovider", "-p", "no:randomly", "--no-header")


@dataclass(frozen=True)
class Child:
    """A running child and where its answer will be."""

    process: int
    answer: Path
    ends: float


def start(work: Callable[[], Any], folder: Path, seconds: float) -> Child:
    """Run a function in a forked child that writes its result as JSON; what it prints goes to a file beside."""
    handle, name = tempfile.mkstemp(suffix=".json", dir=folder)
    os.close(handle)
    answer = Path(name)
    process = os.fork()
    if process:
        return Child(process, answer, time.monotonic() + seconds)
    status = 1
    try:
        log = os.open(answer.with_suffix(".log"), os.O_CREAT | os.O_WRONLY)
        os.dup2(log, 1)
        os.dup2(log, 2)
        answer.write_text(json.dumps(work()))
        status = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def result(child: Child) -> Any:
    """The child's answer; "running" while there is none, "never ends" after its time, "dies" where it left none."""
    done, _ = os.waitpid(child.process, os.WNOHANG)
    if not done:
        if time.monotonic() < child.ends:
            return "running"
        os.kill(child.process, signal.SIGKILL)
        os.waitpid(child.process, 0)
        return "never ends"
    text = child.answer.read_text()
    return json.loads(text) if text else "dies"


class Chosen:
    """A plugin that runs the chosen tests only, in their order, and remembers the first that fails."""

    def __init__(self, tests: Sequence[str]) -> None:
        self.places = {test: place for place, test in enumerate(tests)}
        self.failed = ""

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Choose and order."""
        items[:] = sorted((item for item in items if item.nodeid in self.places), key=lambda item: self.places[item.nodeid])

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Remember."""
        if report.failed and not self.failed:
            self.failed = report.nodeid


def first_failure(tests: Sequence[str]) -> str:
    """The first of the tests that fails, empty where none does. What cannot even be imported fails as well."""
    files = list(dict.fromkeys(test.partition("::")[0] for test in tests))
    chosen = Chosen(tests)
    status = pytest.main([*OPTIONS, "-x", *files], plugins=[chosen])
    return "" if status == pytest.ExitCode.OK else chosen.failed or "import"
