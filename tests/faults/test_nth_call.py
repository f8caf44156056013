"""A disk error at any call loses no old file and nothing acknowledged, and leaves no temporary file."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults import nth_call
from tests.faults.journalling import Journalling
from tests.faults.nth_call import REFUSED, every_fault

pytestmark = pytest.mark.cold
STEPS = {"plan over an old one": 1, "model without hard links": 20}
"""Of which writings every call fails in turn, and of which every twentieth: a model takes a third of a second."""


@pytest.fixture(autouse=True)
def quickly() -> Iterator[None]:
    with nth_call.quick_verification():
        yield


def test_file_is_the_old_or_the_complete_new_one_whichever_call_fails(tmp_path: Path):
    found: list[str] = []
    works = [work for work in nth_call.writings(tmp_path) if work.name in STEPS]
    outcomes = {work.name: every_fault(work, found, [errno.EIO], STEPS[work.name]) for work in works}
    assert found == [] and len(outcomes) == 2
    for operation in ("open", "write", "fsync", "replace"):
        assert all(outcome[operation, REFUSED] for outcome in outcomes.values()), operation


def test_journal_keeps_acknowledged_steps_whichever_call_fails():
    found: list[str] = []
    outcomes = every_fault(Journalling(), found, [errno.ENOSPC], step=7)
    assert found == []
    assert all(outcomes[operation, REFUSED] for operation in ("open", "write", "fsync", "unlink"))
