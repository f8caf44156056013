"""What grows while the same is done again and again is noticed, and a journal does not."""

from __future__ import annotations

import pytest

from tests.faults import load
from tests.faults.standing import Standing, compared

pytestmark = pytest.mark.cold


def test_a_journal_of_steps_that_come_and_go_stays_short_and_its_process_small(monkeypatch):
    monkeypatch.setattr(load, "WARM_UP", 200)
    monkeypatch.setattr("tests.faults.standing.MOST_SLOWER", 100.0)
    assert load.in_the_journal(600) == []


def test_growth_is_noticed():
    before, after = Standing(100_000, 6, 2), Standing(106_000, 7, 2)
    assert compared("x", before, before, [0.001] * 400) == []
    assert compared("x", before, after, [0.001] * 200 + [0.003] * 200) == [
        "x: memory grew", "x: open descriptors grew", "x: the time of an action grew"
    ]  # fmt: skip
