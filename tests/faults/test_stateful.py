"""In any order of actions, the session and the shown totals are those of the real network."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.faults import stateful
from tests.faults.stateful import Machine
from tui_pruner.engine.requests import Undo


def test_random_session_actions_never_diverge_from_the_model():
    assert stateful.run(6, 15) == []
    assert sum(Machine.actions.values()) >= 90 and Machine.actions["cut"] > 5


def test_wrong_totals_and_steps_are_detected(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    with stateful.narrow_engine(tmp_path):
        machine = Machine()
        machine.cut_one("model.5", "25%")
        look = machine.session_and_totals_equal_those_of_the_model
        look()
        parameters, operations = stateful.shown(machine.service.session)
        with monkeypatch.context() as wrong, pytest.raises(AssertionError, match="counted"):
            wrong.setattr(stateful, "shown", lambda session: (parameters, operations + 2))
            look()
        machine.service.call(Undo())
        with pytest.raises(AssertionError):
            look()
        machine.teardown()
