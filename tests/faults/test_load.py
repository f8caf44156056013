"""Growth under repeated work is detected, and a journal does not grow."""

from __future__ import annotations

import pytest

from tests.faults import load
from tests.faults.resource_use import ResourceUse, compared

pytestmark = pytest.mark.cold


def test_journal_of_many_steps_stays_short_and_memory_small(monkeypatch):
    monkeypatch.setattr(load, "WARM_UP", 200)
    monkeypatch.setattr("tests.faults.resource_use.MOST_SLOWER", 100.0)
    assert load.in_the_journal(600) == []


def test_growth_is_detected():
    before, after = ResourceUse(100_000, 6, 2), ResourceUse(106_000, 7, 2)
    assert compared("x", before, before, [0.001] * 400) == []
    assert compared("x", before, after, [0.001] * 200 + [0.003] * 200) == [
        "x: memory grew", "x: open descriptors grew", "x: the time of an action grew"
    ]  # fmt: skip
