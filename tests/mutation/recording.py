"""Which test reaches what: lines of the modules under scrutiny, operations, adapted classes. A plugin for one run of the healthy suite."""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Iterator
from types import FrameType
from typing import Any

import pytest

from tests.mutation.changes import CHANGES
from tests.mutation.loading import path_of


class Recorder:
    """Collects, per test, what ran: "module line", "operation name", "adapter class". A fixture's share goes to all its tests."""

    def __init__(self) -> None:
        self.files = {str(path_of(module)): module for module in CHANGES}
        self.now: set[str] = set()
        self.of_test: dict[str, set[str]] = {}
        self.of_fixture: dict[str, set[str]] = defaultdict(set)
        self.fixtures: dict[str, tuple[str, ...]] = {}
        self.seconds: dict[str, float] = defaultdict(float)
        self.failed: list[str] = []

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """The program is imported now: listen to operations and adapters."""
        from tui_pruner.core import adapters
        from tui_pruner.core.flow.tracer import Flow

        observe, nearest = Flow.observe, adapters.nearest_base

        def observing(flow: Flow, name: str, *rest: Any) -> None:
            self.now.add(f"operation {name if name.startswith('_') else name.rstrip('_')}")
            observe(flow, name, *rest)

        def noting(module: Any, table: dict[str, Any]) -> str | None:
            found = nearest(module, table)
            if found:
                self.now.add(f"adapter {found}")
            return found

        Flow.observe, adapters.nearest_base = observing, noting  # type: ignore[method-assign,assignment]

    def trace(self, frame: FrameType, event: str, argument: Any) -> Any:
        """Python's trace function: follow the lines of the modules under scrutiny only."""
        module = self.files.get(frame.f_code.co_filename)
        if module is None:
            return None

        def lines(frame: FrameType, event: str, argument: Any) -> Any:
            self.now.add(f"{module} line {frame.f_lineno}")
            return lines

        return lines

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[None]:
        """Everything from set-up to tear-down of one test."""
        self.now = set()
        self.fixtures[item.nodeid] = tuple(getattr(item, "fixturenames", ()))
        sys.settrace(self.trace)
        try:
            return (yield)
        finally:
            sys.settrace(None)
            self.of_test[item.nodeid] = self.now

    @pytest.hookimpl(wrapper=True)
    def pytest_fixture_setup(self, fixturedef: Any) -> Iterator[None]:
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

    def reached(self) -> dict[str, list[str]]:
        """By what was reached: the tests that reach it, the fastest first."""
        found: dict[str, list[str]] = defaultdict(list)
        for test in sorted(self.of_test, key=lambda test: self.seconds[test]):
            for name in self.of_test[test].union(*(self.of_fixture[f] for f in self.fixtures[test])):
                found[name].append(test)
        return dict(found)
