"""A pytest plugin that, in place of running the suite once, runs parts of it many times: healthy, then with one thing broken at a time.

The tests are collected once; every run is a forked child of this process.
"""

from __future__ import annotations

import ast
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.mutation.breaking import break_module, tree_of
from tests.mutation.changes import changes
from tests.mutation.children import RUNNING, result, start, wait
from tests.mutation.recording import Recorder

LONGEST = 1800.0
LEAST = 60.0
NEARBY = 12


@dataclass(frozen=True)
class Mutant:
    """A change of a module, by its number there."""

    module: str
    number: int
    function: str
    line: int
    what: str
    reach: str

    @property
    def place(self) -> str:
        """Module and function, short."""
        return f"{self.module.rpartition('.')[2]}.{self.function}"


@dataclass(frozen=True)
class Outcome:
    """What became of a mutant: the test that noticed (or how the child ended), empty where none did; whether any test reaches it."""

    mutant: Mutant
    noticed: str
    reached: bool = True


def mutants(modules: Sequence[str]) -> list[Mutant]:
    """Every change of these modules."""
    found = []
    for module in modules:
        tree = tree_of(module)
        for number, change in enumerate(changes(module, tree)):
            reach = change.reach or f"line {change.line}"
            touched = f"{module} {reach}" if reach.startswith("line") else reach
            found.append(Mutant(module, number, function_at(tree, change.line), change.line, change.what, touched))
    return found


def function_at(tree: ast.Module, line: int) -> str:
    """The name of the innermost function around a line."""
    around = [f for f in ast.walk(tree) if isinstance(f, ast.FunctionDef) and f.lineno <= line <= (f.end_lineno or 0)]
    return max(around, key=lambda function: function.lineno).name if around else "module"


class FirstFailure:
    """A plugin that remembers the first test that fails."""

    def __init__(self) -> None:
        self.test = ""

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Remember."""
        if report.failed and not self.test:
            self.test = report.nodeid


class Laboratory:
    """Runs mutants a few at a time; `outcomes` is what became of them, `ailing` the tests that fail with nothing broken."""

    def __init__(self, found: Sequence[Mutant], seconds: float, children: int, say: Callable[[Outcome], None]) -> None:
        self.mutants, self.limit, self.children, self.say = found, seconds, children, say
        self.outcomes: list[Outcome] = []
        self.ailing: list[str] = []

    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        """In place of pytest's own loop over all tests."""
        with tempfile.TemporaryDirectory(prefix="tui-pruner-mutants-") as folder:
            healthy = wait(start(lambda: healthy_run(session), Path(folder), LONGEST))
            if not isinstance(healthy, dict):
                self.ailing = [healthy]
                return True
            self.ailing = healthy["failed"]
            self.examine(session, healthy, Path(folder))
        return True

    def examine(self, session: pytest.Session, healthy: dict[str, Any], folder: Path) -> None:
        """Run all mutants; those that no test reaches need no run."""
        waiting, running = list(self.mutants), []
        while waiting or running:
            while waiting and len(running) < self.children:
                mutant = waiting.pop(0)
                tests = within(telling(mutant, healthy["reached"], healthy["seconds"]), healthy["seconds"], self.limit)
                if tests:
                    longest = LEAST + 5 * sum(healthy["seconds"][test] for test in tests)
                    running.append((mutant, start(lambda m=mutant, t=tests: broken_run(session, m, t), folder, longest)))
                else:
                    self.note(Outcome(mutant, "", reached=False))
            time.sleep(0.01)
            for mutant, child in list(running):
                answer = result(child)
                if answer != RUNNING:
                    running.remove((mutant, child))
                    self.note(Outcome(mutant, answer))

    def note(self, outcome: Outcome) -> None:
        """Keep and tell."""
        self.outcomes.append(outcome)
        self.say(outcome)


def telling(mutant: Mutant, reached: dict[str, list[str]], seconds: dict[str, float]) -> list[str]:
    """The tests that reach a mutant; those that reach lines nearby which few others reach first, then the fastest."""
    tests = reached.get(mutant.reach, [])
    rarity = dict.fromkeys(tests, len(seconds))
    for line in range(mutant.line - NEARBY, mutant.line + NEARBY + 1):
        near = reached.get(f"{mutant.module} line {line}", [])
        for test in rarity.keys() & set(near):
            rarity[test] = min(rarity[test], len(near))
    return sorted(tests, key=lambda test: (rarity[test], seconds[test]))


def within(tests: Sequence[str], seconds: dict[str, float], limit: float) -> list[str]:
    """The first tests that fit into a time, at least one where there is one."""
    chosen, total = [], 0.0
    for test in tests:
        total += seconds[test]
        if chosen and total > limit:
            break
        chosen.append(test)
    return chosen


def run(session: pytest.Session, items: Sequence[pytest.Item], stop: Callable[[], bool]) -> None:
    """Run these tests in this order."""
    for place, item in enumerate(items):
        following = items[place + 1] if place + 1 < len(items) else None
        session.config.hook.pytest_runtest_protocol(item=item, nextitem=following)
        if stop():
            return


def healthy_run(session: pytest.Session) -> dict[str, Any]:
    """In a child: run everything as it is and say which test reaches what, and how long each takes."""
    recorder = Recorder()
    session.config.pluginmanager.register(recorder)
    recorder.listen()
    run(session, session.items, lambda: False)
    return recorder.found()


def broken_run(session: pytest.Session, mutant: Mutant, tests: Sequence[str]) -> str:
    """In a child: break one thing and run the tests that reach it; the first that fails."""
    break_module(mutant.module, mutant.number)
    places = {test: place for place, test in enumerate(tests)}
    first = FirstFailure()
    session.config.pluginmanager.register(first)
    items = sorted((item for item in session.items if item.nodeid in places), key=lambda item: places[item.nodeid])
    run(session, items, lambda: bool(first.test))
    print(first.test, file=sys.stderr)
    return first.test
