"""The warm processes of the tests outlive what single tests replace."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests import warm_processes


def test_reaping_goes_on_while_a_test_has_replaced_how_files_are_opened(monkeypatch: pytest.MonkeyPatch):
    rounds = []

    class TwoRounds:
        def wait(self, seconds: float) -> None:
            rounds.append(seconds)
            if len(rounds) == 2:
                raise SystemExit

    def refuse(self: Path, *arguments: Any, **options: Any) -> Any:
        raise PermissionError(13, "Permission denied")

    monkeypatch.delenv(warm_processes.COLD, raising=False)
    monkeypatch.setattr(warm_processes, "threading", SimpleNamespace(Event=TwoRounds))
    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(SystemExit):
        warm_processes.reap()
    assert len(rounds) == 2
