"""A short part of `make faults`: nothing in a file runs, hangs, or appears as a traceback."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults import broken, fuzzed_plans, hostile, malformed, misshapen
from tests.faults.reader import OPENED, REFUSED, Reader, reader
from tests.jobs.narrow import narrow, save_whole

SLOW = ("three million values", "zip bomb", "120,000 members", "as deep as it goes", "half a million deep", "for ever to write")
WRITTEN = {"addresses in the training arguments", "code and addresses in our own key", "code and addresses in the yaml"}


@pytest.fixture(scope="module")
def engine() -> Iterator[Reader]:
    with reader() as made:
        yield made


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("faults")
    return save_whole(narrow(folder), folder / "original.pt")


def test_malformed_files_are_refused_in_one_line(engine: Reader, original: Path, tmp_path: Path):
    made = [make for kind, make in misshapen.MADE.items() if not any(words in kind for words in SLOW)]
    quick = [*made, misshapen.spread(original, misshapen.claims_a_terabyte), misshapen.spread(original, misshapen.names_without_end)]
    for number, make in enumerate((*broken.FOREIGN.values(), *quick)):
        path = tmp_path / f"case-{number}.pt"
        make(path)
        outcome = engine.open(path, imgsz=64)
        assert outcome.kind == REFUSED and malformed.fault(outcome, path) == ""


def test_damaged_files_are_refused_or_opened_unchanged(engine: Reader, original: Path, tmp_path: Path):
    taken = [make for number, (_, make) in enumerate(malformed.cases(original, 200, seed=7)) if number % 17 == 0]
    assert len(taken) > 20
    for number, make in enumerate(taken):
        path = tmp_path / f"case-{number}.pt"
        make(path)
        assert malformed.fault(engine.open(path, imgsz=64), path) == ""


OPENS = ("escape sequences in names", "a model for several devices within itself")
"""Kinds that have nothing to run."""


@pytest.mark.parametrize("kind", [kind for kind in hostile.KINDS if kind not in WRITTEN])
def test_hostile_files_run_nothing(kind: str, engine: Reader, original: Path, tmp_path: Path):
    found = hostile.attempt(kind, original, engine, tmp_path, elsewhere=False)
    assert hostile.fault(found) == ""
    assert found.outcome.kind == (OPENED if kind in OPENS else REFUSED)


def test_random_plans_and_settings_are_read_or_refused_with_their_position():
    assert fuzzed_plans.run(8) == []
