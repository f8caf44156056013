"""A checkpoint under a name that is not UTF-8 is read like any other; tests/cli/test_odd_paths.py cuts and writes one."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.odd_names import CAFE, SHOWN, odd_copy, odd_path
from tui_pruner.core.analysis import analyse
from tui_pruner.core.checkpoint import check_output, open_model
from tui_pruner.core.session import Session
from tui_pruner.errors import CheckpointError, OutputError


def test_it_is_opened_and_its_plan_names_it(demo_checkpoint: Path, tmp_path: Path):
    file = odd_copy(demo_checkpoint, tmp_path)
    checkpoint = open_model(file)
    assert (checkpoint.path, checkpoint.classes) == (str(file), 10)
    session = Session(analyse(checkpoint))
    assert session.plan.checkpoint == CAFE
    with pytest.raises(OutputError, match="is the model that is being pruned") as refused:
        check_output(file, checkpoint.path, True)
    assert SHOWN in str(refused.value)


def test_a_damaged_one_is_refused_by_a_name_that_can_be_printed(tmp_path: Path):
    file = odd_path(tmp_path, b"caf\xe9.pt")
    with pytest.raises(CheckpointError, match="no such file") as missing:
        open_model(file)
    file.write_bytes(b"PK no archive")
    with pytest.raises(CheckpointError, match="truncated") as damaged:
        open_model(file)
    for refusal in (missing, damaged):
        assert SHOWN in str(refusal.value) and str(refusal.value).isprintable()
