"""Which test reaches what: lines of the modules under scrutiny, operations, adapted classes. A plugin for one run of the healthy suite."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Generator
from typing import Any

import pytest

from tests.mutation.breaking import watch_module
from tests.mutation.changes import CHANGES


class Recorder:
    """Collects, per test, what ran: "module line", "operation name", "adapter class". A fixture's share goes to all its tests."""

    def __init__(self) -> None:
        self.now: set[str] = set()
        self.of_test: dict[str, set[str]] = {}
        self.of_fixture: dict[str, set[str]] = defaultdict(set)
        self.fixtures: dict[str, tuple[str, ...]] = {}
        self.seconds: dict[str, float] = defaultdict(float)
        self.failed: list[str] = []

    def listen(self) -> None:
        """Hear of every line of the modules under scrutiny, of every operation and of every adapted module from now on."""
        for module in CHANGES:
            watch_module(module, lambda first, last, module=module: self.now.update(f"{module} line {n}" for n in range(first, last + 1)))
        from tui_pruner.core.tracing import adapters
        from tui_pruner.core.tracing.state import RULES, Flow

        observe, nearest = Flow.observe, adapters.nearest_base

        def observing(flow: Flow, name: str, *rest: Any) -> None:
            self.now.add(f"operation {name.removesuffix('_') if name.removesuffix('_') in RULES else name}")
            observe(flow, name, *rest)

        def noting(module: Any, table: dict[str, Any]) -> str | None:
            found = nearest(module, table)
            if found:
                self.now.add(f"adapter {found}")
            return found

        Flow.observe, adapters.nearest_base = observing, noting  # type: ignore[method-assign,assignment]

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Generator[None, Any, Any]:
        """Everything from set-up to tear-down of one test."""
        self.now = set()
        self.fixtures[item.nodeid] = tuple(getattr(item, "fixturenames", ()))
        try:
            return (yield)
        finally:
            self.of_test[item.nodeid] = self.now

    @pytest.hookimpl(wrapper=True)
    def pytest_fixture_setup(self, fixturedef: Any) -> Generator[None, Any, Any]:
        """A fixture that several tests share is set up within the first."""
        outer, self.now = self.now, set()
        try:
            return (yield)
        finally:
            self.of_fixture[fixturedef.argname] |= self.now
            self.now = outer | self.now

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Add up seconds; a suite that fails while nothing is broken shows nothing."""
        self.seconds[report.nodeid] += report.duration
        if report.failed:
            self.failed.append(report.nodeid)

    def found(self) -> dict[str, Any]:
        """What failed, seconds by test, and by what was reached: the tests that reach it, the fastest first."""
        reached: dict[str, list[str]] = defaultdict(list)
        for test in sorted(self.of_test.keys() - set(self.failed), key=lambda test: self.seconds[test]):
            for name in self.of_test[test].union(*(self.of_fixture[f] for f in self.fixtures[test])):
                reached[name].append(test)
        return {"failed": self.failed, "seconds": dict(self.seconds), "reached": dict(reached)}
